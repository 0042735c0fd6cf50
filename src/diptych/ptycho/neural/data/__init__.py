"""Training data: groups of neighbouring patterns, split, batches, streaming from HDF5."""
