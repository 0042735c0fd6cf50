"""A probe that changes from pattern to pattern."""
