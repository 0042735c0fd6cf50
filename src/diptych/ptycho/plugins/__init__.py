"""What other programs load us by."""
