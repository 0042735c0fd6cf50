"""Counts per photon from the counts alone: the unit of scaled photons, the noise of any other."""

from __future__ import annotations

import numpy as np
import pytest

import diptych
from diptych.ptycho.physics.gain import NOISELESS, _distinct, common_unit, estimated_gain, noise_gain


@pytest.fixture(scope="module", params=["blocks", "natural", "lines", "dead-leaves"])
def counts(request: pytest.FixtureRequest) -> np.ndarray:
    return diptych.simulate(object=request.param, size=64, patterns=64, dose=2e4, seed=3).counts.astype(np.float64)


@pytest.mark.parametrize("unit", [1e-7, 1e-5, 1e-3, 0.37, 100.0])
def test_scaled_photons_show_their_unit(counts: np.ndarray, unit: float) -> None:
    found = estimated_gain((counts * unit).astype(np.float32))
    assert found.unit
    assert found.value == pytest.approx(unit, rel=1e-6)


def test_whole_counts_are_photons_and_whole_multiples_are_not(counts: np.ndarray) -> None:
    assert estimated_gain(counts.astype(np.uint32)).value == 1
    assert estimated_gain((40 * counts).astype(np.uint32)).value == 40


@pytest.mark.parametrize("unit", [1e-5, 1.0, 30.0])
def test_noise_gives_the_gain_where_a_flat_field_hides_the_unit(counts: np.ndarray, unit: float) -> None:
    flat = np.random.default_rng(0).uniform(0.97, 1.03, counts.shape[1:])
    scaled = (unit * flat * counts).astype(np.float32)
    found = estimated_gain(scaled)
    assert not found.unit
    assert 0.9 < found.value / unit < 1.4
    valid = np.random.default_rng(1).random(flat.shape) > 0.02
    assert 0.9 < estimated_gain(np.where(valid, scaled, np.float32(7e5)), valid).value / unit < 1.6


def test_the_gain_does_not_depend_on_how_the_scan_is_read(counts: np.ndarray) -> None:
    """A wrong reading must not hide behind a large gain."""
    assert noise_gain(counts)[0] == pytest.approx(noise_gain(counts[::-1, ::-1].swapaxes(1, 2))[0], rel=0.05)


def test_few_levels_tell_no_unit() -> None:
    assert common_unit(np.full((3, 16, 16), 5, np.uint16)) == 1
    assert estimated_gain(np.zeros((3, 16, 16), np.float32)).value == 1


@pytest.fixture(scope="module")
def noise_free() -> np.ndarray:
    """Expected counts of one photon per pattern: no unit, and white noise only by rounding."""
    scan = diptych.simulate(object="blocks", size=64, patterns=36, dose=1e4, noise="none", seed=3)
    return scan.counts / scan.counts.sum((1, 2)).mean()


@pytest.mark.parametrize("photons", [2e3, 1e6, 9e8])
def test_counts_without_noise_keep_a_plausible_scale(noise_free: np.ndarray, photons: float) -> None:
    assert estimated_gain((photons * noise_free).astype(np.float32)).value == 1


@pytest.mark.parametrize("photons", [1e-6, 1.0, 1e11])
def test_other_counts_without_noise_are_taken_as_a_million_photons(noise_free: np.ndarray, photons: float) -> None:
    found = estimated_gain((photons * noise_free).astype(np.float32))
    assert photons / found.value == pytest.approx(NOISELESS, rel=1e-3)
    assert "without noise" in found.source


@pytest.mark.parametrize("values", [[3, 0, 3, 7], [0.5, 2, 0.5], [-1, 2, 2], [1, 2**40, 1], []])
def test_distinct_values_are_sorted_and_single(values: list[float]) -> None:
    np.testing.assert_array_equal(_distinct(np.asarray(values, np.float64)), sorted(set(values)))
