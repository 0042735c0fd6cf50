"""The preconditioner of maximum likelihood: what L-BFGS asks of it, and that slow phases cost as many steps as fast
ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings, MaximumLikelihood, joined
from diptych.ptycho.engines.likelihood.preconditioner import (
    Preconditioner,
    _laplace_solution_by_fft,
    laplace_solution,
)
from diptych.ptycho.engines.problem import make_problem
from diptych.ptycho.physics.patches import canvas_box, cut
from diptych.ptycho.scan import Scan
from forward_reference import intensities


def noise(like: torch.Tensor, seed: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=like.shape) + 1j * rng.normal(size=like.shape)).to(like.dtype)


def inner(a: list[torch.Tensor], b: list[torch.Tensor]) -> float:
    return sum(float(torch.vdot(x.flatten(), y.flatten()).real) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("kind", [{}, {"modes": 2, "subpixel": True, "size": 11}, {"background": 5.0, "masked": 0.2}])
def test_symmetric_positive_and_linear_over_the_reals(make_case: Any, kind: dict[str, Any]) -> None:
    case = make_case(**kind)
    precondition = Preconditioner(case.problem, case.image, case.probe, 0.02)
    a, b = ([noise(case.image, s), noise(case.probe, s + 1)] for s in (1, 3))
    there, back = (inner(x, precondition(case.image, y)) for x, y in ((a, b), (b, a)))
    assert there == pytest.approx(back, rel=1e-9)
    assert inner(a, precondition(case.image, a)) > 0
    both = precondition(case.image, [2 * x - y for x, y in zip(a, b, strict=True)])
    for found, x, y in zip(both, precondition(case.image, a), precondition(case.image, b), strict=True):
        torch.testing.assert_close(found, 2 * x - y)


@pytest.mark.parametrize("solution", [laplace_solution, _laplace_solution_by_fft], ids=["cosines", "fft"])
@pytest.mark.parametrize("shape", [(12, 17), (31, 8)])
def test_laplace_solution_of_cosines(shape: tuple[int, int], solution: Any) -> None:
    """cos(pi a (y + 1/2) / h) cos(pi b (x + 1/2) / w) over the square of its angular frequency; a mean has none."""
    y, x = (torch.arange(n, dtype=torch.float64) + 0.5 for n in shape)
    force, wanted = torch.full(shape, 3.0, dtype=torch.float64), torch.zeros(shape, dtype=torch.float64)
    for a, b in ((0, 1), (2, 0), (3, 5), (shape[0] - 1, shape[1] - 1)):
        one = torch.outer(torch.cos(np.pi * a * y / shape[0]), torch.cos(np.pi * b * x / shape[1]))
        force += one
        wanted += one / ((np.pi * a / shape[0]) ** 2 + (np.pi * b / shape[1]) ** 2)
    torch.testing.assert_close(solution(force), wanted, rtol=1e-9, atol=1e-9)


def test_state_comes_back_exactly(make_case: Any) -> None:
    case = make_case()
    precondition = Preconditioner(case.problem, case.image, case.probe, 0.02)
    other = Preconditioner(case.problem, 2 * case.image, 3 * case.probe, 0.1)
    other.restore({name: tensor.clone() for name, tensor in precondition.state().items()})
    gradient = [noise(case.image, 1), noise(case.probe, 2)]
    for found, wanted in zip(other(case.image, gradient), precondition(case.image, gradient), strict=True):
        assert torch.equal(found, wanted)


@pytest.fixture(scope="module")
def wide() -> tuple[Any, torch.Tensor, torch.Tensor]:
    """A clear object much wider than the probe, without noise."""
    size = 16
    grid = np.stack(np.meshgrid(np.arange(18), np.arange(18), indexing="ij"), -1).reshape(-1, 2)
    positions = 4.0 * grid + np.random.default_rng(1).integers(-1, 2, grid.shape) + 20
    origin, shape = canvas_box(positions, size, 2)
    y, x = np.mgrid[:size, :size] - size // 2
    probe = torch.from_numpy(300 * np.exp(-(y**2 + x**2) * (0.06 - 0.08j)))[None]
    image = torch.ones(shape, dtype=torch.complex128)
    counts = intensities(probe, cut(image, positions, size, origin=origin), None).numpy()
    scan = Scan(counts.astype(np.float64), positions, probe.numpy().astype(np.complex64))
    problem = make_problem(scan, device=torch.device("cpu"), double=True, subpixel=False, held_out=0.0, seed=0)
    return problem, image, probe


def test_slow_phases_are_as_well_conditioned_as_fast_ones(wide: Any) -> None:
    """Newton's step for a phase of one cycle over the object and for one of four: the diagonal alone is off by an order
    between them."""
    problem, image, probe = wide
    settings = LikelihoodSettings(dark=0.0, refine_probe=False)
    precondition = Preconditioner(problem, image, probe, 0.02)
    start = MaximumLikelihood(problem, image, probe, settings)
    lit = problem.forward.illumination(probe)
    x = torch.arange(image.shape[1], dtype=torch.float64)[None] / image.shape[1]
    plain, preconditioned = [], []
    for cycles in (1, 4):
        phase = torch.cos(2 * np.pi * cycles * x).expand(image.shape)
        small = 1e-4
        gradient = start._evaluate(joined([image * torch.exp(1j * small * phase), probe]))[1]
        bend = start._parts((gradient - start._gradient) / small)
        wave = 1j * phase * image
        for steps, kind in (
            (plain, [bend[0] / (lit + 0.02 * lit.max()), bend[1]]),
            (preconditioned, precondition(image, bend)),
        ):
            steps.append(inner([wave], [kind[0]]) / inner([wave], [wave]))
    assert plain[1] > 8 * plain[0]
    assert max(preconditioned) < 3 * min(preconditioned)


def test_slow_phases_come_in_early(wide: Any) -> None:
    """From a saddle of slow phase, ten steps: the rms phase error falls to a tenth, where the diagonal alone leaves
    more than a third."""
    problem, image, probe = wide
    y, x = (torch.linspace(-1, 1, n, dtype=torch.float64) for n in image.shape)
    saddle = 0.3 * (y[:, None] * x[None])
    lit = problem.forward.illumination(probe) > 0.3 * problem.forward.illumination(probe).max()

    def left(weight: float) -> float:
        engine = MaximumLikelihood(
            problem, image * torch.exp(1j * saddle), probe, LikelihoodSettings(dark=0.0, refine_probe=False)
        )
        engine._precondition._softness *= weight
        for _ in range(10):
            engine.epoch()
        phase = torch.angle(engine.image)[lit]
        return float(phase.std())

    assert left(1.0) < 0.1 * float(saddle[lit].std())
    assert left(0.0) > 0.3 * float(saddle[lit].std())
