"""Scans of electron microscopes (4D-STEM)."""
