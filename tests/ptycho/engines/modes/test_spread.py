"""A point spread that nobody states: found where there is one, and only there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import diptych
from diptych.errors import InputError
from diptych.ptycho.engines.flags.base import POINT_SPREAD, by_kind, faults
from diptych.ptycho.engines.modes.gain import Gain
from diptych.ptycho.engines.modes.spread import fitted_spread, spread_flag
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.ptycho.engines.problem import make_problem
from diptych.ptycho.reconstruct import Interrupted
from diptych.ptycho.scan import Reconstruction, Scan
from diptych.runtime.progress import Progress

WIDTH = 0.7


def scan_of(width: float, **rest: Any) -> Scan:
    asked: dict[str, Any] = {"object": "natural", "size": 32, "patterns": 64, "step": 4.0, "dose": 1e6, "seed": 3}
    return diptych.simulate(**{**asked, "probe_error": 0.3, "point_spread": width, **rest})


def untold(scan: Scan) -> Scan:
    return replace(scan, truth=None, true_probe=None)


def error(result: Reconstruction, scan: Scan) -> float:
    return float(diptych.evaluate(result, truth=scan.truth)["complex_error"])


def test_at_the_true_object_and_probe_it_is_the_true_one() -> None:
    scan = scan_of(WIDTH)
    problem = make_problem(scan, device=torch.device("cpu"), double=True, subpixel=True, held_out=0.0, seed=0)
    assert scan.truth is not None
    assert scan.true_probe is not None
    (top, left), (height, width) = problem.origin, problem.shape
    image = torch.from_numpy(scan.truth.crop(top, top + height, left, left + width).values.astype(np.complex128))
    probe = torch.from_numpy(scan.true_probe.astype(np.complex128))
    assert fitted_spread(problem, image, probe).widths == pytest.approx((WIDTH, WIDTH), rel=0.01)


@pytest.mark.parametrize("level", [0.0, float("nan")])
def test_without_light_it_stays_as_it_is(level: float) -> None:
    scan = scan_of(0.0, patterns=9)
    problem = make_problem(scan, device=torch.device("cpu"), double=False, subpixel=True, held_out=0.0, seed=0)
    probe = torch.full((1, 32, 32), level, dtype=torch.complex64)
    assert fitted_spread(problem, problem.flat_object(), probe).widths == (0.1, 0.1)


@pytest.fixture(scope="module")
def blurred() -> Scan:
    return scan_of(WIDTH)


@pytest.fixture(scope="module")
def result(blurred: Scan) -> Reconstruction:
    return diptych.reconstruct(untold(blurred))


def test_by_default_it_is_found_and_takes_the_place_of_more_modes(blurred: Scan, result: Reconstruction) -> None:
    assert result.provenance["point_spread"] == pytest.approx([WIDTH, WIDTH], abs=0.1)
    assert len(result.probe) == 1
    assert POINT_SPREAD in by_kind(result.flags)
    assert not faults(result.flags)
    told = diptych.reconstruct(untold(blurred), point_spread=WIDTH)
    assert told.provenance["point_spread"] == [WIDTH, WIDTH]
    assert POINT_SPREAD not in by_kind(told.flags)
    sharp = diptych.reconstruct(untold(blurred), point_spread="off", modes=1, correct_positions="off")
    assert "point_spread" not in sharp.provenance
    assert error(result, blurred) < 1.1 * error(told, blurred)
    assert error(told, blurred) < 0.6 * error(sharp, blurred)


def test_there_is_none_where_patterns_are_sharp() -> None:
    clean = diptych.reconstruct(untold(scan_of(0.0)))
    assert "point_spread" not in clean.provenance
    assert POINT_SPREAD not in by_kind(clean.flags)


def test_error_bars_know_of_it(blurred: Scan, result: Reconstruction, tmp_path: Path) -> None:
    again = diptych.load(diptych.save(result, tmp_path / "r.h5"))
    assert again.provenance["point_spread"] == result.provenance["point_spread"]
    bars = diptych.error_bars(again, untold(blurred), accuracy=0.2)
    sharp = replace(again, provenance={**again.provenance, "point_spread": [0.0, 0.0]})
    plain = diptych.error_bars(sharp, untold(blurred), accuracy=0.2)
    assert np.nanmedian(bars.phase_error) > 1.1 * np.nanmedian(plain.phase_error)
    wrong = replace(again, provenance={**again.provenance, "point_spread": "wide"})
    with pytest.raises(InputError, match="point_spread"):
        diptych.error_bars(wrong, untold(blurred), accuracy=0.2)


def test_a_run_stopped_after_it_was_found_goes_on_with_the_same_numbers(tmp_path: Path) -> None:
    scan = untold(scan_of(0.4))

    def stop(progress: Progress) -> None:
        if progress.done == 120:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught:
        diptych.reconstruct(scan, epochs=130, stop=False, checkpoint=tmp_path / "c.npz", progress=stop)
    assert "point_spread" in caught.value.result.provenance
    on = diptych.reconstruct(scan, epochs=130, stop=False, checkpoint=tmp_path / "c.npz", resume=True)
    whole = diptych.reconstruct(scan, epochs=130, stop=False)
    assert on.provenance["point_spread"] == whole.provenance["point_spread"]
    np.testing.assert_array_equal(on.object.values, whole.object.values)


def test_the_option_takes_a_width_auto_or_off() -> None:
    assert ReconstructionOptions().point_spread == "auto"
    assert ReconstructionOptions(point_spread=0.5).point_spread == 0.5
    for wrong in (0.0, -1.0, 17.0, "wide"):
        with pytest.raises(InputError):
            ReconstructionOptions.build({"point_spread": wrong})


def test_the_note_states_widths_and_evidence() -> None:
    note = spread_flag((0.5, 0.25), Gain(1.25, 1.0))
    assert note.startswith("point spread: patterns are blurred by 0.5 x 0.25 px")
    assert "-20 %" in note
    assert "--point-spread off" in note
