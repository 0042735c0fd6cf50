"""The inverse of the Fisher information without the matrix: conjugate gradients, and its diagonal by probing.

Probing: for vectors x of random signs, the mean of x * (C x) is the diagonal of C (M. F. Hutchinson, Commun. Stat. 19,
433, 1990). What other pixels of C contribute is noise; signs that differ from 0 on one colour of pixels at a time, the
pixels of a colour lying ``distance`` apart, leave out near neighbours (J. M. Tang and Y. Saad, Numer. Linear Algebra
Appl. 19, 485, 2012).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

log = logging.getLogger("diptych")


@dataclass(frozen=True, eq=False)
class Solution:
    """Of ``A x = b``.

    Parameters
    ----------
    values : (K, n) tensor
        x.
    steps : int
        Steps taken.
    residual : float
        Largest relative residual in the norm of the preconditioner.
    """

    values: Tensor
    steps: int
    residual: float


def conjugate_gradients(
    times: Callable[[Tensor], Tensor], right: Tensor, diagonal: Tensor, *, tolerance: float = 1e-3, steps: int = 1000
) -> Solution:
    """Solve A x = b for several right sides at once, A symmetric and not negative.

    Where A is singular and b orthogonal to its null space, x is determined up to the null space.

    Parameters
    ----------
    times : callable
        A times vectors (K, n).
    right : (K, n) tensor
        b.
    diagonal : (n,) tensor
        Preconditioner: an approximate diagonal of A, > 0.
    tolerance : float
        Relative residual at which a solution is complete.
    steps : int
        Most steps.
    """
    x, r = torch.zeros_like(right), right.clone()
    z = r / diagonal
    p, rho = z.clone(), (r * z).sum(1)
    start = rho.clone().clamp(min=1e-300)
    step = 0
    while step < steps and bool((rho > tolerance**2 * start).any()):
        step += 1
        q = times(p)
        curvature = (p * q).sum(1)
        alpha = torch.where(curvature > 0, rho / curvature.clamp(min=1e-300), 0.0)[:, None]
        x += alpha * p
        r -= alpha * q
        z = r / diagonal
        rho, before = (r * z).sum(1), rho
        p = z + (rho / before.clamp(min=1e-300))[:, None] * p
    return Solution(x, step, math.sqrt(float((rho / start).max())))


def signs(shape: tuple[int, int], distance: int, seed: int, device: torch.device) -> Iterator[Tensor]:
    """Endless probing vectors (H, W) of random signs, each on one colour of pixels, which lie ``distance`` apart.

    ``distance`` = 1: every vector has signs on all pixels. The colours follow each other, again with other signs.
    """
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.arange(shape[0])[:, None] % distance, torch.arange(shape[1]) % distance
    while True:
        random = torch.randint(0, 2, shape, generator=generator).mul(2).sub(1)
        for colour in range(distance**2):
            yield torch.where((y * distance + x) == colour, random, 0).double().to(device)
