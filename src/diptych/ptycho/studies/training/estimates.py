"""Predictions of time and memory for trainings, from measurements on one CPU core."""

from __future__ import annotations

from diptych.ptycho.studies.base import Estimate

_PER_PIXEL = {"quick": 6e-7, "standard": 3e-6, "full": 3e-6}
"""Seconds per detector pixel that a training reads, for networks of width 8 (quick) and of default width."""

_ENGINE_PER_PIXEL = 8e-6
_START = 3.0


def training_estimate(
    size: str, *, patterns: int, pattern_size: int, epochs: int, members: int = 1, test_patterns: int = 0
) -> Estimate:
    """What a cell needs that trains on ``patterns`` groups of ``members`` patterns and reconstructs others."""
    pixels = pattern_size**2
    read = patterns * members * epochs * pixels
    seconds = _START + _PER_PIXEL[size] * (read + test_patterns * pixels)
    return Estimate(seconds, 2**29 + 2**28 + 16 * (patterns + test_patterns) * pixels)


def engine_estimate(patterns: int, pattern_size: int) -> Estimate:
    """What a cell needs that reconstructs a scan with the automatic engine."""
    pixels = patterns * pattern_size**2
    return Estimate(0.5 + _ENGINE_PER_PIXEL * pixels, 2**29 + 24 * pixels)
