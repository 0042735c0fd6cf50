"""Gaussian-process priors over utilities: covariances, hyperparameters, calibration."""
