"""The lattice that a raster leaves free between object and probe: moved back, where the probe shows it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import diptych
from diptych.ptycho.engines.problem import Problem, make_problem
from diptych.ptycho.engines.starts.lattice import lattice_steps, without_lattice
from diptych.ptycho.physics.patches import split
from diptych.ptycho.scan import Scan

STEP = 4


def grid(step: float = STEP, offset: float = 0.0) -> NDArray[np.float64]:
    """8 x 8 positions of an exact raster."""
    lines = step * np.arange(8) + 30 + offset
    return np.stack(np.meshgrid(lines, lines, indexing="ij"), -1).reshape(-1, 2)


def exact(positions: NDArray[np.float64], image: NDArray[np.complex128] | None = None) -> tuple[Scan, Problem]:
    """A scan at these positions, and its problem in double precision."""
    scan = diptych.simulate(
        object="blocks" if image is None else image, positions=positions, size=32, dose=1e5, margin=24, seed=3
    )
    problem = make_problem(
        scan, device=torch.device("cpu"), double=True, subpixel=True, held_out=0.0, seed=0, power=None
    )
    return scan, problem


def truth(scan: Scan, problem: Problem) -> tuple[Tensor, Tensor]:
    """The true object on the canvas of the problem, and the true probe."""
    image = problem.flat_object()
    assert scan.truth is not None
    assert scan.true_probe is not None
    y, x = np.subtract(problem.origin, scan.truth.origin)
    image[:] = torch.from_numpy(scan.truth.values)[y : y + image.shape[0], x : x + image.shape[1]]
    return image, torch.from_numpy(scan.true_probe).to(image.dtype)


def exchanged(problem: Problem, image: Tensor, probe: Tensor, size: float, step: float = STEP) -> tuple[Tensor, Tensor]:
    """Object and probe with a lattice of ``size`` (rms) exchanged between them."""

    def lattice(shape: torch.Size, centre: NDArray[np.float64]) -> Tensor:
        y, x = (2 * np.pi * (np.arange(n) - c) / step for n, c in zip(shape[-2:], centre, strict=True))
        values = 1 + size * (np.cos(y)[:, None] + 1j * np.sin(x) * np.ones((len(y), 1)))
        return torch.from_numpy(values)

    start = problem.forward.positions[0]
    return (
        image * lattice(image.shape, start - problem.origin),
        probe / lattice(probe.shape, np.full(2, problem.size // 2)),
    )


def patterns(problem: Problem, image: Tensor, probe: Tensor) -> Tensor:
    return problem.forward.detect(problem.forward.views(image, probe, np.arange(len(problem))).exit_waves())[1]


def distance(a: Tensor, b: Tensor) -> float:
    """Relative distance of two fields up to a factor."""
    factor = (b.conj() * a).sum() / b.abs().square().sum()
    return float((a - factor * b).abs().square().sum().sqrt() / a.abs().square().sum().sqrt())


@pytest.mark.parametrize("size", [0.03, 0.25])
def test_an_exchanged_lattice_returns_to_the_probe_and_no_pattern_changes(size: float) -> None:
    scan, problem = exact(grid())
    image, probe = truth(scan, problem)
    given = exchanged(problem, image, probe, size)
    assert distance(patterns(problem, *given), patterns(problem, image, probe)) < 1e-12
    *found, removed = without_lattice(problem, *given)
    assert removed == pytest.approx(size, rel=0.3)
    assert distance(patterns(problem, *found), patterns(problem, *given)) < 1e-12
    assert distance(found[0], image) < 0.2 * distance(given[0], image)
    assert distance(found[1], probe) < 0.3 * distance(given[1], probe)


def test_an_object_with_the_period_of_the_step_keeps_it() -> None:
    y, x = np.indices((96, 96))
    grating = np.exp(0.8j * np.cos(2 * np.pi * x / STEP)) * (1 + 0.2 * np.cos(2 * np.pi * y / STEP))
    scan, problem = exact(grid(), grating)
    image, probe = truth(scan, problem)
    found, _, removed = without_lattice(problem, image, probe)
    assert removed < 0.02
    assert distance(found, image) < 0.02


@pytest.mark.parametrize(("step", "offset"), [(STEP, 0.3), (4.25, 0.1)])
def test_between_pixels_patterns_stay_as_they_are_within_the_noise(step: float, offset: float) -> None:
    scan, problem = exact(grid(step, offset))
    image, probe = truth(scan, problem)
    given = exchanged(problem, image, probe, 0.05, step)
    found_image, found_probe, removed = without_lattice(problem, *given)
    before, after = patterns(problem, *given), patterns(problem, found_image, found_probe)
    assert removed > 0.02
    assert float(((after - before) ** 2 / before.clamp(min=1)).sum() / (before > 1).sum()) < 0.01
    assert distance(found_image, image) < 0.5 * distance(given[0], image)


def test_positions_without_a_lattice_are_left_alone() -> None:
    rng = np.random.default_rng(0)
    jittered = grid() + rng.integers(-1, 2, (64, 2))
    assert lattice_steps(jittered) is None
    assert lattice_steps(grid() + rng.uniform(-0.2, 0.2, (64, 2))) is None
    assert lattice_steps(grid()[:24]) is None
    scan, problem = exact(jittered)
    image, probe = truth(scan, problem)
    found = without_lattice(problem, image, probe)
    assert found[0] is image
    assert found[1] is probe
    assert found[2] == 0


def test_which_lattice_holds_the_positions() -> None:
    hexagonal = grid()
    hexagonal[(split(hexagonal)[0][:, 0] // STEP) % 2 == 1, 1] += STEP / 2
    assert lattice_steps(grid()) == (STEP, STEP)
    assert lattice_steps(np.delete(grid(), [3, 17, 40], 0)[::-1]) == (STEP, STEP)
    assert lattice_steps(hexagonal) == (STEP, STEP / 2)
    assert lattice_steps(grid(4.3)) == pytest.approx((4.3, 4.3))


def test_a_reconstruction_says_what_it_removed_and_a_known_probe_is_kept(tmp_path: Path) -> None:
    scan = diptych.simulate(
        object="blocks", size=32, patterns=64, step=4, trajectory="raster", dose=1e6, probe_error=0.3, seed=1
    )
    whole = diptych.reconstruct(scan, engine="rpie", epochs=12, seed=0)
    assert whole.provenance["lattice_removed"] > 0
    for epochs in (7, 12):
        resumed = diptych.reconstruct(
            scan, engine="rpie", epochs=epochs, seed=0, checkpoint=tmp_path / "c.npz", resume=True
        )
    np.testing.assert_array_equal(resumed.object.values, whole.object.values)
    np.testing.assert_array_equal(resumed.probe, whole.probe)
    for known in (
        diptych.reconstruct(scan, engine="rpie", epochs=3, probe="fixed"),
        diptych.reconstruct(
            diptych.Scan(scan.counts, scan.positions, scan.true_probe, probe_calibrated=True), engine="rpie", epochs=3
        ),
    ):
        assert "lattice_removed" not in known.provenance
