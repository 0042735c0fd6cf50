"""The Train page without its elements."""
