"""What the Prefer page does, without the browser."""
