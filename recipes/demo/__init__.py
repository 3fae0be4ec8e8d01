"""Separate the recordings that are shipped in ``recipes/demo/data``."""
