"""Baseline utility models: point estimates for comparison with the Gaussian processes."""
