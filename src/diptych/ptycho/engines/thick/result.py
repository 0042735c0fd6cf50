"""The object of a result from the state of a run: one image, or slices and their product."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.ptycho.engines.problem import Problem
from diptych.ptycho.physics.illumination import Light, Mask, Positions, illumination, settle_unlit
from diptych.ptycho.physics.thick.slices import SlicedForward, evened_out

Complex = NDArray[np.complex64]


def first_slice(image: Tensor) -> Tensor:
    """The object (H, W), or the first of slices (S, H, W): what stands beside the probe.

    Whatever factors the counts leave free between object and probe, they leave free between first slice and probe.
    """
    return image if image.ndim == 2 else image[0]


def with_first(image: Tensor, first: Tensor) -> Tensor:
    """``image`` (H, W) or (S, H, W) with ``first`` (H, W) in the place of :func:`first_slice`."""
    return first if image.ndim == 2 else torch.cat([first[None], image[1:]])


def settled_object(
    problem: Problem, image: Tensor, probe: Tensor, light: Light, positions: Positions, measured: Mask
) -> tuple[Complex, Complex | None]:
    """The object (H, W) of a result, unlit pixels near 1, and its slices (S, H, W) or None.

    Of slices the object is the product; each has the same mean modulus and phase, and its own lit area.

    Parameters
    ----------
    image : (H, W) or (S, H, W) complex tensor
        Of the run.
    probe : (P, N, N) complex tensor
        In photons.
    light : (H, W) float32
        Illumination in the plane of the first slice.
    positions, measured : (M, 2) and (M,) arrays
        Of the patterns, and which of them count.
    """
    if image.ndim == 2:
        return settle_unlit(image.cpu().numpy(), light).astype(np.complex64), None
    forward = problem.forward
    assert isinstance(forward, SlicedForward)
    behind = [
        illumination(each.cpu().numpy(), positions, problem.origin, problem.shape, measured)
        for each in forward.probes(probe, len(image))[1:]
    ]
    lights = np.stack([light, *behind])
    even = evened_out(image, torch.from_numpy(lights).to(image.device)).cpu().numpy()
    slices = np.stack([settle_unlit(each, lit) for each, lit in zip(even, lights, strict=True)]).astype(np.complex64)
    return slices.prod(0), slices
