"""What is excluded from a scan before it is reconstructed: bad frames, bad pixels, saturated counts."""
