"""Charge-integrating detectors: readings with gain and read noise, from the file to the error bars."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import diptych
from diptych.errors import InputError
from diptych.ptycho.engines.fit_monitor import full_fit
from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings, MaximumLikelihood
from diptych.ptycho.engines.problem import make_problem
from diptych.ptycho.engines.starts.initial import copy_overlap
from diptych.ptycho.error_bars import point_of
from diptych.ptycho.evaluate.limit.options import BoundOptions
from diptych.ptycho.evaluate.limit.photon_limit import _at_dose, _dose, _point
from diptych.ptycho.physics.detector.read_noise import shifted
from diptych.ptycho.physics.likelihood import deviance, expected_deviance
from diptych.ptycho.prepare.photons import in_photons

CPU = torch.device("cpu")


def readings(**changes: object) -> diptych.Scan:
    options = {"object": "blocks", "size": 24, "patterns": 36, "step": 3.0, "dose": 2e4, "seed": 1} | changes
    return diptych.simulate(**options)


@pytest.mark.parametrize("noise", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("photons", [0.1, 2.0, 40.0, 400.0])
def test_expected_deviance_is_that_of_drawn_readings(noise: float, photons: float) -> None:
    rng = np.random.default_rng(0)
    drawn = np.maximum(rng.poisson(photons, 60_000) + noise * rng.standard_normal(60_000) + noise**2, 0)
    level = torch.full((len(drawn),), photons + noise**2, dtype=torch.float64)
    found = deviance(torch.from_numpy(drawn), level)
    error = float(found.std()) / len(drawn) ** 0.5
    predicted = float(expected_deviance(level[:1], noise**2))
    assert predicted == pytest.approx(float(found.mean()), abs=5 * error + 1e-3)


@pytest.mark.parametrize(("noise", "gain"), [(3.0, 1.0), (0.5, 1.0), (60.0, 20.0)])
def test_the_fit_is_one_at_the_truth(noise: float, gain: float) -> None:
    scan, _ = in_photons(readings(read_noise=noise, gain=gain, patterns=64))
    with torch.no_grad():
        problem = make_problem(scan, device=CPU, double=True, subpixel=True, held_out=0.05, seed=0)
        image = copy_overlap(scan.truth, problem.flat_object(), problem.origin)
        found = full_fit(problem, image, torch.from_numpy(scan.true_probe).to(torch.complex128))
    assert found["fit"] == pytest.approx(1, abs=0.03)
    assert found["held_out_fit"] == pytest.approx(1, abs=0.1)
    assert scan.counts.min() < 0


def test_the_gradient_is_that_of_the_loss_at_negative_readings() -> None:
    scan, _ = in_photons(readings(read_noise=0.5, dose=300.0))
    with torch.no_grad():
        problem = make_problem(scan, device=CPU, double=True, subpixel=True, held_out=0.0, seed=0)
        engine = MaximumLikelihood(
            problem, problem.flat_object(), torch.from_numpy(scan.true_probe).to(torch.complex128), LikelihoodSettings()
        )
        assert float(problem.counts.min()) < 0
        point, way = (
            engine._point,
            torch.randn(engine._point.shape, generator=torch.Generator().manual_seed(0)).double(),
        )
        step = 1e-5
        above, below = (engine._evaluate(point + sign * step * way)[0] for sign in (1, -1))
        slope = float(engine._gradient @ way)
    # Gradients are by the conjugate: half of the derivative by real and imaginary part.
    assert (above - below) / (2 * step) == pytest.approx(2 * slope, rel=1e-4)


def test_simulated_readings_have_the_stated_noise_and_gain() -> None:
    dark = readings(read_noise=6.0, gain=2.0, dose=1e-6)
    assert dark.counts.dtype == np.float32
    assert dark.counts.std() == pytest.approx(6.0, rel=0.03)
    lit = readings(read_noise=6.0, gain=2.0)
    assert lit.counts.sum((1, 2)).mean() == pytest.approx(2.0 * 2e4, rel=0.03)
    assert (lit.scale, lit.read_noise) == (0.5, 6.0)
    photons, gain = in_photons(lit)
    assert gain.value == 2
    assert photons.read_noise == pytest.approx(3.0)


def test_gain_and_noise_survive_the_file_and_are_options_of_the_load(tmp_path: Path) -> None:
    scan = readings(read_noise=6.0, gain=2.0)
    again = diptych.load(diptych.save(scan, tmp_path / "scan.npz"))
    np.testing.assert_array_equal(again.counts, scan.counts)
    assert (again.scale, again.read_noise) == (0.5, 6.0)

    raw = {"diffraction": scan.counts, "ycoords": scan.positions[:, 0], "xcoords": scan.positions[:, 1]}
    np.savez(tmp_path / "raw.npz", **raw, probeGuess=scan.probe)
    with pytest.raises(InputError, match=r"charge-integrating.*--read-noise") as refused:
        diptych.load(tmp_path / "raw.npz", domain="counts")
    stated = float(str(refused.value).split("--read-noise ")[1].split()[0])
    assert stated == pytest.approx(6.0, rel=0.1)
    read = diptych.load(tmp_path / "raw.npz", domain="counts", detector_gain=2.0, read_noise=6.0)
    np.testing.assert_allclose(read.counts, scan.counts / 2, rtol=1e-6)
    assert (read.scale, read.read_noise) == (1.0, 3.0)
    with pytest.raises(InputError, match="one of them"):
        diptych.load(tmp_path / "raw.npz", domain="counts", detector_gain=2.0, scale=2.0, read_noise=6.0)
    with pytest.raises(InputError, match="amplitudes"):
        diptych.load(tmp_path / "raw.npz", domain="amplitude", read_noise=6.0, clip_negative=True)


def test_binning_adds_the_noise_of_the_pixels_and_a_gain_divides_it() -> None:
    scan = readings(read_noise=2.0)
    assert diptych.prepare(scan, bin=2).read_noise == pytest.approx(4.0)
    assert diptych.prepare(scan, gain=1.5).read_noise == pytest.approx(2.0 / 1.5)


def test_shifted_readings_are_counts_with_a_background() -> None:
    scan = readings(read_noise=2.0)
    moved = shifted(scan)
    assert moved.read_noise is None
    np.testing.assert_allclose(moved.background, 4.0)
    np.testing.assert_allclose(moved.counts, np.maximum(scan.counts + 4.0, 0), rtol=1e-6)


def test_error_bars_and_limit_have_the_variance_of_photons_and_read_noise() -> None:
    scan = readings(read_noise=6.0, gain=2.0, background=0.5)
    result = diptych.reconstruct(scan, epochs=2, engine="rpie")
    np.testing.assert_allclose(point_of(result, scan).background, 0.5 + 9.0, rtol=1e-6)
    point, _ = _point(scan, None, BoundOptions())
    np.testing.assert_allclose(point.background, 0.5 + 9.0, rtol=1e-6)
    # A longer exposure has more background, and the same read noise.
    np.testing.assert_allclose(_at_dose(point, 2 * _dose(point), 9.0).background, 1.0 + 9.0, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("dose", [1e4, 1e5])
def test_stated_read_noise_lowers_the_error_and_the_fit_is_that_of_noise(dose: float) -> None:
    scan = diptych.simulate(object="natural", size=64, patterns=100, dose=dose, read_noise=3.0, seed=3)
    clipped = replace(scan, counts=np.maximum(scan.counts, 0), read_noise=None)
    found, poor = (diptych.reconstruct(each) for each in (scan, clipped))
    error, before = (diptych.evaluate(each, truth=scan.truth)["complex_error"] for each in (found, poor))
    assert error < 0.8 * before
    assert 0.8 < found.provenance["fit"] < 1.1 < poor.provenance["fit"]
    assert 0.95 < found.provenance["held_out_fit"] < 1.25
