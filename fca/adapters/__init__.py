"""Bridges to the formats of other toolkits; each needs its own package, or none."""
