"""Names of the parts of a scan in messages."""

from __future__ import annotations

COUNTS, MASK, POSITIONS, PROBE, BACKGROUND, TRUTH = "counts", "mask", "positions", "probe", "background", "true object"
"""Parts of a scan, as errors name them."""
