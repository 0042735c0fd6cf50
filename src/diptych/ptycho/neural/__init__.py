"""Neural reconstruction: groups of neighbouring patterns in, patches of the object out."""
