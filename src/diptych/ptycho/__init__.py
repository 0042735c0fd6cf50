"""The ptycho panel: measured diffraction counts in, complex object out."""
