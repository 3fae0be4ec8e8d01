"""How well talkers were separated: scores, which files belong together, and reports of both."""
