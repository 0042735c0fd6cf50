"""Where one image lies on another."""
