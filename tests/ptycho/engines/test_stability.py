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
    # The positions are kept as they are: refined, the smaller of these scans is explained in the end.
    scan = wrong_positions(size, patterns, step, error)
    result = diptych.reconstruct(scan, epochs=epochs, correct_positions="off")
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


@pytest.mark.slow
def test_a_run_that_ends_while_positions_are_refined_keeps_what_was_gained() -> None:
    result = diptych.reconstruct(wrong_positions(32, 64, 3.0, 2.5), epochs=150)
    fits = np.array(result.history["held_out_fit"])
    assert fits[-1] < 0.1 * fits[np.array(result.history["stage"]) == FINAL_STAGE].min()
    # The fit of a finished state differs from that of an epoch, in which the state still changed.
    assert result.provenance["held_out_fit"] < 2 * fits.min()
    assert result.recorded_positions is not None
