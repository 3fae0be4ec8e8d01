"""Training of networks on mixtures alone."""
