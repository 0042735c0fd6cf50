"""Approximate inference: Laplace, expectation propagation, and what they need."""
