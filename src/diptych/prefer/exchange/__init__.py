"""Files of other programs: row folders, state files, tables, pictures with latents."""
