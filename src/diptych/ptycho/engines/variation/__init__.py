"""A probe that changes in the course of the scan: shared components, fitted by maximum likelihood."""
