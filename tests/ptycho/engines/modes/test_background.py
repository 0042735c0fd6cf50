"""A background that the scan does not state: found where there is one, and only there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import diptych
from diptych.ptycho.engines.flags.base import BACKGROUND, by_kind, faults
from diptych.ptycho.engines.modes.background import background_flag, fitted_background
from diptych.ptycho.engines.modes.gain import Gain
from diptych.ptycho.engines.problem import Problem, make_problem
from diptych.ptycho.reconstruct import Interrupted
from diptych.ptycho.scan import Reconstruction, Scan
from diptych.runtime.progress import Progress

SIZE = 32
UNIFORM = np.full((SIZE, SIZE), 0.5)
Y, X = np.mgrid[:SIZE, :SIZE] - SIZE // 2
SCATTER = 0.1 + 2 * np.exp(-(Y**2 + X**2) / (2 * 7.0**2))

Shown = NDArray[np.float64]


def scan_of(background: Shown | None, **rest: Any) -> Scan:
    """A scan with counts in every frame that it does not state."""
    asked = {
        "object": "natural",
        "size": SIZE,
        "patterns": 144,
        "step": 4.0,
        "dose": 1e6,
        "probe_error": 0.4,
        "seed": 3,
    }
    scan = diptych.simulate(**(asked | rest))
    if background is None:
        return scan
    more = np.random.default_rng(5).poisson(np.broadcast_to(background, scan.counts.shape))
    return replace(scan, counts=(scan.counts + more).astype(np.float32))


def true_problem(scan: Scan) -> tuple[Problem, torch.Tensor, torch.Tensor]:
    """A problem with the true object and probe."""
    assert scan.truth is not None
    assert scan.true_probe is not None
    problem = make_problem(scan, device=torch.device("cpu"), double=False, subpixel=True, held_out=0.03, seed=0)
    image = problem.flat_object()
    top, left = (int(a - b) for a, b in zip(problem.origin, scan.truth.origin, strict=True))
    height, width = image.shape
    assert min(top, left) >= 0
    image[:] = torch.from_numpy(scan.truth.values[top : top + height, left : left + width])
    return problem, image, torch.from_numpy(scan.true_probe)


@pytest.mark.parametrize("background", [UNIFORM, SCATTER])
def test_at_the_true_object_and_probe_it_is_the_true_background(background: Shown) -> None:
    problem, image, probe = true_problem(scan_of(background))
    found = fitted_background(problem, image, probe).numpy()
    assert problem.forward.background is not None
    # Smoothing over 4 px rounds the peak off, and under the bright cone little is known.
    np.testing.assert_allclose(found.mean(), background.mean(), rtol=0.15)
    assert np.sqrt(np.mean((found - background) ** 2)) < 0.15 * background.max()


def test_where_there_is_none_it_is_nearly_zero_and_masked_pixels_have_no_say() -> None:
    problem, image, probe = true_problem(scan_of(None))
    assert float(fitted_background(problem, image, probe).mean()) < 0.01
    lit = scan_of(UNIFORM)
    mask = np.ones((SIZE, SIZE), bool)
    mask[:, :6] = False
    counts = np.where(mask, lit.counts, 1e4).astype(np.float32)
    problem, image, probe = true_problem(replace(lit, counts=counts, mask=mask))
    np.testing.assert_allclose(float(fitted_background(problem, image, probe).mean()), 0.5, rtol=0.1)


@pytest.fixture(scope="module")
def lit() -> Scan:
    return scan_of(UNIFORM)


@pytest.fixture(scope="module")
def result(lit: Scan) -> Reconstruction:
    return diptych.reconstruct(replace(lit, truth=None, true_probe=None))


def error(result: Reconstruction, scan: Scan) -> float:
    return float(diptych.evaluate(result, truth=scan.truth)["complex_error"])


def test_by_default_it_is_found_and_takes_the_place_of_more_modes(lit: Scan, result: Reconstruction) -> None:
    assert result.background is not None
    assert result.background.mean() == pytest.approx(0.5, rel=0.6)
    assert len(result.probe) == 1
    assert BACKGROUND in by_kind(result.flags)
    assert not faults(result.flags)
    without = diptych.reconstruct(replace(lit, truth=None, true_probe=None), background="off", modes=1)
    assert without.background is None
    assert error(result, lit) < 0.9 * error(without, lit)
    assert result.provenance["held_out_fit"] < without.provenance["held_out_fit"] - 0.05


def test_it_is_saved_and_in_the_units_of_the_counts(lit: Scan, result: Reconstruction, tmp_path: Path) -> None:
    assert result.background is not None
    for name in ("r.npz", "r.h5"):
        again = diptych.load(diptych.save(result, tmp_path / name))
        np.testing.assert_array_equal(again.background, result.background)
    scaled = replace(lit, counts=lit.counts * np.float32(3), scale=1 / 3, truth=None, true_probe=None)
    found = diptych.reconstruct(scaled)
    assert found.background is not None
    np.testing.assert_allclose(found.background.mean(), 3 * result.background.mean(), rtol=0.1)
    bars = diptych.error_bars(found, scaled, accuracy=0.3)
    plain = diptych.error_bars(result, lit, accuracy=0.3)
    assert np.nanmedian(bars.phase_error) == pytest.approx(float(np.nanmedian(plain.phase_error)), rel=0.2)


def test_there_is_none_where_the_scan_states_one_or_has_none(lit: Scan) -> None:
    stated = diptych.reconstruct(replace(lit, background=UNIFORM.astype(np.float32)))
    assert stated.background is None
    clean = diptych.reconstruct(scan_of(None))
    assert clean.background is None
    assert BACKGROUND not in by_kind((*stated.flags, *clean.flags))


def test_wrong_positions_go_before_it_and_it_is_found_after_them(lit: Scan) -> None:
    wrong = lit.positions + np.random.default_rng(2).normal(0, 0.7, lit.positions.shape)
    found = diptych.reconstruct(replace(lit, positions=wrong, truth=None, true_probe=None))
    off = found.positions - lit.positions
    assert np.sqrt(((off - off.mean(0)) ** 2).sum(1).mean()) < 0.05
    assert found.background is not None
    assert found.background.mean() == pytest.approx(0.5, rel=0.6)


def test_a_run_stopped_after_it_was_found_goes_on_with_the_same_numbers(lit: Scan, tmp_path: Path) -> None:
    scan = replace(lit, truth=None, true_probe=None)

    def stop(progress: Progress) -> None:
        if progress.done == 60:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught:
        diptych.reconstruct(scan, epochs=90, checkpoint=tmp_path / "c.npz", progress=stop)
    assert caught.value.result.background is not None
    on = diptych.reconstruct(scan, epochs=90, checkpoint=tmp_path / "c.npz", resume=True)
    whole = diptych.reconstruct(scan, epochs=90)
    np.testing.assert_array_equal(on.background, whole.background)
    np.testing.assert_array_equal(on.object.values, whole.object.values)


def test_the_note_states_counts_and_evidence() -> None:
    note = background_flag(np.full((4, 4), 0.5, np.float32), 800.0, Gain(1.25, 1.0))
    assert note.startswith("background: 0.5 counts per pixel (1 % of all)")
    assert "-20 %" in note
    assert "--background off" in note
