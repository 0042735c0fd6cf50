"""Iterative engines: one module per algorithm, the registry in ``base``, initial guesses in ``starts``."""
