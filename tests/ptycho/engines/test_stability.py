"""Scans that nothing explains: the engine stays stable, returns its best state, and says that its fit ranks nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import diptych
from diptych.ptycho.engines.base import FINAL_STAGE
from diptych.ptycho.engines.flags.base import by_kind
from diptych.ptycho.scan import Scan


def wrong_positions(size: int, patterns: int, step: float, error: float) -> Scan:
    """An annular beam at 5e7 photons, and positions with errors of ``error`` px rms."""
    scan = diptych.simulate(
        object="natural",
        size=size,
        patterns=patterns,
        step=step,
        dose=5e7,
        central_stop=0.8,
        probe_error=0.5,
        seed=1,
    )
    errors = np.random.default_rng(0).normal(0, error / 2**0.5, scan.positions.shape)
    return replace(scan, positions=scan.positions + errors, truth=None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "patterns", "step", "error", "epochs"),
    [(32, 64, 3.0, 2.5, 150), (128, 480, 10.0, 7.0, 90)],
)
def test_wrong_positions_at_a_high_dose(size: int, patterns: int, step: float, error: float, epochs: int) -> None:
    result = diptych.reconstruct(wrong_positions(size, patterns, step, error), epochs=epochs)
    stages, fits = (np.array(result.history[name]) for name in ("stage", "held_out_fit"))
    last = fits[stages == FINAL_STAGE]
    assert len(last)
    assert np.isfinite(fits).all()
    assert last[-1] < 1.2 * last.min()
    # The state that is returned, over all held-out pixels, is no worse than the best epoch, over its sample.
    assert result.provenance["held_out_fit"] < 1.1 * fits.min()
    assert result.provenance["fit"] > 20
    said = [text for texts in by_kind(result.flags).values() for text in texts]
    assert any("do not rank readings or positions" in text for text in said), said
