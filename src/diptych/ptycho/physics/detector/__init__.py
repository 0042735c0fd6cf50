"""What detectors do to counts: noise beside that of photons, and light that a pixel shares with its neighbours."""
