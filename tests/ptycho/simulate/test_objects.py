from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.ptycho.simulate.objects import (
    KINDS,
    PHOTOGRAPHS,
    dead_leaves,
    gaussian_field,
    lines,
    make_object,
    siemens_star,
    stretch,
)
from diptych.ptycho.simulate.options import SimulationOptions


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_kinds_are_those_of_the_options() -> None:
    assert tuple(KINDS) == SimulationOptions.model_fields["object"].annotation.__args__


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_bits_other_seed_other_object(kind: str) -> None:
    first, again, other = (make_object(kind, (90, 111), generator(seed)) for seed in (5, 5, 6))
    assert first.dtype == np.complex64
    assert first.tobytes() == again.tobytes()
    assert np.linalg.norm(first - other) > 0.05 * np.linalg.norm(first)


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(list(KINDS)),
    height=st.integers(20, 70),
    width=st.integers(20, 70),
    low=st.floats(0, 1),
    span=st.floats(0, 1),
    phase=st.floats(-3, 3),
    seed=st.integers(0, 99),
)
def test_modulus_and_phase_stay_in_the_ranges_asked_for(kind, height, width, low, span, phase, seed) -> None:
    high = low + (1 - low) * span
    image = make_object(kind, (height, width), generator(seed), (low, high), (phase, phase + 0.1))
    assert image.shape == (height, width)
    assert np.isfinite(image).all()
    assert np.abs(image).min() >= low - 1e-6
    assert np.abs(image).max() <= high + 1e-6
    turned = np.angle(image[np.abs(image) > 1e-3] * np.exp(-1j * (phase + 0.05)))
    assert (np.abs(turned) < 0.05 + 1e-5).all()


@pytest.mark.parametrize("kind", KINDS)
def test_contrast_is_used_and_no_image_is_flat(kind: str) -> None:
    image = make_object(kind, (150, 150), generator(1), (0.2, 0.9), (-1.0, 2.0))
    assert np.ptp(np.abs(image)) > 0.5
    assert np.ptp(np.angle(image)) > 1.5
    assert np.abs(image).std() > 0.05


def test_amplitude_only_when_the_phase_range_is_empty() -> None:
    image = make_object("lines", (64, 64), generator(), (0.5, 1.5), (0.0, 0.0))
    assert np.abs(image.imag).max() == 0
    assert image.real.min() == pytest.approx(0.5)
    assert image.real.max() == pytest.approx(1.5)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_photographs_come_with_the_installed_package(name: str) -> None:
    import skimage.data

    folder = skimage.data.__path__[0] if hasattr(skimage.data, "__path__") else None
    assert getattr(skimage.data, name)().shape[0] >= 300
    assert folder is None or "site-packages" in folder or "dist-packages" in folder


def test_natural_maps_are_two_different_photographs() -> None:
    modulus, phase = KINDS["natural"]((128, 128), generator(4))
    assert abs(np.corrcoef(modulus.ravel(), phase.ravel())[0, 1]) < 0.5


def test_natural_larger_than_any_photograph_keeps_its_detail() -> None:
    modulus, _ = KINDS["natural"]((900, 700), generator(3))
    power = np.abs(np.fft.fft2(modulus - modulus.mean())) ** 2
    frequency = np.hypot(np.fft.fftfreq(900)[:, None], np.fft.fftfreq(700))
    assert power[frequency > 0.15].sum() / power.sum() > 1e-3


def test_gaussian_field_has_the_power_law_asked_for() -> None:
    for exponent in (2.0, 3.0):
        spectra = [np.abs(np.fft.fft2(part * window)) ** 2 for part, window in _windowed(exponent)]
        frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256)).ravel()
        bins = np.geomspace(0.03, 0.3, 9)
        where = np.digitize(frequency, bins)
        mean = np.mean(spectra, axis=0).ravel()
        radial = [mean[where == i].mean() for i in range(1, 9)]
        slope = np.polyfit(np.log(np.sqrt(bins[1:] * bins[:-1])), np.log(radial), 1)[0]
        assert slope == pytest.approx(-exponent, abs=0.2)


def _windowed(exponent: float):
    window = np.outer(np.hanning(256), np.hanning(256))
    for seed in range(3):
        for field in gaussian_field((256, 256), generator(seed), exponent):
            yield field - np.average(field, weights=window), window


def test_gaussian_field_maps_are_independent() -> None:
    # A steep field has few independent values, so correlations are averaged over seeds.
    found = [
        np.corrcoef(*(part.ravel() for part in gaussian_field((128, 128), generator(seed), 1.0)))[0, 1]
        for seed in range(8)
    ]
    assert abs(np.mean(found)) < 0.1


def test_siemens_star_has_its_spokes_on_every_circle_between_the_rings() -> None:
    star, _ = siemens_star((400, 400), generator(2), spokes=36, rings=4)
    outer, middle = 0.48 * 400, 199.5
    angle = np.linspace(0, 2 * np.pi, 7200, endpoint=False)
    for radius in (0.4 * outer, 0.6 * outer, 0.9 * outer):
        y, x = (
            np.rint(middle + radius * np.sin(angle)).astype(int),
            np.rint(middle + radius * np.cos(angle)).astype(int),
        )
        spectrum = np.abs(np.fft.rfft(star[y, x] - star[y, x].mean()))
        assert np.argmax(spectrum) == 36
    ring = np.rint(middle + 0.5 * outer * np.stack([np.sin(angle), np.cos(angle)])).astype(int)
    assert star[ring[0], ring[1]].min() == 1.0
    y, x = np.indices(star.shape) - middle
    assert (star[np.hypot(y, x) > outer + 1] == 1).all()


def test_lines_are_dark_between_and_bright_on_the_lines() -> None:
    image, same = lines((392, 392), generator(1))
    assert image is same
    assert image.min() == 0
    assert image.max() == 1
    # Few pixels lie on a line; those beside lie much lower.
    assert np.median(image) < 0.6


def test_dead_leaves_leave_no_first_ground_and_have_edges_at_all_scales() -> None:
    first, second = dead_leaves((200, 200), generator(8))
    assert (first == 0.5).mean() < 0.05
    jumps = np.abs(np.diff(first, axis=1)) > 0.1
    assert 0.05 < jumps.mean() < 0.5
    # The same discs: edges of both maps coincide.
    both = jumps & (np.abs(np.diff(second, axis=1)) > 0.1)
    assert both.sum() > 0.6 * jumps.sum()


def test_stretch_of_a_flat_image_is_transparent() -> None:
    assert (stretch(np.full((4, 4), 3.0)) == 1).all()
    assert stretch(np.array([[1.0, 3.0, 2.0]])).tolist() == [[0.0, 1.0, 0.5]]
