"""Error bars against what reconstructions of other photons show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import diptych
from diptych.ptycho.evaluate.halves import half_scan_frc, thin
from diptych.ptycho.physics.varying.probe import canonical
from diptych.ptycho.scan import Canvas, Reconstruction


def with_variation(result: Reconstruction, drift: float = 0.2) -> Reconstruction:
    """The result with a probe that gets another shape, at random, with a share of up to ``drift``^2 of its power."""
    first = result.probe[0]
    side = np.arange(len(first)) - len(first) // 2
    other = first * np.square(side)[:, None]
    other -= first * (np.vdot(first, other) / np.vdot(first, first))
    other *= np.linalg.norm(first) / np.linalg.norm(other)
    turn = np.random.default_rng(0).uniform(-drift, drift, len(result.positions))
    mixing = np.stack([np.sqrt(1 - turn**2), turn], 1)
    shapes = canonical(*(torch.from_numpy(each.astype(np.complex128)) for each in (first, other[None], mixing)))
    probe, components, coefficients = (each.numpy().astype(np.complex64) for each in shapes)
    return replace(result, probe=probe[None], probe_components=components, probe_coefficients=coefficients)


@pytest.mark.integration
def test_a_probe_that_may_vary_widens_the_error_bars_and_the_limit() -> None:
    scan = diptych.simulate(object="blocks", size=16, patterns=36, step=2.0, dose=1e5, seed=0)
    constant = diptych.reconstruct(scan, epochs=20)
    found = [diptych.error_bars(each, scan, accuracy=0.3) for each in (constant, with_variation(constant))]
    assert [each.provenance["error_bars"]["refined"] for each in found] == [["probe"], ["probe", "probe variation"]]
    first, second = (each.provenance["error_bars"]["expected_complex_error"] for each in found)
    assert first < second < 3 * first
    limit = diptych.bound(scan, result=found[1], map_accuracy=0.5)
    assert limit.refined == ("probe", "probe variation")
    assert limit.complex_error == pytest.approx(second / found[1].provenance["error_bars"]["scaled_by"], rel=0.2)
    planned = diptych.bound(scan, result=found[1], dose=1e6, step=4.0, map_accuracy=0.5)
    assert planned.refined == ("probe",)


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
