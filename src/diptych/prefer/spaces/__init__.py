"""Where latents live: the sphere of images, the cube of settings, and features of images."""
