"""Files that other programs read and write: row folders, state files, tables, images with latents."""
