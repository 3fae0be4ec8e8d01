"""Speech enhancement, measured: see README.md."""
