"""Starts of an engine: an estimated probe, short trials, a trained network."""
