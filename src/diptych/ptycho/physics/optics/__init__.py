"""Probes computed from the parameters of the optics: convergent beam with aberrations, zone plate, KB mirrors."""
