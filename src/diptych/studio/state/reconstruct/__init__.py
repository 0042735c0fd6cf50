"""What the Reconstruct page shows and does."""
