"""Fresnel propagation: against the diffraction integral of a diverging beam, unitary, with exact adjoints."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diptych import Geometry
from diptych.errors import InputError
from diptych.ptycho.physics.forward import ForwardModel
from diptych.ptycho.physics.patches import canvas_box
from diptych.ptycho.physics.propagators import FarField, propagator_of

SIZES = [16, 17]
NEAR = Geometry(12e3, 1.0, 50e-6, propagation="near", focus_distance_m=4e-3)
DOUBLE, CPU = torch.complex128, torch.device("cpu")


def noise(seed: int, *shape: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=shape) + 1j * rng.normal(size=shape))


def smooth_object(shape: tuple[int, int], moved: tuple[float, float] = (0.0, 0.0)) -> torch.Tensor:
    """An object (H, W) known at every place, ``moved`` by (y, x) pixels towards lower indices."""
    y, x = (torch.arange(n, dtype=torch.float64) + by for n, by in zip(shape, moved, strict=True))
    phase = 0.8 * torch.sin(y / 5)[:, None] + 0.5 * torch.cos(x / 4 + y[:, None] / 9)
    return torch.polar((0.8 + 0.2 * torch.cos(x / 6)).expand(shape), phase)


def narrow_modes(size: int) -> torch.Tensor:
    """Two probe modes (2, N, N) that neither reach the border nor hold the Nyquist frequency."""
    along = torch.arange(size, dtype=torch.float64) - size // 2
    line = torch.exp(-along.square() / (2 * (size / 12) ** 2))
    first = torch.polar(line[:, None] * line, 0.02 * along[:, None].square().expand(size, size))
    return torch.stack([first, 0.3 * along * first])


@pytest.mark.parametrize("remainder", [(0.0, 0.0), (0.25, 0.0), (0.3, -0.4), (0.5, 0.5)])
def test_between_pixels_the_object_moves_and_the_probe_stays(remainder: tuple[float, float]) -> None:
    size, shape = 48, (120, 120)
    geometry = Geometry(12e3, 0.05, 5e-7, propagation="near")
    propagator, probe = propagator_of(geometry, size, DOUBLE, CPU), narrow_modes(48)
    positions = np.array([[60.0, 61.0]]) + remainder
    model = ForwardModel.placed(propagator, positions, size, (0, 0), shape, dtype=DOUBLE, device=CPU)
    found = model.detect(model.views(smooth_object(shape), probe, np.arange(1)).exit_waves())[1][0]
    # The rounded half lies at the even pixel.
    whole = np.asarray(model.corners[0]) + size // 2
    moved = smooth_object(shape, tuple(positions[0] - whole))
    window = moved[whole[0] - size // 2 :, whole[1] - size // 2 :][:size, :size]
    wanted = propagator.forward(propagator.enter(probe) * window).abs().square().sum(0)
    assert float((found - wanted).abs().sum() / wanted.sum()) < 1e-3
    if any(remainder):
        unmoved = propagator.forward(model.views(smooth_object(shape), probe, np.arange(1)).modes[0] * window)
        assert float((unmoved.abs().square().sum(0) - wanted).abs().sum() / wanted.sum()) > 0.01


def test_magnification_and_effective_distance_of_a_diverging_beam() -> None:
    assert NEAR.magnification == pytest.approx(251)
    assert NEAR.effective_distance_m == pytest.approx(1 / (1 / 1.0 + 1 / 4e-3))
    assert NEAR.object_pixel_m(64) == pytest.approx((50e-6 / 251,) * 2)
    parallel = Geometry(12e3, 0.1, (1e-6, 2e-6), propagation="near")
    assert parallel.magnification == 1
    assert parallel.effective_distance_m == pytest.approx(0.1)
    assert parallel.object_pixel_m(64) == pytest.approx((1e-6, 2e-6))
    assert Geometry(12e3, 1.0, 50e-6).magnification is None


def test_counts_are_those_of_the_fresnel_integral_of_a_diverging_beam() -> None:
    """The wave times the curvature of a source at the focus, summed over Huygens' wavelets at each detector pixel."""
    size, wavelength, pixel = 96, NEAR.wavelength_m, NEAR.object_pixel_m(96)[0]
    axis, finer = np.arange(size) - size // 2, 16

    def wave(at: np.ndarray) -> np.ndarray:
        return np.exp(-(at**2) / (2 * 8.0**2)) * np.exp(1j * np.cos(at / 5.0))

    fine = np.arange(finer * size) / finer - size // 2
    at, seen, step = fine * pixel, axis * NEAR.detector_pixel_m[0], pixel / finer
    curved = wave(fine) * np.exp(1j * np.pi * at**2 / (wavelength * NEAR.focus_distance_m))
    kernel = np.exp(1j * np.pi * (seen[:, None] - at) ** 2 / (wavelength * NEAR.distance_m))
    line = np.abs(step * kernel @ curved) ** 2 * NEAR.magnification / (wavelength * NEAR.distance_m)
    propagator = propagator_of(NEAR, size, DOUBLE, CPU)
    both = torch.from_numpy(np.outer(wave(axis), wave(axis)))
    found = propagator.forward(propagator.enter(both)).abs().square()
    torch.testing.assert_close(found, torch.from_numpy(np.outer(line, line)), rtol=0, atol=1e-3 * line.max() ** 2)
    flat = both.abs().square()
    assert float((found - flat).abs().max()) > 0.1 * float(flat.max()), "the propagation changes nothing here"


@pytest.mark.parametrize("size", SIZES)
def test_a_point_far_from_the_centre_spreads_about_its_own_place(size: int) -> None:
    wave = torch.zeros(size, size, dtype=DOUBLE)
    wave[4, 9] = 1.0
    geometry = Geometry(12e3, 1e-3, 1e-6, propagation="near")
    propagator = propagator_of(geometry, size, DOUBLE, CPU)
    found = propagator.forward(propagator.enter(wave)).abs().square()
    assert divmod(int(found.argmax()), size) == (4, 9)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_propagation_is_unitary_and_both_parts_have_their_adjoint(size: int, dtype: torch.dtype) -> None:
    wave, field = noise(0, 3, size, size).to(dtype), noise(1, 3, size, size).to(dtype)
    tolerance = 1e-5 if dtype == torch.complex64 else 1e-12
    propagator = propagator_of(NEAR, size, dtype, CPU)
    there = propagator.forward(propagator.enter(wave))
    torch.testing.assert_close(there.abs().square().sum(), wave.abs().square().sum(), rtol=tolerance, atol=0)
    back = propagator.leave(propagator.adjoint(there.clone()))
    torch.testing.assert_close(back, wave, rtol=0, atol=tolerance * 5)
    left = torch.vdot(field.flatten(), there.flatten())
    right = torch.vdot(propagator.leave(propagator.adjoint(field.clone())).flatten(), wave.flatten())
    assert abs(left - right) <= tolerance * float(field.norm() * wave.norm())


@pytest.mark.parametrize("size", [32, 33])
def test_object_probe_and_shifts_have_exact_derivatives(size: int) -> None:
    """Re <field, d(detector field)> against differences, for the object, the probe and each shift."""
    positions = np.random.default_rng(2).uniform(20, 30, (5, 2))
    origin, shape = canvas_box(positions, size, 1)
    propagator = propagator_of(NEAR, size, DOUBLE, CPU)
    model = ForwardModel.placed(propagator, positions, size, origin, shape, dtype=DOUBLE, device=CPU)
    image, probe, target, batch = noise(3, *shape), noise(4, 2, size, size), noise(5, 5, 2, size, size), np.arange(5)
    by_image, by_probe, by_shift = noise(6, *shape), noise(7, 2, size, size), torch.ones(5, 2, dtype=torch.float64)

    def product(image: torch.Tensor, probe: torch.Tensor, shifts: torch.Tensor) -> float:
        field = propagator.forward(model.views(image, probe, batch, shifts).exit_waves())
        return float(torch.vdot(target.flatten(), field.flatten()).real)

    back = propagator.adjoint(target.clone())
    views, shifts = model.views(image, probe, batch), model.fractions
    canvas = torch.zeros_like(image)
    model.add_object_adjoint(views, back.clone(), canvas)
    in_probe, _ = model.probe_and_shift_adjoint(views, back.clone())
    assert float(torch.vdot(canvas.flatten(), by_image.flatten()).real) == pytest.approx(
        product(by_image, probe, shifts), rel=1e-9
    )
    assert float(torch.vdot(in_probe.flatten(), by_probe.flatten()).real) == pytest.approx(
        product(image, by_probe, shifts), rel=1e-9
    )
    # Waves without the Nyquist frequency, which stands for both signs and has no derivative along a shift.
    image, probe, step = smooth_object(shape), narrow_modes(size), 1e-5
    _, in_shifts = model.probe_and_shift_adjoint(model.views(image, probe, batch), back.clone())
    there, here = (product(image, probe, shifts + sign * step * by_shift) for sign in (1, -1))
    assert float(in_shifts.sum()) == pytest.approx((there - here) / (2 * step), rel=1e-4)


def test_without_a_geometry_the_field_is_far() -> None:
    assert isinstance(propagator_of(None, 16, DOUBLE, CPU), FarField)
    assert isinstance(propagator_of(Geometry(12e3), 16, DOUBLE, CPU), FarField)


def test_what_a_near_field_lacks_is_named() -> None:
    with pytest.raises(InputError, match=r"near field without distance_m.*--distance-m"):
        propagator_of(Geometry(12e3, None, 50e-6, propagation="near"), 16, DOUBLE, CPU)
    with pytest.raises(InputError, match="propagation"):
        Geometry(12e3, 1.0, 50e-6, propagation="middle")
    with pytest.raises(InputError, match=r"far field.*--propagation near"):
        Geometry(12e3, 1.0, 50e-6, focus_distance_m=4e-3)
    with pytest.raises(InputError, match="focus_distance_m"):
        Geometry(12e3, 1.0, 50e-6, propagation="near", focus_distance_m=-4e-3)
