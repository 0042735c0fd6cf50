"""Groups of patterns: the overlap constraint and the modulus correction."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import diptych
from diptych.ptycho.physics.forward import expected_counts, intensity, shifted_modes
from diptych.ptycho.physics.groups import Layout, modulus_correction
from diptych.ptycho.physics.patches import cut, gather, spread

N = 32


def scan(**options: object) -> diptych.Scan:
    return diptych.simulate(
        object="dead-leaves", size=N, patterns=36, step=4.0, dose=1e5, noise="none", seed=3, **options
    )


def members(positions: np.ndarray, groups: int = 5, count: int = 4) -> np.ndarray:
    distance = ((positions[:, None] - positions[None]) ** 2).sum(-1)
    return np.argsort(distance, axis=1, kind="stable")[3 : 3 + groups, :count]


def true_patches(made: diptych.Scan, chosen: np.ndarray) -> torch.Tensor:
    assert made.truth is not None
    values = torch.from_numpy(made.truth.values)
    return cut(values, made.positions[chosen.reshape(-1)], N, origin=made.truth.origin).reshape(*chosen.shape, N, N)


def test_spread_and_gather_are_adjoint_and_differentiable() -> None:
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 20, (7, 2))
    patches = torch.randn(7, 8, 8, dtype=torch.complex128, requires_grad=True)
    canvas = torch.randn(27, 27, dtype=torch.complex128, requires_grad=True)
    left = (spread(patches, corners, (27, 27)) * canvas.conj()).sum()
    right = (patches * gather(canvas, corners, 8).conj()).sum()
    assert abs(left - right) <= 1e-12 * abs(left)
    assert torch.autograd.gradcheck(lambda p: spread(p, corners, (27, 27)), patches)
    assert torch.autograd.gradcheck(lambda c: gather(c, corners, 8), canvas)


@pytest.mark.parametrize("integer", [True, False])
def test_averaging_true_patches_changes_nothing_and_they_predict_the_counts(integer: bool) -> None:
    made = scan(integer=integer)
    chosen = members(made.positions)
    assert made.true_probe is not None
    probe = torch.from_numpy(made.true_probe)
    modes = shifted_modes(probe, made.positions[chosen])
    patches = true_patches(made, chosen)
    weights = intensity(modes).expand(patches.shape)
    averaged = Layout.of(made.positions[chosen], N).average_overlaps(patches, weights)
    # Without illumination the average is not defined.
    lit = weights > 1e-6 * weights.max()
    torch.testing.assert_close(averaged[lit], patches[lit], rtol=1e-4, atol=1e-5)
    counts = torch.from_numpy(np.fft.ifftshift(made.counts[chosen], (-2, -1)).copy())
    torch.testing.assert_close(expected_counts(modes, averaged), counts, rtol=1e-3, atol=1e-3 * float(counts.mean()))


def test_a_constant_object_is_preserved_and_a_single_pattern_unchanged() -> None:
    positions = np.array([[[10.0, 10.0], [10.0, 14.0], [14.0, 10.0], [15.0, 15.0]]])
    weights = torch.rand(1, 4, N, N) + 0.1
    flat = torch.full((1, 4, N, N), 0.4 + 0.3j)
    torch.testing.assert_close(Layout.of(positions, N).average_overlaps(flat, weights), flat)
    alone = torch.randn(3, 1, N, N, dtype=torch.complex64)
    assert torch.equal(Layout.of(np.zeros((3, 1, 2)), N).average_overlaps(alone, torch.rand(3, 1, N, N)), alone)


def test_groups_do_not_mix_and_members_may_be_permuted() -> None:
    made = scan()
    chosen = members(made.positions)
    generator = torch.Generator().manual_seed(1)
    patches = torch.randn(*chosen.shape, N, N, dtype=torch.complex64, generator=generator)
    weights = torch.rand(patches.shape, generator=generator)
    averaged = Layout.of(made.positions[chosen], N).average_overlaps(patches, weights)
    alone = Layout.of(made.positions[chosen[2:3]], N).average_overlaps(patches[2:3], weights[2:3])
    torch.testing.assert_close(averaged[2:3], alone)
    order = [2, 0, 3, 1]
    permuted = Layout.of(made.positions[chosen[:, order]], N).average_overlaps(patches[:, order], weights[:, order])
    torch.testing.assert_close(permuted, averaged[:, order], rtol=1e-4, atol=1e-5)


def test_the_modulus_correction_vanishes_at_the_truth_and_improves_a_wrong_object() -> None:
    made = scan()
    chosen = members(made.positions)
    assert made.true_probe is not None
    modes = shifted_modes(torch.from_numpy(made.true_probe), made.positions[chosen])
    patches = true_patches(made, chosen)
    counts = torch.from_numpy(np.fft.ifftshift(made.counts[chosen], (-2, -1)).copy())
    weights = intensity(modes)
    assert (
        float((weights * modulus_correction(patches, modes, counts).abs()).sum() / (weights * patches.abs()).sum())
        < 1e-3
    )
    flat = torch.ones_like(patches)
    step = modulus_correction(flat, modes, counts)

    def misfit(image: torch.Tensor) -> float:
        return float((expected_counts(modes, image).sqrt() - counts.sqrt()).square().sum())

    assert misfit(flat + step) < 0.5 * misfit(flat)


def test_masked_pixels_correct_nothing_and_empty_pixels_have_a_gradient() -> None:
    modes = torch.randn(1, 1, 1, N, N, dtype=torch.complex64)
    patches = torch.ones(2, 1, N, N, dtype=torch.complex64, requires_grad=True)
    counts = torch.zeros(2, 1, N, N)
    nothing = modulus_correction(patches, modes, counts, valid=torch.zeros(N, N, dtype=torch.bool))
    assert float(nothing.detach().abs().max()) == 0
    (gradient,) = torch.autograd.grad(modulus_correction(patches, modes, counts).abs().sum(), patches)
    assert torch.isfinite(torch.view_as_real(gradient)).all()
