"""Error bars against what reconstructions of other photons show."""

from __future__ import annotations

import numpy as np
import pytest

import diptych
from diptych.ptycho.evaluate.halves import half_scan_frc, thin
from diptych.ptycho.scan import Canvas


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["natural", "dead-leaves"])
def test_two_halves_differ_by_as_much_as_their_error_bars_say(kind: str) -> None:
    scan = diptych.simulate(
        object=kind,
        size=16,
        patterns=49,
        step=2.5,
        trajectory="fermat-spiral",
        dose=1e6,
        seed=1,
        probe_error=0.3,
    )
    halves = half_scan_frc(scan, split="thinning", seed=0)
    alignment, expected = halves.alignment, 0.0
    counted = alignment.counted
    for half, part in zip(halves.halves, thin(scan, np.random.default_rng(0)), strict=True):
        bars = diptych.error_bars(half, part, accuracy=0.2).error
        assert bars is not None
        known = Canvas(np.nan_to_num(bars), half.object.origin).crop(*alignment.truth.extent).values.real[counted]
        assert (known > 0).all()
        expected += float(np.square(known).mean())
    difference = alignment.result.values[counted] - alignment.truth.values[counted]
    assert float(np.square(np.abs(difference)).mean()) ** 0.5 == pytest.approx(expected**0.5, rel=0.2)
