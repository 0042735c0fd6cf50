"""Formats of results: an object and a probe, with positions and history."""
