"""Refinement of the scan positions: evidence that they are wrong, slow distortions, and the joint likelihood."""
