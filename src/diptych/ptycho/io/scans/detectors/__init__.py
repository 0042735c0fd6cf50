"""Frames as detectors and beamlines write them; where the sample was lies elsewhere, or beside them."""
