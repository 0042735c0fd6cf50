"""Baseline utility models for comparison."""
