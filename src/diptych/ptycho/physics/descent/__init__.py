"""Descent on the likelihood of a whole scan: the memory of L-BFGS, and the inverse Laplacian for slow phases."""
