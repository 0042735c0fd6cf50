"""Training of generators and inference with them: from groups of neighbouring patterns to patches of the object."""
