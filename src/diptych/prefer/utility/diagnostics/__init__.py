"""Agreement and cross-validation of utility models."""
