"""Predictions of time and memory for trainings, from measurements on one CPU core."""

from __future__ import annotations

from diptych.ptycho.studies.base import Estimate

_PER_PIXEL = {"quick": 6e-7, "standard": 1.6e-6, "full": 1.6e-6}
"""CPU seconds per detector pixel that the training of a cnn reads, of width 8 (quick) and of default width."""

_COST = {"cnn": 1.0, "fno": 2.3, "fno_vanilla": 1.5, "ffno": 3.7, "uno": 1.5, "hybrid": 1.0, "stable_hybrid": 1.1}
"""Time of each generator in units of a cnn's, from patterns per CPU second."""

_BASELINE = 0.6
_ENGINE_PER_PIXEL = 5e-6
_ENGINE_START = 4.5
"""Seconds that a scan of any size takes: 1.6 to 10 at N = 32 and 64 patterns, by object and dose."""

_START = 3.0


def training_estimate(
    size: str,
    network: str | None,
    *,
    patterns: int,
    pattern_size: int,
    epochs: int,
    members: int = 1,
    test_patterns: int = 0,
) -> Estimate:
    """What a cell needs that trains on ``patterns`` groups of ``members`` patterns and reconstructs others.

    ``network`` is the generator, or None for the supervised baseline.
    """
    cost = _BASELINE if network is None else _COST.get(network, 1.5)
    pixels = pattern_size**2
    read = patterns * members * epochs * pixels
    seconds = _START + cost * _PER_PIXEL[size] * (read + test_patterns * pixels)
    return Estimate(seconds, 2**29 + 2**28 + 16 * (patterns + test_patterns) * pixels)


def engine_estimate(patterns: int, pattern_size: int) -> Estimate:
    """What a cell needs that reconstructs a scan with the automatic engine."""
    pixels = patterns * pattern_size**2
    return Estimate(_ENGINE_START + _ENGINE_PER_PIXEL * pixels, 2**29 + 24 * pixels)
