"""What the data leave free, as directions of the object, and its removal from errors.

With a known probe the global phase is free. With an unknown one object and probe exchange a complex scale, a phase ramp
and a shift; on an exact raster also every factor that repeats with the raster (Huang et al., Optics Express 22, 12634,
2014, and Fannjiang, SIAM J. Imaging Sci. 12, 2019: the raster-grid pathology).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

RASTER_TOLERANCE = 1e-6
"""Largest distance of positions from a lattice that counts as exact, px."""


@dataclass(frozen=True, eq=False)
class Projection:
    """Removes free directions from errors of the object as an alignment does: by weighted least squares.

    Parameters
    ----------
    fields : (k, n) real tensor
        Free directions as vectors of real and imaginary parts, n = 2 H W.
    weighted : (k, n) real tensor
        The same times the weights of the pixels.
    inverse : (k, k) tensor
        Pseudo-inverse of ``weighted fields^T``.
    """

    fields: Tensor
    weighted: Tensor
    inverse: Tensor

    @classmethod
    def onto(cls, fields: Tensor, weight: Tensor) -> Projection:
        """Least squares with ``weight`` (H, W) >= 0 against complex ``fields`` (k, H, W)."""
        flat = torch.view_as_real(fields.resolve_conj().contiguous()).flatten(1)
        # Equal scales, so that the pseudo-inverse only drops directions that agree.
        weights = weight[..., None].expand(*weight.shape, 2).flatten()
        flat = flat / (flat.square() * weights).sum(1).sqrt().clamp(min=1e-300)[:, None]
        weighted = flat * weights
        return cls(flat, weighted, torch.linalg.pinv(weighted @ flat.T, rtol=1e-10, hermitian=True))

    def remove(self, errors: Tensor) -> Tensor:
        """Errors (..., n) without their free part, as after an alignment."""
        return errors - (errors @ self.weighted.T) @ self.inverse @ self.fields

    def adjoint(self, vectors: Tensor) -> Tensor:
        """The adjoint of :meth:`remove`: vectors (..., n) orthogonal to all free directions."""
        return vectors - (vectors @ self.fields.T) @ self.inverse @ self.weighted


def free_fields(
    image: Tensor, *, probe: bool, factors: bool = False, lattice: Tensor | None = None, region: Tensor | None = None
) -> Tensor:
    """Free directions of an object (H, W): (k, H, W) complex.

    Parameters
    ----------
    image : (H, W) complex tensor
        Object.
    probe : bool
        Whether the probe is unknown: then scale, ramp and shift are free, else the global phase.
    factors : bool
        Whether each pattern's intensity is unknown: then the scale is free with a known probe, too.
    lattice : (H, W) int64 tensor, optional
        Class of each pixel on an exact raster, see :func:`raster_classes`.
    region : (H, W) bool tensor, optional
        Where lattice fields may differ from 0.
    """
    fields = [1j * image]
    if probe or factors:
        fields.append(image)
    if probe:
        h, w = image.shape
        y = torch.arange(h, dtype=image.real.dtype, device=image.device)[:, None] - h / 2
        x = torch.arange(w, dtype=image.real.dtype, device=image.device) - w / 2
        fields += [1j * y * image, 1j * x * image]
        fields += [torch.gradient(image, dim=axis)[0] for axis in (0, 1)]
    if probe and lattice is not None:
        inside = torch.ones_like(lattice, dtype=torch.bool) if region is None else region
        for label in torch.unique(lattice[inside]).tolist():
            part = torch.where((lattice == label) & inside, image, torch.zeros_like(image))
            fields += [part, 1j * part]
    return torch.stack(fields)


def raster_classes(
    positions: NDArray[np.float64], origin: tuple[int, int], shape: tuple[int, int]
) -> NDArray[np.int64] | None:
    """Class of each object pixel modulo the raster of the positions, (H, W); None where they lie on no exact raster.

    Pixels of one class lie at equal places of the raster's unit cell: a factor on the object that is constant on each
    class is undone by the probe in every pattern. Only rasters along the axes with steps of whole pixels count.
    """
    classes = []
    for axis in (0, 1):
        values = positions[:, axis] - positions[0, axis]
        whole = np.rint(values)
        if np.abs(values - whole).max(initial=0.0) > RASTER_TOLERANCE:
            return None
        step = int(np.gcd.reduce(whole.astype(np.int64)))
        if step == 1:
            return None
        # All positions in one row or column: every row of the object is a class of its own.
        step = step or shape[axis]
        start = int(np.floor(positions[0, axis] + 0.5)) - origin[axis]
        classes.append(((np.arange(shape[axis]) - start) % step, step))
    (y, _), (x, across) = classes
    return np.asarray(y[:, None] * across + x, np.int64)
