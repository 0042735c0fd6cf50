"""Incoherent probe modes made from given ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError

_NEW = 1e-3
"""A candidate that keeps less than this part of its norm outside the modes before it holds nothing new but rounding."""

_MOST_DEGREE = 32
"""Monomials up to this degree are tried: over five hundred candidates for the few modes that anyone asks for."""


def extra_modes(probe: NDArray[np.complexfloating[Any, Any]], count: int) -> NDArray[np.complex128]:
    """Modes that are orthonormal, and orthogonal to given ones.

    The first given mode multiplied by y^j x^i about its centre of mass, in the order x, y, x^2, x y, y^2 ..., made
    orthonormal one by one to the given modes and to all before (Gram-Schmidt; what lies in their span already is passed
    over). It is what the vibration of a source of finite size does to a beam, and of a Gaussian beam exactly the
    Hermite-Gauss modes.

    Parameters
    ----------
    probe : (P, N, N) complex
        Modes there are, the strongest first; they need be neither normalised nor orthogonal.
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
    raise InputError(f"the probe is too small to make {count} more modes of it; ask for fewer modes.")


def _append(basis: list[NDArray[np.complex128]], wave: NDArray[np.complex128]) -> None:
    """Add the part of ``wave`` that is orthogonal to ``basis``, normalised, where there is any."""
    before = np.linalg.norm(wave)
    # Twice, because the first pass leaves rounding errors as large as the part taken away.
    for _ in range(2):
        for other in basis:
            wave = wave - other * np.vdot(other, wave)
    after = np.linalg.norm(wave)
    if after > _NEW * before:
        basis.append(wave / after)
