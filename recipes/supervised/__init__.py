"""A separator trained with references, to stand beside those that need none."""
