"""Latent spaces: the sphere of image generators, the cube of reconstruction settings, and features of images."""
