"""The problem that engines solve: the forward model of the package, exact adjoints, and held-out pixels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from diptych.ptycho.engines.fit_monitor import FitMeter, full_fit
from diptych.ptycho.engines.problem import exit_wave_change, in_order, make_problem, zero_masked
from diptych.ptycho.physics.forward import intensity
from diptych.ptycho.physics.likelihood import fit_sums
from diptych.ptycho.physics.patches import cut, split
from forward_reference import intensities

KINDS: list[dict[str, Any]] = [
    {},
    {"subpixel": True},
    {"modes": 3},
    {"modes": 2, "subpixel": True, "size": 13, "background": 4.0},
]


def noise(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=shape) + 1j * rng.normal(size=shape))


def inner(a: torch.Tensor, b: torch.Tensor) -> complex:
    return complex(torch.vdot(a.flatten(), b.flatten()))


@pytest.mark.parametrize("kind", KINDS)
def test_the_engines_expect_what_the_physics_says(make_case: Any, kind: dict[str, Any]) -> None:
    """The forward model of a problem against the centred FFTs written out."""
    case = make_case(**kind)
    scan, problem = case.scan, case.problem
    batch = np.array([0, 3, 4, 17])
    _, found = problem.forward.detect(problem.forward.views(case.image, case.probe, batch).exit_waves())
    canvas = torch.from_numpy(scan.truth.values).to(torch.complex128)
    patches = cut(canvas, scan.positions[batch], scan.size, origin=scan.truth.origin)
    fractions = torch.from_numpy(split(scan.positions)[1][batch]) if kind.get("subpixel") else None
    background = None if scan.background is None else torch.from_numpy(scan.background.astype(float))
    wanted = intensities(case.probe, patches, fractions, background)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-8)
    torch.testing.assert_close(problem.counts, torch.from_numpy(scan.counts.astype(float)))


@pytest.mark.parametrize("kind", KINDS)
def test_object_and_probe_parts_are_adjoints_of_illumination(make_case: Any, kind: dict[str, Any]) -> None:
    case = make_case(**kind)
    problem = case.problem
    for batch in (np.array([7]), np.array([2, 5, 11, 24])):
        waves = noise((len(batch), len(case.probe), problem.size, problem.size), 1)
        image, probe = noise(problem.shape, 2), noise(tuple(case.probe.shape), 3)
        of_image = problem.forward.views(image, case.probe, batch)
        back = torch.zeros(problem.shape, dtype=torch.complex128)
        problem.forward.add_object_adjoint(of_image, waves, back)
        forward = of_image.exit_waves()
        assert abs(inner(waves, forward) - inner(back, image)) < 1e-12 * float(waves.norm() * forward.norm())
        of_probe = problem.forward.views(case.image, probe, batch)
        forward = of_probe.exit_waves()
        assert abs(
            inner(waves, forward) - inner(problem.forward.probe_adjoint(of_probe, waves), probe)
        ) < 1e-12 * float(waves.norm() * forward.norm())


def test_exit_wave_change_is_the_adjoint_of_detection_with_weights(make_case: Any) -> None:
    problem = make_case(held_out=0.0).problem
    batch = np.array([1, 2])
    waves, other = noise((2, 1, problem.size, problem.size), 4), noise((2, 1, problem.size, problem.size), 5)
    weights = torch.from_numpy(np.random.default_rng(6).normal(size=(2, problem.size, problem.size)))
    field, expected = problem.forward.detect(waves)
    torch.testing.assert_close(expected.sum(), waves.abs().square().sum(), rtol=1e-12, atol=0)
    wanted = inner(problem.forward.detect(other)[0], field * weights[:, None])
    assert abs(inner(other, exit_wave_change(problem, batch, field, weights)) - wanted) < 1e-10 * abs(wanted) + 1e-9


def test_zero_masked_acts_on_masked_and_held_out_pixels_alone(make_case: Any) -> None:
    case = make_case(masked=0.2)
    problem, batch = case.problem, np.array([3, 9])
    weights = torch.ones(2, problem.size, problem.size, dtype=torch.float64)
    zero_masked(problem, batch, weights)
    wanted = torch.from_numpy(case.scan.mask.astype(float)).repeat(2, 1, 1)
    for row, i in enumerate(batch):
        wanted[row].view(-1)[problem.held[i]] = 0
    assert torch.equal(weights, wanted)


def test_masks_of_each_pattern_are_kept_apart(make_case: Any) -> None:
    case = make_case(held_out=0.0)
    mask = np.ones(case.scan.counts.shape, bool)
    mask[3, 2, 5] = False
    problem = make_problem(
        replace(case.scan, mask=mask), device=torch.device("cpu"), double=False, subpixel=True, held_out=0.0, seed=0
    )
    weights = torch.ones(2, problem.size, problem.size)
    zero_masked(problem, np.array([3, 4]), weights)
    assert float(weights[0, 2, 5]) == 0
    assert float(weights.sum()) == 2 * problem.size**2 - 1


def test_held_out_and_watched_pixels_are_distinct_and_drawn_by_the_seed(make_case: Any) -> None:
    scan = make_case(size=16).scan
    make: dict[str, Any] = {"device": torch.device("cpu"), "double": False, "subpixel": True}
    problem = make_problem(scan, held_out=0.1, seed=4, **make)
    assert problem.held.shape == (25, round(0.1 * 256))
    both = torch.cat([problem.held, problem.watched], 1)
    assert all(len(set(row.tolist())) == len(row) for row in both)
    assert int(both.min()) >= 0
    assert int(both.max()) < 256
    assert len({tuple(sorted(row.tolist())) for row in problem.held}) > 12, "patterns hold out different pixels"
    assert torch.equal(make_problem(scan, held_out=0.1, seed=4, **make).held, problem.held)
    assert not torch.equal(make_problem(scan, held_out=0.1, seed=5, **make).held, problem.held)
    assert make_problem(scan, held_out=0.0, seed=4, **make).held.shape == (25, 0)


def test_gauge_of_an_uncalibrated_probe_is_the_99th_percentile_of_the_valid_signal(make_case: Any) -> None:
    make: dict[str, Any] = {"device": torch.device("cpu"), "double": True, "subpixel": True, "held_out": 0.0, "seed": 0}
    scan = make_case(photons=1e4).scan
    totals = scan.counts.sum((1, 2), dtype=float)
    assert make_problem(scan, **make).power == pytest.approx(np.quantile(totals, 0.99), rel=1e-9)
    scan = make_case(photons=1e4, background=20.0, masked=0.4).scan
    valid = (scan.counts.astype(float) - scan.background)[:, scan.mask].sum(1)
    assert make_problem(scan, **make).power == pytest.approx(np.quantile(valid, 0.99), rel=1e-9)


def test_masked_counts_may_hold_anything(make_case: Any) -> None:
    scan = make_case(masked=0.2).scan
    spoiled = replace(scan, counts=np.where(scan.mask, scan.counts, np.nan).astype(np.float32))
    make: dict[str, Any] = {
        "device": torch.device("cpu"),
        "double": False,
        "subpixel": True,
        "held_out": 0.01,
        "seed": 0,
    }
    assert torch.equal(make_problem(spoiled, **make).counts, make_problem(scan, **make).counts)


def test_counts_are_the_scans_own_where_nothing_is_to_be_changed(make_case: Any) -> None:
    scan = make_case().scan
    make: dict[str, Any] = {"device": torch.device("cpu"), "subpixel": True, "held_out": 0.01, "seed": 0}
    assert make_problem(scan, double=False, **make).counts.data_ptr() == scan.counts.ctypes.data
    for other, double in (
        (scan, True),
        (replace(scan, mask=scan.counts[0] > 3), False),
        (replace(scan, counts=scan.counts.astype(np.uint16)), False),
    ):
        assert make_problem(other, double=double, **make).counts.data_ptr() != other.counts.ctypes.data


@pytest.mark.parametrize("kind", [{}, {"masked": 0.15, "background": 3.0}, {"subpixel": True, "modes": 2}])
def test_the_fit_of_the_truth_is_one(make_case: Any, kind: dict[str, Any]) -> None:
    case = make_case(held_out=0.1, **kind)
    found = full_fit(case.problem, case.image, case.probe, batch=7)
    assert found["fit"] == pytest.approx(1.0, abs=0.08)
    assert found["held_out_fit"] == pytest.approx(1.0, abs=0.25)


def test_fit_over_all_pixels_is_that_of_the_physics(make_case: Any) -> None:
    case = make_case(masked=0.2, held_out=0.0, background=2.0)
    flat = torch.ones_like(case.image)
    problem = case.problem
    _, expected = problem.forward.detect(problem.forward.views(flat, case.probe, np.arange(25)).exit_waves())
    found, predicted = fit_sums(problem.counts, expected, ~problem.invalid)
    wanted = found / predicted
    assert full_fit(problem, flat, case.probe, batch=4)["fit"] == pytest.approx(wanted, rel=1e-10)
    assert np.isnan(full_fit(problem, flat, case.probe)["held_out_fit"])


def test_the_meter_adds_up_whatever_the_batches(make_case: Any) -> None:
    case = make_case(masked=0.1)
    results, forward = [], case.problem.forward
    for size in (1, 6, 25):
        meter = FitMeter(case.problem)
        for batch in in_order(25, size):
            meter.add(batch, forward.detect(forward.views(case.image, case.probe, batch).exit_waves())[1])
        results.append(meter.values())
    for values in results[1:]:
        assert values == pytest.approx(results[0], rel=1e-12)


def test_illumination_and_transparency_are_sums_over_windows(make_case: Any) -> None:
    case = make_case(modes=2)
    problem, n = case.problem, case.problem.size
    light, through = torch.zeros(problem.shape, dtype=torch.float64), torch.zeros(n, n, dtype=torch.float64)
    for y, x in problem.forward.corners.tolist():
        light[y : y + n, x : x + n] += case.probe.abs().square().sum(0)
        through += case.image[y : y + n, x : x + n].abs().square()
    torch.testing.assert_close(problem.forward.illumination(case.probe), light, rtol=1e-12, atol=1e-9)
    torch.testing.assert_close(problem.forward.transparency(case.image), through, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(intensity(case.probe), case.probe.abs().square().sum(0))


def test_rounding_the_positions_drops_the_sub_pixel_part(make_case: Any) -> None:
    scan = make_case(subpixel=True).scan
    make: dict[str, Any] = {"device": torch.device("cpu"), "double": False, "held_out": 0.0, "seed": 0}
    assert make_problem(scan, subpixel=False, **make).forward.fractions is None
    fractions = make_problem(scan, subpixel=True, **make).forward.fractions
    assert fractions is not None
    assert fractions.shape == (25, 2)
    whole = replace(scan, positions=np.floor(scan.positions + 0.5), truth=None)
    assert make_problem(whole, subpixel=True, **make).forward.fractions is None, "whole positions pay nothing"
