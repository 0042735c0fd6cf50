"""Incoherent modes: orthogonal starts of the promised power, and an orthogonal form that changes no count."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diptych.errors import InputError
from diptych.ptycho.physics.modes import extra_modes, orthogonal_modes, scaled_to, start_modes


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.complex128) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=shape) + 1j * rng.normal(size=shape)).to(dtype)


def beam(size: int = 24) -> torch.Tensor:
    y, x = np.mgrid[:size, :size] - size / 2 + 1.5
    return torch.from_numpy(30 * np.exp(-(y**2 / 30 + x**2 / 18) * (1 - 0.6j)))[None]


def gram(modes: torch.Tensor) -> torch.Tensor:
    flat = modes.flatten(1)
    return flat.conj() @ flat.T


def assert_orthogonal(modes: torch.Tensor, tolerance: float) -> None:
    products = gram(modes)
    off = products - torch.diag(torch.diag(products))
    assert float(off.abs().max()) <= tolerance * float(products.abs().max())


@pytest.mark.parametrize("modes", [2, 3, 7, 12])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.complex64, 1e-5), (torch.complex128, 1e-12)])
def test_extra_modes_start_orthogonal_with_5_percent_of_the_power(
    modes: int, dtype: torch.dtype, tolerance: float
) -> None:
    probe = beam().to(dtype)
    started = start_modes(probe, modes)
    power = started.abs().square().sum((1, 2))
    assert started.shape == (modes, 24, 24)
    assert_orthogonal(started, tolerance)
    assert float(power.sum()) == pytest.approx(float(probe.abs().square().sum()), rel=1e-5)
    assert float(power[1:].sum() / power.sum()) == pytest.approx(0.05, rel=1e-4)
    torch.testing.assert_close(started[0] / started[0].norm(), probe[0] / probe[0].norm())


def test_extra_modes_join_those_given() -> None:
    given = torch.cat([beam(), 0.2 * noise(1, 24, 24)])
    started = start_modes(given, 4)
    assert_orthogonal(started, 1e-10)
    assert float(started.abs().square().sum()) == pytest.approx(float(given.abs().square().sum()), rel=1e-10)
    assert float(started[2:].abs().square().sum() / started.abs().square().sum()) == pytest.approx(0.05, rel=1e-6)


def test_too_many_modes_are_cut_to_the_strongest_and_the_power_kept() -> None:
    given = torch.cat([0.1 * noise(1, 24, 24, seed=1), beam(), 0.3 * noise(1, 24, 24, seed=2)])
    kept = start_modes(given, 1)
    assert kept.shape == (1, 24, 24)
    assert float(kept.norm()) == pytest.approx(float(given.norm()), rel=1e-10)
    overlap = torch.vdot(kept.flatten(), beam().flatten()).abs() / (kept.norm() * beam().norm())
    assert float(overlap) > 0.99


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.complex64, 1e-5), (torch.complex128, 1e-12)])
def test_orthogonal_modes_change_no_count(dtype: torch.dtype, tolerance: float) -> None:
    """Strongest first, and the incoherent sum of every field that the modes make stays as it was."""
    probe, patch = noise(4, 16, 16, seed=3, dtype=dtype), noise(16, 16, seed=4, dtype=dtype)
    turned = orthogonal_modes(probe)
    assert_orthogonal(turned, tolerance)
    power = turned.abs().square().sum((1, 2))
    assert bool((power[:-1] >= power[1:]).all())
    before, after = (torch.fft.fft2(p * patch, norm="ortho").abs().square().sum(0) for p in (probe, turned))
    torch.testing.assert_close(after, before, rtol=20 * tolerance, atol=20 * tolerance)


def test_modes_that_are_orthogonal_already_stay_but_for_their_phase() -> None:
    started = start_modes(beam(), 3)
    again = orthogonal_modes(torch.stack([started[2] * 0.5, started[0] * 1j, started[1]]))
    for mine, wanted in zip(again, (started[0], started[1], started[2] * 0.5), strict=True):
        assert float(torch.vdot(mine.flatten(), wanted.flatten()).abs()) == pytest.approx(
            float(wanted.norm()) ** 2, rel=1e-8
        )


def test_a_single_mode_is_left_alone() -> None:
    assert torch.equal(orthogonal_modes(beam()), beam())
    torch.testing.assert_close(start_modes(beam(), 1), beam())


def test_scaling_sets_the_photons_and_keeps_the_shares_of_the_modes() -> None:
    probe = noise(3, 12, 12)
    scaled = scaled_to(probe, 1e5)
    assert float(scaled.abs().square().sum()) == pytest.approx(1e5, rel=1e-12)
    torch.testing.assert_close(scaled / scaled.norm(), probe / probe.norm())


def skewed_beam(size: int = 32, radius: float = 6.0, y: float = 1.5, x: float = -2.0) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size] - size // 2
    return np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / radius**2 + 0.05j * rows * columns)


@pytest.mark.parametrize("given", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_extra_modes_are_orthonormal_and_orthogonal_to_the_given_ones(given: int, count: int) -> None:
    rng = np.random.default_rng(0)
    # Given modes that are neither orthogonal nor normalised.
    probe = 5 * skewed_beam() * (1 + rng.normal(size=(given, 1, 1)) * np.linspace(-1, 1, 32))
    new = extra_modes(probe, count)
    assert new.shape == (count, 32, 32)
    gram = np.einsum("ayx,byx->ab", new, new.conj())
    np.testing.assert_allclose(gram, np.eye(count), atol=1e-12)
    np.testing.assert_allclose(np.einsum("ayx,byx->ab", new, probe.conj()), 0, atol=1e-10)


def test_a_mode_that_is_there_already_is_not_made_again() -> None:
    x = np.arange(32) - 16
    envelope = np.exp(-(x**2) / 36.0)
    ground, along_x = np.outer(envelope, envelope), np.outer(envelope, x * envelope)
    (along_y,) = extra_modes(np.stack([ground, along_x]), 1)
    expected = along_x.T / np.linalg.norm(along_x)
    assert abs(np.vdot(along_y, expected)) == pytest.approx(1, abs=1e-9)


def test_a_probe_of_one_pixel_has_no_more_modes() -> None:
    probe = np.zeros((1, 8, 8), complex)
    probe[0, 4, 4] = 1
    with pytest.raises(InputError, match="too small for 2 more modes"):
        extra_modes(probe, 2)
