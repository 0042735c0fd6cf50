"""``bound``: the limit of a scan, planning, and its relation to reconstructions and error bars."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

import diptych
from diptych.errors import InputError
from diptych.ptycho.evaluate.limit import Limit, bound
from diptych.ptycho.evaluate.limit.coverage import covered
from diptych.ptycho.figures.overview import plot
from diptych.ptycho.scan import Reconstruction, Scan


@pytest.fixture(scope="module")
def scan() -> Scan:
    return diptych.simulate(
        object="natural", size=16, patterns=49, step=2.5, dose=1e5, seed=0, trajectory="fermat-spiral"
    )


@pytest.fixture(scope="module")
def limit(scan: Scan) -> Limit:
    return bound(scan, map_accuracy=0.5)


@pytest.fixture(scope="module")
def result(scan: Scan) -> Reconstruction:
    return diptych.reconstruct(scan, engine="ml", probe="fixed", epochs=15)


def test_the_limit_lies_between_the_ideal_and_a_few_times_it(limit: Limit) -> None:
    assert limit.ideal < limit.complex_error < 3 * limit.ideal
    assert limit.complex_error_noise < 0.02
    assert limit.dose == pytest.approx(1e5, rel=0.01)
    assert limit.patterns == 49
    assert (limit.amplitude_error.shape, limit.refined) == (limit.phase_error.shape, ("probe",))


@pytest.mark.slow
def test_the_limit_falls_with_the_root_of_the_dose(scan: Scan, limit: Limit) -> None:
    more = bound(scan, map_accuracy=1, dose=1e7)
    assert more.complex_error == pytest.approx(limit.complex_error / 10, rel=0.05)
    assert more.dose == pytest.approx(1e7, rel=1e-6)


@pytest.mark.slow
def test_a_known_probe_lowers_the_limit(scan: Scan, limit: Limit) -> None:
    assert bound(scan, map_accuracy=1, refine_probe=False).complex_error < 1.02 * limit.complex_error


@pytest.mark.slow
def test_the_dose_that_is_computed_gives_what_was_wanted(scan: Scan, limit: Limit) -> None:
    wanted = bound(scan, map_accuracy=1, wanted_error=limit.complex_error / 3, resolution_px=1.25)
    assert wanted.needs["dose_for_wanted_error"] == pytest.approx(9 * limit.dose, rel=0.1)
    dose = wanted.needs["dose_for_wanted_resolution"]
    assert math.isfinite(dose)
    above, below = (bound(scan, map_accuracy=1, dose=factor * dose).resolution for factor in (1.5, 0.2))
    assert above >= 1 / 1.25 - 0.07
    assert math.isnan(below) or below < 1 / 1.25


@pytest.mark.slow
def test_a_planned_scan_of_another_step_covers_the_field_with_more_patterns(scan: Scan, limit: Limit) -> None:
    planned = bound(scan, map_accuracy=1, step=2.0)
    assert planned.patterns > limit.patterns
    assert planned.overlap is not None
    assert limit.overlap is not None
    assert planned.overlap > limit.overlap
    assert planned.complex_error < limit.complex_error


@pytest.mark.slow
def test_raster_of_whole_steps_says_what_is_left_out() -> None:
    scan = diptych.simulate(object="natural", size=16, patterns=49, step=3, dose=1e5, trajectory="raster")
    found = bound(scan, map_accuracy=1)
    assert any("raster" in note for note in found.notes)
    assert "raster" in found.gauge
    assert not bound(scan, map_accuracy=1, refine_probe=False).notes


def test_numbers_statement_and_figure(limit: Limit) -> None:
    assert limit.to_dict()["complex_error"] == limit.complex_error
    assert "49 patterns" in limit.statement()
    titles = [ax.get_title() for ax in plot(limit).axes]
    assert "Standard error of the phase" in titles


def test_what_cannot_be_computed_is_refused(scan: Scan) -> None:
    with pytest.raises(InputError, match="no object is known"):
        bound(replace(scan, truth=None))
    with pytest.raises(InputError, match="at least two fit"):
        bound(scan, step=100)
    with pytest.raises(InputError, match="pixel is not known"):
        bound(scan, map_accuracy=1, resolution_nm=10)
    with pytest.raises(InputError, match="give one of them"):
        bound(scan, resolution_px=2, resolution_nm=10)


@pytest.mark.slow
def test_many_photons_are_used_to_the_limit_with_an_unknown_probe() -> None:
    bright = diptych.simulate(
        object="natural",
        size=16,
        patterns=49,
        step=2.0,
        dose=1e9,
        seed=0,
        trajectory="fermat-spiral",
        probe_error=0.5,
    )
    result = diptych.reconstruct(bright)
    error, least = diptych.evaluate(result, bright)["complex_error"], bound(bright, map_accuracy=1).complex_error
    assert not result.provenance["stop_reason"].startswith("all ")
    assert error < 1.3 * least


@pytest.mark.slow
def test_error_bars_are_those_of_the_bound_and_cover_the_truth(scan: Scan) -> None:
    result = diptych.reconstruct(scan, engine="ml", probe="fixed")
    barred = diptych.error_bars(result, scan, accuracy=0.1)
    assert barred.phase_error is not None
    assert barred.amplitude_error is not None
    lit = np.isfinite(barred.phase_error)
    assert lit.any()
    assert not lit.all()
    assert (barred.amplitude_error[lit] > 0).all()
    record = barred.provenance["error_bars"]
    assert record["refined"] == []
    expected = bound(scan, refine_probe=False, map_accuracy=1).complex_error
    assert record["expected_complex_error"] / record["scaled_by"] == pytest.approx(expected, rel=0.1)
    metrics = diptych.evaluate(barred, scan)
    for name in ("amplitude", "phase"):
        assert 0.75 < metrics[f"{name}_coverage90"] < 0.99
    assert metrics.alignment is not None
    assert covered(result, metrics.alignment) == {}
    assert "Standard error of the amplitude" in [ax.get_title() for ax in plot(barred).axes]


@pytest.mark.parametrize("suffix", ["h5", "npz"])
def test_files_keep_error_bars(tmp_path, result: Reconstruction, suffix: str) -> None:
    bars = np.linspace(0, 1, result.object.values.size, dtype=np.float32).reshape(result.object.shape)
    bars[0, 0] = np.nan
    barred = replace(result, amplitude_error=bars, phase_error=2 * bars)
    back = diptych.load(diptych.save(barred, tmp_path / f"r.{suffix}"))
    np.testing.assert_array_equal(back.amplitude_error, bars)
    np.testing.assert_array_equal(back.phase_error, 2 * bars)


def test_error_bars_need_the_scan_of_the_result(scan: Scan, result: Reconstruction) -> None:
    other = replace(scan, counts=scan.counts[:30], positions=scan.positions[:30])
    with pytest.raises(InputError, match="made from"):
        diptych.error_bars(result, other)
    with pytest.raises(InputError, match=r"from 0.005 to 0.5"):
        diptych.error_bars(result, scan, accuracy=2)


@pytest.mark.slow
def test_reconstruct_adds_error_bars_where_asked(scan: Scan) -> None:
    result = diptych.reconstruct(scan, engine="ml", epochs=5, error_bars=True)
    assert result.error is not None
    assert result.provenance["error_bars"]["refined"] == ["probe"]
