"""Thick samples: slices fitted by maximum likelihood, from the result of one slice."""
