"""Incoherent probe modes: initial guesses, scale, and the orthogonal form in which they are returned."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.errors import InputError
from diptych.ptycho.physics.forward import intensity

EXTRA_POWER = 0.05
"""Share of the power that extra modes start with, all together."""

_NEW = 1e-3
"""A candidate mode that keeps less than this part of its norm outside the span of the others is rounding error."""

_MOST_DEGREE = 32
"""Monomials up to this degree are tried: over five hundred candidates for a few modes."""


def scaled_to(probe: Tensor, photons: float) -> Tensor:
    """The probe (P, N, N) scaled so that sum |P|^2 equals ``photons``."""
    return probe * (photons / intensity(probe).sum()).sqrt()


def start_modes(probe: Tensor, modes: int) -> Tensor:
    """``modes`` orthogonal modes (modes, N, N) from P given ones (P, N, N), total power kept.

    Only the strongest are kept where there are more; extra ones (:func:`extra_modes`) share 5 % of the power.
    """
    probe = orthogonal_modes(probe)
    total = probe.abs().square().sum()
    given = len(probe)
    if modes <= given:
        kept = probe[:modes]
        return kept * (total / kept.abs().square().sum()).sqrt()
    extra = torch.from_numpy(extra_modes(probe.cpu().numpy(), modes - given)).to(probe)
    return torch.cat([probe * (1 - EXTRA_POWER) ** 0.5, extra * (EXTRA_POWER * total / (modes - given)).sqrt()])


def orthogonal_modes(probe: Tensor) -> Tensor:
    """Orthogonal modes (P, N, N), strongest first, that give the same counts as ``probe`` (P, N, N).

    A unitary mixture of incoherent modes leaves the counts unchanged; this one diagonalises their Gram matrix. Each
    mode's free phase is chosen so that its largest value is positive.
    """
    if len(probe) == 1:
        return probe
    flat = probe.flatten(1)
    values, vectors = torch.linalg.eigh(flat.conj() @ flat.T)
    order = torch.argsort(values, descending=True)
    rotated = vectors[:, order].T @ flat
    peak = rotated.gather(1, rotated.abs().argmax(1, keepdim=True))
    modes: Tensor = rotated * torch.exp(-1j * peak.angle())
    return modes.reshape(probe.shape)


def extra_modes(probe: NDArray[np.complexfloating[Any, Any]], count: int) -> NDArray[np.complex128]:
    """Modes that are orthonormal, and orthogonal to given ones.

    The first given mode is multiplied by y^j x^i about its centre of mass, in the order x, y, x^2, x y, y^2 ..., and
    each product is made orthonormal to the given modes and to those before it (Gram-Schmidt; products within their span
    are skipped). A beam that vibrates, or comes from a source of finite size, has such modes; for a Gaussian beam they
    are the Hermite-Gauss modes.

    Parameters
    ----------
    probe : (P, N, N) complex
        Given modes, the strongest first; they need be neither normalised nor orthogonal.
    count : int
        How many to make.

    Returns
    -------
    (count, N, N) complex128
        Each with sum |mode|^2 = 1.

    Raises
    ------
    InputError
        If the first mode is so small that its window holds no ``count`` more.
    """
    size = probe.shape[-1]
    first = np.asarray(probe[0], np.complex128)
    weight = np.abs(first) ** 2 / np.sum(np.abs(first) ** 2)
    y, x = (axis - np.sum(weight * axis) for axis in np.mgrid[:size, :size].astype(float))
    # In units of its own width, so that high powers stay of order one where there is light.
    scale = max(1.0, float(np.sqrt(np.sum(weight * (y**2 + x**2)))))
    y, x = y / scale, x / scale
    basis: list[NDArray[np.complex128]] = []
    for mode in np.asarray(probe, np.complex128):
        _append(basis, mode.ravel())
    given = len(basis)
    for degree in range(1, _MOST_DEGREE + 1):
        for j in range(degree + 1):
            if len(basis) - given == count:
                return np.asarray(basis[given:], np.complex128).reshape(count, size, size)
            _append(basis, (first * y**j * x ** (degree - j)).ravel())
    raise InputError(
        "probe", f"its window of {size} pixels is too small for {count} more modes", remedy="Ask for fewer modes."
    )


def _append(basis: list[NDArray[np.complex128]], wave: NDArray[np.complex128]) -> None:
    """Append the normalised part of ``wave`` that is orthogonal to ``basis``, unless it vanishes."""
    before = np.linalg.norm(wave)
    # Twice: the first pass leaves rounding errors in proportion to what it subtracts.
    for _ in range(2):
        for other in basis:
            wave = wave - other * np.vdot(other, wave)
    after = np.linalg.norm(wave)
    if after > _NEW * before:
        basis.append(wave / after)
