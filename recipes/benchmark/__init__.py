"""The benchmark: evaluation sets, peers, quality and speed tables."""
