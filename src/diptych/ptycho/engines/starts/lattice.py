"""The lattice that an exact raster leaves free between object and probe, removed from both.

Where all positions lie on a lattice with the steps s, and g has the period of that lattice, O / g and P g predict the
same patterns as O and P: every window sees the same part of g. Nothing in the counts tells g, and a refined probe ends
with some of it: a lattice at the step in the image, and copies of the pupil, displaced by N / s pixels, in the far
field of the probe. Light comes through a pupil with an edge, and its far field is smooth or dark outside, so the copies
tell g. Structure of the object at that period leaves no trace in the probe, and stays.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.ptycho.engines.problem import Problem
from diptych.ptycho.physics.varying.probe import varies

log = logging.getLogger("diptych")

LEAST_LINES = 4
"""Rows and columns of a raster below which it has no lattice worth the name."""

OFF_LATTICE = 2e-3
"""Distance from the lattice, pixels, up to which a position lies on it."""

MOST_HARMONICS, MOST_VALUES = 288, 2**23
"""Harmonics of g that are fitted at most, the lowest first; and numbers that the fit holds, pixels times harmonics."""

ROUNDS, WINDOW, FLOOR = 10, 5, 1e-4
"""Fits of g; side of the median filter that tells the far field without copies; its least value, as a share of the
largest."""

TYPICAL = 0.04
"""Standard deviation of g that is expected before the probe is seen. Lattices found with photographs, blocks, discs and
lines: 0.012 to 0.044. Not wider: Airy rings (a disk as the probe) resemble copies, and 0.2 raised the error there."""

STRONG = 2.0
"""Multiple of this variance beyond which the prior follows what is found: an object with the period of the step can end
with a lattice of 0.6, all of its structure being exchanged."""

EVIDENCE = 4.0
"""Nats for each harmonic by which the far field must become more likely; noise alone gives about one."""

LEAST_MODULUS = 0.2
"""No lattice is removed that would multiply the object by more than the inverse of this."""

CHANGE, SOME = 0.01, 16
"""Share of the photon noise by which patterns may change, and patterns that are compared. On whole pixels they change
by rounding only; else a harmonic can reach the highest frequencies of the window."""

Wave = NDArray[np.complexfloating[Any, Any]]
Floats = NDArray[np.float64]


def without_lattice(problem: Problem, image: Tensor, probe: Tensor) -> tuple[Tensor, Tensor, float]:
    """Object and probe without the lattice that the counts leave free between them, and the rms of what was removed.

    Parameters
    ----------
    image, probe : (H, W) and (P, N, N) complex tensors
        Object and probe modes, both refined.

    Returns
    -------
    (H, W) and (P, N, N) complex tensors, float
        As given, and 0, where the positions form no lattice, the far field shows none, or the probe varies.
    """
    positions = problem.forward.positions
    steps = lattice_steps(positions)
    if steps is None or varies(problem.forward) or not bool(torch.isfinite(torch.view_as_real(probe)).all()):
        return image, probe, 0.0
    modes = probe.cpu().numpy().astype(np.complex128)
    frequencies = _harmonics(steps, modes, whole=problem.forward.fractions is None)
    if not len(frequencies):
        return image, probe, 0.0
    values, gain = _fit(modes, frequencies)
    size = float(np.sqrt((np.abs(values) ** 2).sum()))
    if not gain > EVIDENCE * len(values):
        return image, probe, 0.0
    g = _periodic(values, frequencies, problem.shape, positions[0] - problem.origin)
    h = _periodic(values, frequencies, modes.shape[-2:], np.full(2, float(problem.size // 2)))
    new = image / torch.from_numpy(g).to(image), probe * torch.from_numpy(h).to(probe)
    if min(np.abs(g).min(), np.abs(h).min()) < LEAST_MODULUS or not _same_patterns(problem, (image, probe), new):
        return image, probe, 0.0
    log.info("a lattice of %.1f %% (rms) at the steps of the raster was moved from the object to the probe", 100 * size)
    return *new, size


def lattice_steps(positions: Floats) -> tuple[float, float] | None:
    """Steps (y, x) of the lattice, parallel to the axes, that holds all positions (M, 2); None where none does.

    Lines may be missing, and rows may be displaced by half a step (the lattice then has half of it).
    """
    steps = []
    for axis in positions.T:
        lines = np.unique(axis)
        lines = lines[np.concatenate([[True], np.diff(lines) > OFF_LATTICE])]
        if len(lines) < LEAST_LINES:
            return None
        least = float(np.diff(lines).min())
        # The mean over all lines: errors of single ones do not add up.
        numbers = np.rint((lines - lines[0]) / least)
        step = float((lines[-1] - lines[0]) / numbers[-1])
        if step < 2 or np.abs(lines - lines[0] - numbers * step).max() > OFF_LATTICE:
            return None
        steps.append(round(step) if abs(step - round(step)) < OFF_LATTICE / len(lines) else step)
    return float(steps[0]), float(steps[1])


def _harmonics(steps: tuple[float, float], modes: Wave, whole: bool) -> Floats:
    """Frequencies (n, 2) of g, cycles per pixel, without the constant; those that shifts of the probe keep exact."""
    size, limit = modes.shape[-1], 0.5
    if not whole:
        far = np.abs(np.fft.fftshift(np.fft.fft2(modes), (-2, -1)) ** 2).sum(0)
        distance = np.abs(np.indices(far.shape) - size // 2).max(0).ravel()
        order = np.argsort(distance)
        light = np.cumsum(far.ravel()[order])
        limit = 0.5 - distance[order][np.searchsorted(light, 0.99 * light[-1])] / size
    axes = []
    for step in steps:
        most = int(np.floor(limit * step + 1e-9))
        numbers = np.arange(-most, most + 1) / step
        axes.append(numbers[numbers > -0.5 + 1e-9])
    all_of_them = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
    order = np.argsort(np.hypot(*all_of_them.T), kind="stable")
    most = min(MOST_HARMONICS, MOST_VALUES // modes.size)
    return all_of_them[order][1 : most + 1]


def _fit(modes: Wave, frequencies: Floats) -> tuple[Wave, float]:
    """Coefficients (n,) of g - 1, and the nats by which they make the far field more likely.

    The far field of P g is modelled as complex normal noise, with the median of its neighbourhood as the variance: dark
    pixels weigh most. Least squares with these weights, repeated as the copies vanish from the median.
    """
    from scipy.ndimage import median_filter

    size = modes.shape[-1]
    y, x = np.indices((size, size)) - size // 2

    def far(waves: Wave) -> Wave:
        return np.asarray(np.fft.fft2(waves, norm="ortho"))

    plain = far(modes)
    copies = np.stack([far(modes * np.exp(2j * np.pi * (fy * y + fx * x))).ravel() for fy, fx in frequencies], 1)
    values = np.zeros(len(frequencies), np.complex128)
    gain = 0.0
    for _ in range(ROUNDS):
        field = plain + (copies @ values).reshape(plain.shape)
        variance = median_filter(np.abs(field) ** 2, (1, WINDOW, WINDOW), mode="wrap")
        weight = 1 / np.maximum(variance, FLOOR * variance.max()).ravel()
        normal = (copies.conj().T * weight) @ copies
        target = -(copies.conj().T * weight) @ plain.ravel()
        # A lattice far stronger than the typical, of an object with the period of the step, widens the prior.
        found = float((np.abs(values) ** 2).sum())
        each = (found if found > STRONG * TYPICAL**2 else TYPICAL**2) / len(values)
        values = np.linalg.solve(normal + np.eye(len(values)) / each, target)
        gain = float((values.conj() @ (2 * target - normal @ values)).real)
    return values, gain


def _periodic(values: Wave, frequencies: Floats, shape: tuple[int, ...], centre: Floats) -> Wave:
    """The values of g (H, W), with its phases counted from the pixel ``centre`` (y, x)."""
    rows, columns = (
        np.exp(2j * np.pi * np.outer(frequencies[:, axis], np.arange(shape[axis]) - centre[axis])) for axis in (0, 1)
    )
    return np.asarray(1 + np.einsum("n,ny,nx->yx", values, rows, columns, optimize=True))


def _same_patterns(problem: Problem, old: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor]) -> bool:
    """Whether two states predict the same counts, compared with photon noise."""
    change, pixels = 0.0, 0
    for i in np.unique(np.linspace(0, len(problem) - 1, SOME).astype(np.int64)):
        before, after = (
            problem.forward.detect(problem.forward.views(*state, np.array([i])).exit_waves())[1] for state in (old, new)
        )
        change += float(((after - before).square() / before.clamp(min=1.0)).sum(dtype=torch.float64))
        pixels += int((before > 1).sum())
    return change <= CHANGE * max(pixels, 1)
