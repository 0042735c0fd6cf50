"""Maximum likelihood: L-BFGS with a preconditioner."""
