"""A probe that varies: adjoints by dot products, gauge, and the model it reduces to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diptych.ptycho.physics.forward import ForwardModel
from diptych.ptycho.physics.varying.probe import Variation, VaryingForward, canonical, normalised, shares, varies

SIZE, PATTERNS, MODES, COMPONENTS = 8, 5, 2, 2


def drawn(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.from_numpy(rng.normal(size=shape) + 1j * rng.normal(size=shape))


def model(subpixel: bool) -> tuple[VaryingForward, np.random.Generator]:
    rng = np.random.default_rng(3)
    positions = rng.uniform(6, 10, (PATTERNS, 2))
    positions = positions if subpixel else np.rint(positions)
    plain = ForwardModel.far_field(
        positions, SIZE, (0, 0), (20, 20), dtype=torch.complex128, device=torch.device("cpu"), subpixel=subpixel
    )
    return VaryingForward.of(plain), rng


def dot(a: torch.Tensor, b: torch.Tensor) -> complex:
    return complex((a.conj() * b).sum())


@pytest.mark.parametrize("subpixel", [False, True])
def test_adjoints_are_those_of_the_model(subpixel: bool) -> None:
    forward, rng = model(subpixel)
    image, probe, components = drawn(rng, 20, 20), drawn(rng, MODES, SIZE, SIZE), drawn(rng, COMPONENTS, SIZE, SIZE)
    weights, waves = drawn(rng, PATTERNS, COMPONENTS + 1), drawn(rng, PATTERNS, MODES, SIZE, SIZE)
    batch = np.arange(PATTERNS)
    forward.variation = Variation(probe[0], components, weights)
    views = forward.views(image, probe, batch)
    both, in_weights = forward.varied_adjoint(views, waves.clone())
    canvas = torch.zeros_like(image)
    forward.add_object_adjoint(views, waves.clone(), canvas)
    made = dot(waves, views.exit_waves())
    # The exit waves are linear in the object, in probe and components, and (but for the other mode) in the weights.
    assert dot(canvas, image) == pytest.approx(made, rel=1e-10)
    assert dot(both, torch.cat([probe, components])) == pytest.approx(made, rel=1e-10)
    others = dot(waves[:, 1:], views.exit_waves()[:, 1:])
    assert dot(in_weights, weights) == pytest.approx(made - others, rel=1e-10)
    # The adjoint that other stages use is that of the probe alone.
    torch.testing.assert_close(forward.probe_adjoint(views, waves.clone()), both[:MODES])


@pytest.mark.parametrize("subpixel", [False, True])
def test_exit_waves_are_those_of_each_patterns_probe(subpixel: bool) -> None:
    forward, rng = model(subpixel)
    image, probe, components = drawn(rng, 20, 20), drawn(rng, MODES, SIZE, SIZE), drawn(rng, COMPONENTS, SIZE, SIZE)
    mixing = drawn(rng, PATTERNS, COMPONENTS + 1)
    variation = Variation.of(probe[0], components, mixing)
    forward.variation = variation
    found = forward.views(image, probe, np.arange(PATTERNS)).exit_waves()
    scaled = forward.views(image, 3 * probe, np.arange(PATTERNS)).exit_waves()
    torch.testing.assert_close(scaled, 3 * found)
    forward.variation = None
    assert not varies(forward)
    for j in range(PATTERNS):
        now = probe.clone()
        now[0] = torch.einsum("k,kyx->yx", variation.coefficients[j], torch.cat([probe[:1], components]))
        assert float(now[0].norm()) == pytest.approx(float(probe[0].norm()))
        torch.testing.assert_close(found[j], forward.views(image, now, np.array([j])).exit_waves()[0])


def test_the_gauge_keeps_every_patterns_probe() -> None:
    rng = np.random.default_rng(4)
    first, components, mixing = drawn(rng, SIZE, SIZE), drawn(rng, 2, SIZE, SIZE), drawn(rng, 40, 3)
    mixing[:, 0] += 5
    made, shapes, weights = canonical(first, components, mixing)

    def probes(basis: torch.Tensor, amounts: torch.Tensor) -> torch.Tensor:
        found = amounts @ basis.flatten(1)
        return found * torch.exp(-1j * (found @ basis[0].conj().flatten()).angle())[:, None]

    basis = torch.cat([made[None], shapes])
    old = normalised(first, components, mixing) @ torch.cat([first[None], components]).flatten(1)
    old = old * torch.exp(-1j * (old @ made.conj().flatten()).angle())[:, None]
    torch.testing.assert_close(probes(basis, weights), old)
    gram = basis.flatten(1).conj() @ basis.flatten(1).T
    torch.testing.assert_close(gram, torch.diag(gram.diagonal()), atol=1e-9, rtol=0)
    torch.testing.assert_close(weights[:, 1:].abs().square().mean(0), torch.ones(2, dtype=torch.float64))
    assert float(made.norm()) == pytest.approx(float(first.norm()))
    one, two = shares(made, shapes)
    assert one >= two > 0
    assert one + two + float(weights[:, 0].abs().square().mean()) == pytest.approx(1)
