"""Variances of an object's pixels: the inverse of the Fisher information, by probing, after an alignment.

An error of the object counts as it is after the alignment that ``evaluate`` makes: what the data leave free is removed
by least squares over the scored pixels, weighted by the illumination.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.errors import InputError
from diptych.ptycho.physics.detector.point_spread import PointSpread
from diptych.ptycho.physics.forward import ForwardModel
from diptych.ptycho.physics.information.gauges import Projection, free_fields, raster_classes
from diptych.ptycho.physics.information.inverse import conjugate_gradients, signs
from diptych.ptycho.physics.information.operator import Information, Refined
from diptych.ptycho.physics.measured import Light, compared_box
from diptych.ptycho.physics.patches import canvas_box
from diptych.ptycho.physics.varying.probe import Variation, VaryingForward
from diptych.ptycho.scan import Canvas

TOLERANCE = 1e-2
"""Relative residual of each solve: the sum of the variances is then right to 0.3 % (N = 32 and 64, known and unknown
probe, rasters and spirals)."""

COLOURS = 2
"""Distance of the pixels that are probed together, px."""

SOLVES = 8
"""Right sides solved together: they share the exit waves of the patterns."""


@dataclass(frozen=True, eq=False)
class Point:
    """Where the information is computed: everything in photons.

    Parameters
    ----------
    canvas : Canvas
        Object; holds every window.
    probe : (P, N, N) complex array
        Probe modes, sum |P|^2 in photons.
    positions : (M, 2) float64 array
        (y, x) in object pixels.
    mask : (N, N) or (M, N, N) bool array, optional
        Valid detector pixels.
    background : (N, N) array, optional
        Expected background, photons.
    factors : (M,) array, optional
        Factor of each pattern's intensity.
    components, coefficients : (K, N, N) and (M, K + 1) complex arrays, optional
        Of a first probe mode that varies: see :class:`~diptych.ptycho.physics.varying.probe.Variation`.
    spread : (float, float)
        Widths (y, x) of the detector's point spread, pixels.
    refined : Refined
        What is estimated together with the object.
    """

    canvas: Canvas
    probe: NDArray[np.complexfloating[Any, Any]]
    positions: NDArray[np.float64]
    mask: NDArray[np.bool_] | None = None
    background: NDArray[np.floating[Any]] | None = None
    factors: NDArray[np.float64] | None = None
    components: NDArray[np.complexfloating[Any, Any]] | None = None
    coefficients: NDArray[np.complexfloating[Any, Any]] | None = None
    spread: tuple[float, float] = (0.0, 0.0)
    refined: Refined = field(default_factory=Refined)

    @property
    def unknowns(self) -> tuple[str, ...]:
        """Names of what is estimated together with the object."""
        named = [name for name, on in vars(self.refined).items() if on]
        return (*named, "probe variation") if self.refined.probe and self.components is not None else tuple(named)


@dataclass(eq=False)
class Variances:
    """Variances of amplitude and phase, per pixel, as far as probing has come.

    Parameters
    ----------
    along, across : (H, W) float64 arrays
        Variance of the error along the object's complex value, and at right angles to it; NaN where not asked for.
    noise : float
        Relative standard error of the variances of single pixels (rms), from the spread of the solves.
    total, total_noise : float
        Their sum over the scored pixels, and its relative standard error.
    solves, steps : int
        Right sides solved, and steps of conjugate gradients for each, at most.
    """

    along: NDArray[np.float64]
    across: NDArray[np.float64]
    noise: float
    total: float
    total_noise: float
    solves: int
    steps: int


class Curvature:
    """The information at a point, with the pixels and the alignment that errors refer to.

    Parameters
    ----------
    point : Point
        Object, probe and positions.
    prior : float
        As in :class:`~diptych.ptycho.physics.information.operator.Information`.
    double : bool
        float64 in the place of float32.
    attained : bool
        An estimate of the variances of maximum likelihood with few photons, in the place of the bound: see Notes.

    Raises
    ------
    InputError
        If the object does not hold every window, or no scored pixel is lit.

    Notes
    -----
    The curvature H of the likelihood scatters around its expectation F, pixel by pixel by ``2 (k / I - 1) (u u^T - t
    t^T)``, with u and t the derivatives of the field along itself and across. The mean of ``H^-1`` is, to second order,
    ``F^-1 + F^-1 E[dH F^-1 dH] F^-1``. With one leverage h for all pixels, the unknowns per measured detector pixel,
    and u and t alike on average, that is the inverse of F where each pixel has the weight ``1 / (1 + h / (2 I))``. For
    pixels far below one count expansions do not hold. The weight used is ``1 / (1 + h I / (2 (I^2 + FEW^2)))``: a
    heuristic, for the mean of H^-1 is not yet the variance of the estimate, checked by the coverage of error bars.
    """

    def __init__(self, point: Point, *, prior: float = 1.0, double: bool = False, attained: bool = False) -> None:
        wave = torch.complex128 if double else torch.complex64
        size = point.probe.shape[-1]
        self.origin, self.shape = canvas_box(point.positions, size)
        box = (self.origin[0], self.origin[0] + self.shape[0], self.origin[1], self.origin[1] + self.shape[1])
        image = torch.from_numpy(np.ascontiguousarray(point.canvas.crop(*box).values)).to(wave)
        valid = None if point.mask is None or point.mask.all() else torch.from_numpy(np.ascontiguousarray(point.mask))
        forward = ForwardModel.far_field(
            point.positions,
            size,
            self.origin,
            self.shape,
            dtype=wave,
            device=image.device,
            least_shift=1e-3,
            background=None if point.background is None else torch.tensor(point.background, dtype=wave.to_real()),
        )
        if any(point.spread):
            forward.spread = PointSpread(point.spread, size, wave.to_real(), image.device)
        if point.factors is not None and forward.factors is not None:
            forward.factors.values = torch.tensor(point.factors, dtype=wave.to_real())
            forward.factors.fitted = True
        probe = torch.from_numpy(np.ascontiguousarray(point.probe)).to(wave)
        if point.components is not None:
            varied = (torch.tensor(each, dtype=wave) for each in (point.components, point.coefficients))
            forward = VaryingForward.of(forward)
            forward.variation = Variation(probe[0], *varied)
        self.information = Information(forward, image, probe, point.refined, valid=valid, prior=prior)
        self.light = Light(forward.illumination(probe).numpy(), self.origin)
        self.lit = torch.from_numpy(self.light.lit)
        if attained:
            # No leverage exceeds 1.
            self.information.doubt = min(self._unknowns() / max(self.information.measured, 1), 1.0) / 2
        self.box = compared_box(point.positions, self.light)
        self.scored = torch.from_numpy(_inside(self.box, self.origin, self.shape)) & self.lit
        if not bool(self.scored.any()):
            raise InputError("error bars", "no lit pixel lies between the positions", "a scan that covers an area")
        classes = raster_classes(point.positions, self.origin, self.shape) if point.refined.probe else None
        self.raster = classes is not None
        fields = free_fields(
            image,
            probe=point.refined.probe,
            factors=point.refined.factors,
            lattice=None if classes is None else torch.from_numpy(classes),
            region=self.lit,
        )
        weight = torch.where(self.scored, torch.from_numpy(self.light.values), 0.0)
        self.projection = Projection.onto(fields.to(torch.complex128), weight.double())
        self._diagonal = self.information.diagonal()
        self.turn = torch.where(image.abs() > 0, image / image.abs(), torch.ones_like(image)).to(torch.complex128)

    def _unknowns(self) -> int:
        """Real unknowns, of the object those that are lit."""
        return self.information.unknowns - 2 * int((~self.lit).sum())

    def errors(self, vectors: Tensor) -> tuple[Tensor, int]:
        """Covariance of the aligned errors times vectors (K, H, W) complex, and the steps taken."""
        flat = torch.view_as_real(vectors.contiguous()).flatten(1)
        right = torch.zeros((len(flat), self.information.unknowns), dtype=self._diagonal.dtype)
        right[:, : flat.shape[1]] = self.projection.adjoint(flat)
        found = conjugate_gradients(self.information.times, right, self._diagonal, tolerance=TOLERANCE, steps=400)
        out = self.projection.remove(found.values[:, : flat.shape[1]].double())
        return torch.view_as_complex(out.view(*vectors.shape, 2)), found.steps

    def variances(
        self,
        *,
        pixel_noise: float | None,
        total_noise: float = 0.02,
        most: int = 1024,
        seed: int = 0,
        scored: bool = False,
        visit: Callable[[Tensor, Tensor], None] | None = None,
        report: Callable[[int, int], None] | None = None,
    ) -> Variances:
        """Probe until the variances are known well enough.

        Parameters
        ----------
        pixel_noise : float or None
            Relative standard error of the variance of single pixels at which to stop; None: only the sum counts.
        total_noise : float
            Relative standard error of the sum over the scored pixels at which to stop.
        most : int
            Most solves.
        seed : int
            Of the signs.
        scored : bool
            Probe the scored pixels only; else all lit ones.
        visit : callable, optional
            Called with probing vectors (K, H, W) and the covariance times them.
        report : callable, optional
            Called with the solves done and the most solves.
        """
        where = self.scored if scored else self.lit
        sums, totals, steps, sweep = torch.zeros((2, *self.shape), dtype=torch.float64), [], 0, COLOURS**2
        draws = [signs(self.shape, COLOURS, 2 * seed + k, where.device) for k in (0, 1)]
        squares = torch.zeros_like(sums)
        while True:
            estimate = torch.zeros_like(sums)
            along, across = (torch.where(where, torch.stack(list(islice(draw, sweep))), 0.0) for draw in draws)
            for start in range(0, sweep, SOLVES):
                some = slice(start, start + SOLVES)
                vectors = self.turn * torch.complex(along[some], across[some])
                errors, taken = self.errors(vectors)
                steps = max(steps, taken)
                if visit is not None:
                    visit(vectors, errors)
                local = errors * self.turn.conj()
                estimate += torch.stack([(along[some] * local.real).sum(0), (across[some] * local.imag).sum(0)])
            sums, squares = sums + estimate, squares + estimate.square()
            totals.append(float(estimate[:, self.scored].sum()))
            found = _summary(sums, squares, totals, where)
            done = len(totals) * sweep
            if report is not None:
                report(done, most)
            settled = len(totals) > 2 and found[1] <= total_noise and (pixel_noise is None or found[0] <= pixel_noise)
            if settled or done + sweep > most:
                break
        mean = torch.where(where, sums / len(totals), torch.nan).numpy()
        total = float(np.mean(totals))
        # No variance is below 1 / (4 light), that of a pixel of which every photon told; probing may come out lower.
        least = 1 / (4 * self.light.values + self.information.stiffness)
        clipped = np.maximum(mean, least)
        return Variances(clipped[0], clipped[1], found[0], total, found[1], done, steps)


def _summary(sums: Tensor, squares: Tensor, totals: list[float], where: Tensor) -> tuple[float, float]:
    """Relative standard errors of single variances (rms) and of the sum over the scored pixels."""
    n = len(totals)
    if n < 2:
        return np.inf, np.inf
    spread = (squares - sums.square() / n).clamp(min=0)[:, where] / (n - 1) / n
    mean = sums[:, where] / n
    single = float((spread / mean.abs().mean(1, keepdim=True).square()).mean().sqrt())
    return single, float(np.std(totals, ddof=1) / np.sqrt(n) / abs(np.mean(totals)))


def _inside(box: tuple[int, int, int, int], origin: tuple[int, int], shape: tuple[int, int]) -> NDArray[np.bool_]:
    y, x = np.arange(shape[0]) + origin[0], np.arange(shape[1]) + origin[1]
    return np.asarray(((y >= box[0]) & (y < box[1]))[:, None] & ((x >= box[2]) & (x < box[3])))
