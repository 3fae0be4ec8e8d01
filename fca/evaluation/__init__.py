"""Evaluation of separated talkers: scores, which files belong together, and reports."""
