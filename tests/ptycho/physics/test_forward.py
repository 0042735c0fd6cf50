"""From exit wave to counts: unitary, band-limited shifts, modes that add as intensities, and what leaves the counts
alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import forward_reference as reference
from diptych.ptycho.physics.forward import (
    ForwardModel,
    exit_waves,
    expected_counts,
    shifted_modes,
)
from diptych.ptycho.physics.patches import canvas_box, cut
from diptych.ptycho.physics.propagators import CORNERED, FarField, shift_probe

SIZES = [16, 17]
DTYPES = {torch.complex64: 1e-5, torch.complex128: 1e-12}


def noise(seed: int, *shape: int, dtype: torch.dtype = torch.complex128) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=shape) + 1j * rng.normal(size=shape)).to(dtype)


def gaussian(size: int, y: float, x: float, width: float = 2.0) -> torch.Tensor:
    """exp(-r^2 / (2 width^2)) about (size // 2 + y, size // 2 + x), summed over periodic copies: smooth, and
    band-limited to rounding."""
    axis = np.arange(size) - size // 2
    copies = np.arange(-3, 4)[:, None] * size
    profile = [np.exp(-((axis - at + copies) ** 2) / (2 * width**2)).sum(0) for at in (y, x)]
    return torch.from_numpy(np.outer(*profile)).to(torch.complex128)


def centred(wave: torch.Tensor) -> FarField:
    return FarField.centred(wave.shape[-1], wave.dtype, wave.device)


def intensities(
    probe: torch.Tensor,
    patches: torch.Tensor,
    fractions: torch.Tensor | None = None,
    background: torch.Tensor | None = None,
) -> torch.Tensor:
    modes = probe if fractions is None else shift_probe(probe, fractions)
    return expected_counts(modes, patches, background, centred(probe))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["centred", "cornered"])
def test_propagation_is_unitary_and_both_parts_have_their_adjoint(size: int, dtype: torch.dtype, layout: str) -> None:
    wave, field = noise(0, 3, size, size, dtype=dtype), noise(1, 3, size, size, dtype=dtype)
    tolerance = DTYPES[dtype]
    propagator = centred(wave) if layout == "centred" else CORNERED
    there = propagator.forward(propagator.enter(wave))
    torch.testing.assert_close(there.abs().square().sum(), wave.abs().square().sum(), rtol=tolerance, atol=0)
    back = propagator.leave(propagator.adjoint(there.clone()))
    torch.testing.assert_close(back, wave, rtol=0, atol=tolerance * 5)
    left = torch.vdot(field.flatten(), there.flatten())
    right = torch.vdot(propagator.leave(propagator.adjoint(field.clone())).flatten(), wave.flatten())
    assert abs(left - right) <= tolerance * float(field.norm() * wave.norm())


@pytest.mark.parametrize("size", SIZES)
def test_far_field_is_the_centred_orthonormal_transform_of_the_counts(size: int) -> None:
    """Against the defining sum: zero frequency at [N // 2, N // 2], forward sign -. Only the phases are free."""
    wave = noise(2, size, size)
    axis = np.arange(size) - size // 2
    kernel = torch.from_numpy(np.exp(-2j * np.pi * np.outer(axis, axis) / size) / np.sqrt(size))
    found = centred(wave).forward(centred(wave).enter(wave))
    torch.testing.assert_close(found.abs(), (kernel @ wave @ kernel.T).abs(), rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(reference.propagate(wave), kernel @ wave @ kernel.T, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("size", SIZES)
def test_all_layouts_and_both_interfaces_are_one_model(size: int) -> None:
    """Functions and batches, centred and cornered, sub-pixel shifts, modes and background: the reference formula."""
    rng = np.random.default_rng(20)
    positions, probe = rng.uniform(20, 30, (6, 2)), noise(21, 2, size, size)
    origin, shape = canvas_box(positions, size, 1)
    canvas, background = noise(22, *shape), torch.from_numpy(rng.uniform(1, 2, (size, size)))
    patches = cut(canvas, positions, size, origin=origin)
    fractions = torch.from_numpy(positions - np.floor(positions + 0.5))
    wanted = reference.intensities(probe, patches, fractions, background)
    model = ForwardModel.far_field(
        positions, size, origin, shape, dtype=canvas.dtype, device=canvas.device, background=background
    )
    by_batches = [model.detect(model.views(canvas, probe, b).exit_waves())[1] for b in (np.arange(4), np.arange(4, 6))]
    torch.testing.assert_close(torch.cat(by_batches), wanted, rtol=1e-11, atol=1e-11)
    modes = shifted_modes(probe, positions[:, None])[:, 0]
    torch.testing.assert_close(expected_counts(modes, patches, background, centred(probe)), wanted)
    cornered = expected_counts(modes, patches, torch.fft.ifftshift(background))
    torch.testing.assert_close(torch.fft.fftshift(cornered, dim=(-2, -1)), wanted, rtol=1e-11, atol=1e-11)


def test_expected_counts_are_differentiable_in_probe_and_object() -> None:
    modes, patches = noise(23, 1, 2, 5, 5).requires_grad_(), noise(24, 3, 5, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda m, p: expected_counts(m, p), (modes, patches))


@pytest.mark.parametrize("size", SIZES)
def test_a_flat_wave_focuses_on_zero_frequency(size: int) -> None:
    pattern = intensities(
        torch.ones(1, size, size, dtype=torch.complex128), torch.ones(1, size, size, dtype=torch.complex128)
    )
    expected = torch.zeros_like(pattern)
    expected[0, size // 2, size // 2] = size**2
    torch.testing.assert_close(pattern, expected, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("size", SIZES)
def test_a_phase_ramp_moves_the_pattern_the_way_its_frequency_says(size: int) -> None:
    y, x = np.mgrid[:size, :size]
    ramp = torch.from_numpy(np.exp(2j * np.pi * (3 * y - 2 * x) / size))
    pattern = intensities(torch.ones(1, size, size, dtype=torch.complex128), ramp[None])[0]
    assert divmod(int(pattern.argmax()), size) == (size // 2 + 3, size // 2 - 2)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shift", [(0.0, 0.0), (1.0, -2.0), (-3.0, 5.0)])
def test_a_whole_shift_of_the_probe_is_a_roll(size: int, shift: tuple[float, float]) -> None:
    probe = noise(3, 2, size, size)
    moved = shift_probe(probe, torch.tensor([shift], dtype=torch.float64))
    torch.testing.assert_close(
        moved[0], torch.roll(probe, (int(shift[0]), int(shift[1])), (-2, -1)), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shift", [(0.3, -0.45), (-0.5, 0.1)])
def test_a_sub_pixel_shift_moves_a_gaussian_where_the_formula_has_it(size: int, shift: tuple[float, float]) -> None:
    moved = shift_probe(gaussian(size, 1.0, -2.0)[None], torch.tensor([shift], dtype=torch.float64))[0, 0]
    torch.testing.assert_close(moved, gaussian(size, 1.0 + shift[0], -2.0 + shift[1]), rtol=0, atol=1e-7)


@pytest.mark.parametrize("size", SIZES)
def test_sub_pixel_shifts_compose_and_keep_the_power(size: int) -> None:
    field = noise(4, 1, size, size)
    if size % 2 == 0:
        field[:, 0], field[:, :, 0] = 0, 0
    probe = torch.fft.ifft2(torch.fft.ifftshift(field, dim=(-2, -1)), norm="ortho")
    first, second = torch.tensor([[0.3, -0.2]], dtype=torch.float64), torch.tensor([[-0.45, 0.4]], dtype=torch.float64)
    once = shift_probe(probe, first)[0]
    torch.testing.assert_close(shift_probe(once, second), shift_probe(probe, first + second), rtol=0, atol=1e-12)
    torch.testing.assert_close(once.abs().square().sum(), probe.abs().square().sum(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("size", SIZES)
def test_a_shifted_real_probe_stays_real(size: int) -> None:
    real = noise(5, 1, size, size).real.to(torch.complex128)
    assert float(shift_probe(real, torch.tensor([[0.37, -0.21]], dtype=torch.float64)).imag.abs().max()) < 1e-12


def test_moving_the_probe_and_the_object_together_leaves_the_counts() -> None:
    """The positions fix only the distance between probe and object: a pixel more in one and a pixel more in the other
    is the same."""
    probe, canvas = gaussian(16, 0, 0, width=0.8)[None], noise(6, 40, 40)
    positions = np.array([[15.0, 16.0], [20.0, 18.0]])
    here = intensities(probe, cut(canvas, positions, 16))
    moved = torch.roll(probe, (2, -1), (-2, -1))
    there = intensities(moved, cut(torch.roll(canvas, (2, -1), (0, 1)), positions, 16))
    torch.testing.assert_close(there, here, rtol=1e-8, atol=1e-8)


def test_what_the_counts_leave_free() -> None:
    """Global phase of each factor, scale between them, and a phase ramp on the object against the opposite one on the
    probe."""
    probe, canvas = noise(7, 2, 16, 16), noise(8, 30, 30)
    positions = np.array([[10.0, 12.0], [18.0, 9.0], [14.0, 17.0]])
    counts = intensities(probe, cut(canvas, positions, 16))
    y, x = np.mgrid[:30, :30].astype(float)
    ramp = torch.from_numpy(np.exp(1j * (0.21 * y - 0.13 * x)))
    for factor, on_probe in ((np.exp(0.7j), 1.0), (1.0, np.exp(-2.1j)), (4.0, 0.25)):
        torch.testing.assert_close(
            intensities(probe * on_probe, cut(canvas * factor, positions, 16)), counts, rtol=1e-11, atol=1e-11
        )
    torch.testing.assert_close(
        intensities(probe * ramp[:16, :16].conj(), cut(canvas * ramp, positions, 16)), counts, rtol=1e-11, atol=1e-11
    )


def test_scaling_the_probe_scales_the_counts_by_its_square() -> None:
    probe, patches = noise(9, 1, 12, 12), noise(10, 3, 12, 12)
    torch.testing.assert_close(intensities(3j * probe, patches), 9 * intensities(probe, patches))


@pytest.mark.parametrize("fractions", [None, [[0.2, -0.4], [0.0, 0.5]]])
def test_modes_add_as_intensities_and_the_background_on_top(fractions: list[list[float]] | None) -> None:
    probe, patches = noise(11, 3, 16, 16), noise(12, 2, 16, 16)
    moves = None if fractions is None else torch.tensor(fractions, dtype=torch.float64)
    background = torch.from_numpy(np.random.default_rng(13).uniform(1, 2, (16, 16)))
    together = intensities(probe, patches, moves, background)
    apart = torch.stack([intensities(mode[None], patches, moves) for mode in probe]).sum(0)
    torch.testing.assert_close(together, apart + background, rtol=1e-12, atol=1e-12)
    fields = reference.propagate(exit_waves(probe if moves is None else shift_probe(probe, moves), patches).sum(1))
    assert not torch.allclose(apart, fields.abs().square()), "modes must not interfere"


def test_a_unitary_mixture_of_modes_leaves_the_counts() -> None:
    probe, patches = noise(14, 3, 16, 16), noise(15, 2, 16, 16)
    unitary = torch.linalg.qr(noise(16, 3, 3)).Q
    mixed = torch.einsum("ij,jyx->iyx", unitary, probe)
    torch.testing.assert_close(intensities(mixed, patches), intensities(probe, patches), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("size", SIZES)
def test_a_transparent_object_passes_every_photon_of_the_probe(size: int) -> None:
    probe = noise(17, 2, size, size)
    pattern = intensities(probe, torch.ones(1, size, size, dtype=torch.complex128))
    torch.testing.assert_close(pattern.sum(), probe.abs().square().sum(), rtol=1e-12, atol=0)
    torch.testing.assert_close(pattern[0], reference.propagate(probe).abs().square().sum(0), rtol=1e-12, atol=1e-12)


def test_dtypes_are_kept() -> None:
    probe, patches = noise(18, 1, 8, 8, dtype=torch.complex64), noise(19, 2, 8, 8, dtype=torch.complex64)
    assert intensities(probe, patches).dtype == torch.float32
    assert shift_probe(probe, torch.tensor([[0.1, 0.2]], dtype=torch.float64)).dtype == torch.complex64
