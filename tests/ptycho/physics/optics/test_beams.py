"""Probes from the parameters of the optics: known answers."""

import numpy as np
import pytest

from diptych.errors import InputError
from diptych.ptycho.physics.optics.beams import convergent_beam, kb_beam, zone_plate_beam
from diptych.ptycho.physics.probe import from_pupil, probe_diameter, to_pupil

SIZE, PIXEL, WAVE = 128, (4e-10, 4e-10), 1.97e-12
ANGLE = 1e-3


def test_the_pupil_is_a_disc_of_the_semi_angle_and_the_energy_is_one() -> None:
    probe = convergent_beam(SIZE, PIXEL, WAVE, ANGLE, 1e-5, {"C30": 1e-3})
    assert (np.abs(probe) ** 2).sum() == pytest.approx(1, rel=1e-5)
    area = (np.abs(to_pupil(probe[0])) > 0.5 * np.abs(to_pupil(probe[0])).max()).sum()
    assert area == pytest.approx(np.pi * (ANGLE * SIZE * PIXEL[0] / WAVE) ** 2, rel=0.05)


def test_the_beam_at_a_large_defocus_is_as_wide_as_geometry_says() -> None:
    probe = convergent_beam(SIZE, PIXEL, WAVE, ANGLE, 1.6e-5)
    expected = 2 * ANGLE * 1.6e-5 / PIXEL[0]
    assert probe_diameter(probe, 0.9) == pytest.approx(expected * np.sqrt(0.9), rel=0.1)


def test_defocus_is_free_space_propagation_downstream() -> None:
    y, x = (np.mgrid[:SIZE, :SIZE] - SIZE // 2) / (SIZE * PIXEL[0])
    start = to_pupil(convergent_beam(SIZE, PIXEL, WAVE, ANGLE, 4e-6)[0])
    moved = from_pupil(start * np.exp(-1j * np.pi * WAVE * 5e-6 * (y**2 + x**2)))
    np.testing.assert_allclose(moved, convergent_beam(SIZE, PIXEL, WAVE, ANGLE, 9e-6)[0], atol=1e-6)


def test_astigmatism_adds_to_the_defocus_along_x_and_cancels_it_along_y() -> None:
    probe = convergent_beam(SIZE, PIXEL, WAVE, ANGLE, 4e-6, {"C12": 4e-6})
    energy = np.abs(probe[0]) ** 2
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    assert (energy * x**2).sum() > 4 * (energy * y**2).sum()


def test_a_zone_plate_has_the_numerical_aperture_of_its_outermost_zone() -> None:
    probe = zone_plate_beam(128, (2e-8, 2e-8), 1e-10, 1e-4, 1e-7, stop_m=4e-5)
    expected = convergent_beam(128, (2e-8, 2e-8), 1e-10, 1e-10 / 2e-7, inner_angle_rad=0.4 * 1e-10 / 2e-7)
    np.testing.assert_allclose(probe, expected, atol=1e-6)


def test_kb_mirrors_have_an_aperture_and_a_defocus_for_each_axis() -> None:
    pupil = np.abs(to_pupil(kb_beam(64, (2e-8, 2e-8), 1e-10, (5e-4, 1e-3), (1e-4, 0.0))[0]))
    pupil = pupil > 0.5 * pupil.max()
    assert pupil.any(axis=1).sum() == 13
    assert pupil.any(axis=0).sum() == 25


@pytest.mark.parametrize(
    ("angle", "downstream", "aberrations", "found"),
    [(9e-3, 0, {}, "semi-angle"), (ANGLE, 1e-3, {}, "wide"), (ANGLE, 0, {"Cs": 1.0}, "aberration 'Cs'")],
)
def test_what_would_alias_or_is_unknown_is_refused(
    angle: float, downstream: float, aberrations: dict[str, float], found: str
) -> None:
    with pytest.raises(InputError, match=found):
        convergent_beam(SIZE, PIXEL, WAVE, angle, downstream, aberrations)
