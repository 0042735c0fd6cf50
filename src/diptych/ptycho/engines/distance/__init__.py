"""Refinement of the geometry: the detector's distance, which sets the scale of the positions in object pixels."""
