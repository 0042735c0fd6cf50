"""Noise of detectors beside that of photons."""
