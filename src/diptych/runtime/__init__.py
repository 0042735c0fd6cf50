"""Shared infrastructure: options, registries, devices, progress, jobs, run directories and logs."""
