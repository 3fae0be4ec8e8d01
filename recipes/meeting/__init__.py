"""Simulated meetings: who speaks when, in one track each, for as long as it takes."""
