"""The float graph rewritten into one of integers."""
