"""Training and evaluation of the speech prior."""
