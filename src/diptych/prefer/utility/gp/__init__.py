"""Gaussian processes: kernels, prior of the predictors, posterior, model selection, calibration."""
