"""Pure functions from object to counts and back: patches, diffraction, likelihood. Knows nothing of networks or
engines.
"""
