"""Thick samples: the object as slices along the beam (multislice)."""
