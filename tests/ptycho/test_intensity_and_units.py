"""Beams whose intensity varies, and counts in other units than photons: the image of a clean scan, and a flag."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import diptych
from diptych.ptycho.engines.flags.base import by_kind
from diptych.ptycho.scan import Scan

OPTIONS = {"size": 32, "patterns": 64, "step": 4, "probe_error": 0.5, "seed": 1}


@pytest.fixture(scope="module")
def clean() -> Scan:
    return diptych.simulate(object="blocks", dose=1e5, **OPTIONS)


@pytest.fixture(scope="module")
def error(clean: Scan) -> float:
    result = diptych.reconstruct(clean)
    assert result.frame_factors is None
    assert not any("intensity" in flag or "photons: gain" in flag for flag in result.flags)
    return float(diptych.evaluate(result, truth=clean.truth)["complex_error"])


@pytest.fixture(scope="module")
def varied(clean: Scan) -> tuple[Scan, np.ndarray]:
    expected = diptych.simulate(object="blocks", dose=1e5, noise="none", **OPTIONS).counts
    rng = np.random.default_rng(5)
    factors = rng.uniform(0.7, 1.3, len(clean))
    return replace(clean, counts=rng.poisson(expected * factors[:, None, None]).astype(np.uint32)), factors


@pytest.mark.integration
def test_varying_intensity_is_found_fitted_and_named(
    varied: tuple[Scan, np.ndarray], error: float, tmp_path: Path
) -> None:
    scan, factors = varied
    result = diptych.reconstruct(scan)
    assert result.frame_factors is not None
    assert result.frame_factors.mean() == pytest.approx(1)
    assert np.corrcoef(result.frame_factors, factors)[0, 1] > 0.95
    assert any("beam intensity: varies by" in flag and "->" in flag for flag in result.flags)
    assert diptych.evaluate(result, truth=scan.truth)["complex_error"] < 1.4 * error
    for name in ("a.npz", "a.h5"):
        read = diptych.load(diptych.save(result, tmp_path / name))
        np.testing.assert_array_equal(read.frame_factors, result.frame_factors)


@pytest.mark.slow
def test_factors_can_be_turned_off(varied: tuple[Scan, np.ndarray]) -> None:
    result = diptych.reconstruct(varied[0], frame_factors="off", epochs=25)
    assert result.frame_factors is None
    assert result.provenance["fit"] > 1.3


@pytest.mark.integration
@pytest.mark.parametrize("wrong", ["transposed", "late"])
def test_factors_do_not_hide_a_wrong_reading(clean: Scan, wrong: str) -> None:
    """Fitted or not, they are no evidence of a beam that varies where the reading is wrong."""
    counts = clean.counts.swapaxes(1, 2).copy() if wrong == "transposed" else np.roll(clean.counts, 1, axis=0)
    found = by_kind(diptych.reconstruct(replace(clean, counts=counts)).flags)
    assert "misread" in found
    assert "beam intensity" not in found


@pytest.mark.parametrize("unit", [1e-7, 1e-3, 100.0])
def test_other_units_give_the_same_image_and_a_flag(clean: Scan, unit: float) -> None:
    photons = diptych.reconstruct(clean, epochs=15)
    scaled = replace(clean, counts=(clean.counts * unit).astype(np.float32))
    result = diptych.reconstruct(scaled, epochs=15)
    assert any(f"gain g = {unit:.3g}" in flag for flag in result.flags)
    np.testing.assert_allclose(result.object.values, photons.object.values, rtol=1e-3, atol=1e-3)
    assert np.sum(np.abs(result.probe) ** 2) == pytest.approx(unit * np.sum(np.abs(photons.probe) ** 2), rel=1e-3)
    stated = diptych.reconstruct(replace(scaled, scale=1 / unit), epochs=1)
    assert stated.provenance["counts_per_photon"] == pytest.approx(unit)
    assert not any("gain" in flag for flag in stated.flags)


def test_a_stated_scale_counts_more_than_what_the_counts_look_like(clean: Scan) -> None:
    """Whole counts would be taken for photons; here two of them are one."""
    stated = diptych.reconstruct(replace(clean, scale=0.5), epochs=1)
    assert stated.provenance["counts_per_photon"] == 2
    halved = diptych.reconstruct(replace(clean, counts=(clean.counts / 2).astype(np.float32), scale=1.0), epochs=1)
    np.testing.assert_allclose(stated.object.values, halved.object.values, rtol=1e-4, atol=1e-4)
