"""Examples of the toolkit beside others, one file each."""
