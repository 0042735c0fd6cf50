"""Approximate inference: likelihood of the observations, Laplace approximation, expectation propagation."""
