"""Iterative engines: PIE, projections and maximum likelihood, over one problem and one forward model."""
