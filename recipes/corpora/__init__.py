"""Standard corpora, each from the user's folder to a table of scores by the same stages."""
