"""Pure functions between object and counts: patches, forward model, likelihood, probe. No networks, no engines."""
