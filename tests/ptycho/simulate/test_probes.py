from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import j1, jn_zeros

from diptych.errors import InputError
from diptych.ptycho.simulate import simulate
from diptych.ptycho.simulate.options import PROBE_KINDS
from diptych.ptycho.simulate.probes import add_modes, disk, gaussian, given_probe, make_probe, misjudged, zone_plate


def far_field(wave: NDArray) -> NDArray:
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(wave, (-2, -1)), norm="ortho"), (-2, -1))


def distance(size: int) -> NDArray:
    y, x = np.indices((size, size)) - size // 2
    return np.hypot(y, x)


def diameter(wave: NDArray, fraction: float = 0.9) -> float:
    """Diameter of the circle about the centre that holds a fraction of the power."""
    r = distance(wave.shape[-1]).ravel()
    order = np.argsort(r)
    power = np.cumsum(np.abs(wave).ravel()[order] ** 2)
    return float(2 * r[order][np.searchsorted(power, fraction * power[-1])])


@settings(max_examples=30, deadline=None)
@given(kind=st.sampled_from(PROBE_KINDS), size=st.integers(8, 70), error=st.floats(0, 1))
def test_every_probe_is_normalised_and_centred(kind, size, error) -> None:
    probe = make_probe(kind, size, error=error)
    assert probe.shape == (size, size)
    assert probe.dtype == np.complex128
    power = np.abs(probe) ** 2
    assert power.sum() == pytest.approx(1)
    y, x = np.indices(power.shape) - size // 2
    assert abs((power * y).sum()) < 0.03 * size
    assert abs((power * x).sum()) < 0.03 * size


def test_zone_plate_is_the_standard_problem() -> None:
    # Pupil radius 13 of 64 px, stop 35 %, 10 rad at the edge: |FFT| at chosen radii follows from the two logistic edges
    # of 0.7 px.
    probe = make_probe("zone-plate", 64)
    pupil = far_field(probe)
    row = pupil[32, 32:]
    profile = np.abs(row) / np.abs(row[9])
    for radius in (0, 3, 5, 9, 12, 13, 15):
        edges = 1 / (1 + np.exp((radius - 13) / 0.7)) / (1 + np.exp((4.55 - radius) / 0.7))
        assert profile[radius] == pytest.approx(
            edges / (1 / (1 + np.exp(-4 / 0.7)) / (1 + np.exp(-4.45 / 0.7))), rel=1e-6
        )
    phase = np.unwrap(np.angle(row[5:14]))
    assert phase[-1] - phase[0] == pytest.approx(10 * (1 - 25 / 169), rel=1e-6)
    assert diameter(probe) == pytest.approx(31.6, abs=0.1)


def test_blind_start_has_no_stop_less_defocus_and_a_smaller_pupil() -> None:
    start = far_field(make_probe("zone-plate", 64, error=1.0))
    row = start[32, 32:]
    expected = 1 / (1 + np.exp((np.arange(20) - 11.7) / 0.7))
    np.testing.assert_allclose(np.abs(row[:20]) / np.abs(row[0]), expected / expected[0], rtol=1e-6)
    phase = np.unwrap(np.angle(row[:12]))
    assert phase[-1] - phase[0] == pytest.approx(6 * (11 / 13) ** 2, rel=1e-6)


def test_zone_plate_fills_the_same_part_of_every_window() -> None:
    share = [diameter(make_probe("zone-plate", size)) / size for size in (48, 64, 128, 256)]
    assert np.ptp(share) < 0.05


def test_defocus_sets_the_geometric_radius_of_the_beam() -> None:
    size, aperture, defocus = 256, 40.0, 60.0
    probe = zone_plate(size, aperture, 0.0, defocus)
    # A uniform pupil far from focus is a uniform disc of radius N defocus / (pi aperture), 90 % of it inside sqrt(0.9).
    assert diameter(probe) == pytest.approx(2 * np.sqrt(0.9) * size * defocus / (np.pi * aperture), rel=0.06)


def test_flat_disk_has_the_zeros_of_an_airy_pattern() -> None:
    size, radius = 512, 40.0
    field = far_field(disk(size, radius))
    profile = np.abs(field[size // 2, size // 2 :])
    q = np.arange(1, 40)
    argument = 2 * np.pi * q * radius / size
    airy = np.abs(2 * j1(argument) / argument)
    np.testing.assert_allclose(profile[1:40] / profile[0], airy, atol=0.006)
    first = jn_zeros(1, 1)[0] * size / (2 * np.pi * radius)
    assert first == pytest.approx(1.22 * size / (2 * radius), rel=1e-3)
    assert np.argmin(profile[4:12]) + 4 == round(first)


def test_gaussian_radius_is_where_the_intensity_falls_to_1_over_e2() -> None:
    probe = gaussian(128, 20.0, defocus=3.0)
    power = np.abs(probe[64, 64:]) ** 2
    assert power[20] / power[0] == pytest.approx(np.exp(-2))
    assert np.unwrap(np.angle(probe[64, 64:]))[20] == pytest.approx(3.0)


def test_curvature_widens_the_pattern_of_a_gaussian_by_the_known_factor() -> None:
    # Curvature c multiplies the far-field radius by sqrt(1 + c^2): the Fourier transform of exp(-(1 - i c) r^2 / w^2).
    flat, curved = (far_field(gaussian(256, 20.0, defocus=c)) for c in (0.0, 3.0))
    y = np.indices(flat.shape)[0] - 128
    spread = [np.sqrt(np.sum(np.abs(field) ** 2 * y**2)) for field in (flat, curved)]
    assert spread[1] / spread[0] == pytest.approx(np.sqrt(10), rel=1e-3)


@settings(max_examples=20, deadline=None)
@given(kind=st.sampled_from(PROBE_KINDS), powers=st.lists(st.floats(0.01, 1), min_size=1, max_size=6))
def test_modes_are_orthogonal_with_the_powers_asked_for(kind, powers) -> None:
    probe = make_probe(kind, 48)
    modes = add_modes(probe, powers)
    gram = np.einsum("ayx,byx->ab", modes, modes.conj())
    np.testing.assert_allclose(gram, np.diag(np.array(powers) / sum(powers)), atol=1e-12)
    np.testing.assert_allclose(modes[0] / np.sqrt(powers[0] / sum(powers)), probe, atol=1e-12)


def test_modes_of_a_gaussian_are_the_hermite_gauss_modes() -> None:
    modes = add_modes(gaussian(64, 10.0), (0.6, 0.3, 0.1))
    x = np.arange(64) - 32
    envelope = np.exp(-(x**2) / 100)
    first = np.outer(envelope, x * envelope)
    first *= np.sqrt(0.3) / np.linalg.norm(first)
    np.testing.assert_allclose(modes[1], first, atol=1e-9)
    np.testing.assert_allclose(modes[2], first.T * np.sqrt(0.1 / 0.3), atol=1e-9)


def test_misjudged_keeps_the_power_spectrum_and_misses_defocus() -> None:
    probe = add_modes(make_probe("zone-plate", 64), (0.7, 0.3))
    start = misjudged(probe, 1.0)
    np.testing.assert_allclose(np.abs(far_field(start)), np.abs(far_field(probe)), atol=1e-12)
    assert diameter(start[0]) < 0.8 * diameter(probe[0])
    np.testing.assert_allclose(misjudged(probe, 0.0), probe, atol=1e-12)


@pytest.mark.parametrize("suffix", ["npy", "npz", "h5"])
def test_probe_from_a_file(tmp_path: Path, suffix: str) -> None:
    probe = make_probe("gaussian", 16).astype(np.complex64)
    path = tmp_path / f"probe.{suffix}"
    if suffix == "npy":
        np.save(path, probe)
    elif suffix == "npz":
        np.savez(path, probeGuess=probe[..., None], diffraction=np.ones(3))
    else:
        with h5py.File(path, "w") as file:
            file["probe"] = probe[None, None]
    scan = simulate(probe=str(path), patterns=9, step=2.0)
    assert scan.true_probe is not None
    found = scan.true_probe / np.linalg.norm(scan.true_probe)
    np.testing.assert_allclose(found, probe[None], atol=1e-6)


def test_a_true_probe_in_a_file_is_preferred_to_a_guess(tmp_path: Path) -> None:
    path = tmp_path / "scan.npz"
    np.savez(path, probeGuess=np.ones((8, 8)), trueProbe=make_probe("gaussian", 8)[None])
    found = simulate(probe=str(path), patterns=9, step=2.0).true_probe
    assert found is not None
    np.testing.assert_allclose(found[0] / np.linalg.norm(found), make_probe("gaussian", 8), atol=1e-6)


def test_files_without_a_probe_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"'zoneplate': is neither a kind of probe nor a file; expected zone-plate, gaussian, disk"
    ):
        simulate(probe="zoneplate")
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    with pytest.raises(InputError, match=r"other.npz: holds no probe; found a; expected one of trueProbe"):
        simulate(probe=str(tmp_path / "other.npz"))


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        (np.array(["a"]), "expected complex numbers"),
        ([[1, 2], [3]], "cannot be read as an array"),
        (np.ones((4, 5)), r"shape \(4, 5\)"),
        (np.ones(7), r"shape \(7,\)"),
        (np.full((8, 8), np.nan), "64 values that are not finite"),
        (np.zeros((8, 8)), "zero everywhere"),
    ],
)
def test_arrays_that_are_no_probe_are_refused(probe, message) -> None:
    with pytest.raises(InputError, match=message):
        given_probe(probe, "the probe")


@pytest.mark.parametrize(
    ("kind", "shape"), [("zone-plate", {"aperture": 32.0}), ("gaussian", {"radius": 40.0}), ("disk", {"radius": 32})]
)
def test_probes_larger_than_the_window_are_refused(kind, shape) -> None:
    with pytest.raises(InputError, match=r"expected less than 32"):
        make_probe(kind, 64, **shape)


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(InputError, match="not known; expected zone-plate"):
        make_probe("bessel", 64)
