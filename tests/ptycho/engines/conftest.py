"""Small problems whose truth is known, for the tests of the engines' parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from diptych.ptycho.engines.problem import Problem, make_problem
from diptych.ptycho.physics.patches import canvas_box, cut, split
from diptych.ptycho.scan import Canvas, Scan
from forward_reference import intensities


@dataclass(frozen=True)
class Case:
    """A scan, the problem made of it, and the truth on the problem's canvas."""

    scan: Scan
    problem: Problem
    image: torch.Tensor
    probe: torch.Tensor


MakeCase = Callable[..., Case]


def smooth_field(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Random, smooth, in [-1, 1]."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    total = sum(np.cos(a * y + b * x + c) for a, b, c in rng.uniform(-1.2, 1.2, (5, 3)))
    return np.asarray(total) / 5


@pytest.fixture(scope="session")
def make_case() -> MakeCase:
    """Build a case: ``size`` x ``size`` patterns on a jittered 5 x 5 raster, with whatever complications are asked
    for."""

    def make(
        *,
        size: int = 12,
        photons: float = 1e5,
        modes: int = 1,
        subpixel: bool = False,
        masked: float = 0.0,
        background: float = 0.0,
        noise: bool = True,
        double: bool = True,
        held_out: float = 0.02,
        step: float = 3.0,
    ) -> Case:
        rng = np.random.default_rng(5)
        grid = np.stack(np.meshgrid(np.arange(5), np.arange(5), indexing="ij"), -1).reshape(-1, 2)
        positions = step * grid + rng.uniform(-0.8, 0.8, grid.shape) + 20
        if not subpixel:
            positions = np.floor(positions + 0.5)
        origin, shape = canvas_box(positions, size, 4)
        image = (0.85 + 0.15 * smooth_field(rng, shape)) * np.exp(0.7j * smooth_field(rng, shape))
        y, x = np.mgrid[:size, :size] - size / 2
        beams = np.stack([(y + x) ** i * np.exp(-(y**2 + x**2) * (1 / size - 0.05j)) for i in range(modes)])
        probe = (
            beams
            / np.sqrt((np.abs(beams) ** 2).sum((1, 2), keepdims=True))
            * np.sqrt(photons * 0.5 ** np.arange(modes))[:, None, None]
        )
        canvas, wave = torch.from_numpy(image.astype(np.complex64)), torch.from_numpy(probe.astype(np.complex64))
        fractions = torch.from_numpy(split(positions)[1]) if subpixel else None
        patches = cut(canvas.to(torch.complex128), positions, size, origin=origin)
        expected = intensities(wave.to(torch.complex128), patches, fractions).numpy() + background
        counts = rng.poisson(expected).astype(np.float32) if noise else expected.astype(np.float32)
        mask = None
        if masked:
            mask = rng.random((size, size)) > masked
            counts = np.where(mask, counts, 0)
        scan = Scan(
            counts,
            positions,
            wave.numpy(),
            mask=mask,
            background=np.full((size, size), background, np.float32) if background else None,
            truth=Canvas(canvas.numpy(), origin),
            true_probe=wave.numpy(),
            probe_calibrated=True,
        )
        power = float(np.sum(np.abs(probe) ** 2))
        problem = make_problem(
            scan, device=torch.device("cpu"), double=double, subpixel=True, held_out=held_out, seed=3, power=power
        )
        y0, x0 = problem.origin[0] - origin[0], problem.origin[1] - origin[1]
        inside = canvas[y0 : y0 + problem.shape[0], x0 : x0 + problem.shape[1]]
        return Case(scan, problem, inside.to(problem.complex_dtype).clone(), wave.to(problem.complex_dtype).clone())

    return make
