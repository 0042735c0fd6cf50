"""Leave-one-out agreement and cross-validation of utility models."""
