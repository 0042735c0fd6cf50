"""Probe pipelines and regular grids."""

from __future__ import annotations

import numpy as np
import pytest

from diptych.errors import InputError
from diptych.ptycho.simulate.probes import make_probe
from diptych.ptycho.studies.grid_lines import data
from diptych.ptycho.studies.grid_lines.probes import quadratic_phase, run_pipeline


def quadratic(size: int, a: float, b: float) -> np.ndarray:
    y, x = np.indices((size, size), float) - size // 2
    return np.exp(-(y**2 + x**2) / 200) * np.exp(1j * (a + b * (y**2 + x**2)))


def test_padding_keeps_every_value_and_the_centre() -> None:
    probe = quadratic(64, 0.3, 0.01)
    padded = run_pipeline("pad:128", probe)
    assert np.array_equal(padded[32:96, 32:96], probe)
    assert np.count_nonzero(padded) <= np.count_nonzero(probe)
    assert np.abs(padded).argmax() == 64 * 128 + 64
    assert run_pipeline("pad:65", quadratic(64, 0, 0))[32, 32] == 1


def test_extrapolation_continues_a_quadratic_phase() -> None:
    a, b = quadratic_phase(quadratic(64, 0.3, 0.01))
    assert (a, b) == (pytest.approx(0.3, abs=1e-6), pytest.approx(0.01, abs=1e-9))
    made = run_pipeline("extrapolate:128", quadratic(64, 0.3, 0.01))
    true = np.angle(quadratic(128, 0.3, 0.01) * made.conj())
    assert np.abs(true).max() < 1e-6
    assert abs(made[0, 0]) > 0


def test_interpolation_samples_the_same_field() -> None:
    finer = run_pipeline("interpolate:128", quadratic(64, 0.2, 0.002))
    y, x = (np.indices((128, 128), float) - 64) / 2
    true = np.exp(-(y**2 + x**2) / 200) * np.exp(1j * (0.2 + 0.002 * (y**2 + x**2)))
    assert np.abs(finer - true)[8:-8, 8:-8].max() < 1e-3


def test_smoothing_and_masking() -> None:
    rng = np.random.default_rng(0)
    noisy = rng.standard_normal((32, 32)) + 1j * rng.standard_normal((32, 32))
    assert np.abs(run_pipeline("smooth:2", noisy)).std() < 0.3 * np.abs(noisy).std()
    masked = run_pipeline("mask:10", np.ones((32, 32)))
    assert masked.real.sum() == pytest.approx(np.pi * 25, rel=0.05)
    assert run_pipeline("", noisy) is not None
    assert run_pipeline("smooth:0.5|pad:64|mask:20", noisy).shape == (64, 64)


@pytest.mark.parametrize("text", ["blur:3", "pad", "pad:-3", "pad:8", "pad:70.5", "mask:0", "smooth:x"])
def test_wrong_pipelines_are_input_errors(text: str) -> None:
    with pytest.raises(InputError, match="probe pipeline"):
        run_pipeline(text, np.ones((64, 64)))


@pytest.mark.parametrize(
    ("side", "size", "step", "count"),
    [(392, 64, 4, 6889), (392, 64, 10, 1089), (392, 128, 4, 4489), (392, 128, 10, 729)],
)
def test_grids_have_the_published_numbers_of_patterns(side: int, size: int, step: float, count: int) -> None:
    positions = data.grid(side, size, step)
    assert len(positions) == count
    assert positions.min() - size // 2 >= 0
    assert positions.max() - size // 2 + size <= side


@pytest.mark.parametrize("size", [63, 64])
def test_a_jittered_grid_stays_on_the_object(size: int) -> None:
    scan = data.grid_scan("lines", 130, make_probe("disk", size), 16.0, dose=1e5, seed=3, jitter=3.0)
    assert scan.truth is not None
    assert scan.truth.shape == (130, 130)
    assert scan.counts.sum(axis=(1, 2)).mean() == pytest.approx(1e5, rel=0.05)
    assert len(np.unique(scan.positions % 16, axis=0)) > 3
