"""Positions that lie in another file than the patterns, joined with them by the numbers of the frames."""
