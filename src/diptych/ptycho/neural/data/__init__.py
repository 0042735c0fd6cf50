"""Data for training and inference: groups of neighbouring patterns, split, batches, streaming from HDF5."""
