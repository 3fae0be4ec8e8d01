"""How well the streaming separator does beside the offline methods."""
