"""Rotation of a scan against the detector, from the patterns alone: no reconstruction is needed.

Two effects tell it. A defocused beam casts a *shadow image* of the sample into the bright disc, which moves in
proportion to the step between patterns, in the direction of the step as the detector sees it. And the *centre of mass*
of a pattern is the mean phase gradient under the probe, so its field over the scan has no curl (Lazic et al.,
Ultramicroscopy 160, 265, 2016). NumPy and SciPy alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

NEIGHBOURS = 8
"""Nearest neighbours of each pattern that local gradients are fitted to."""

SHADOWS_NEAR = 12
"""Nearest neighbours of each pattern that its shadow is compared with: a longer step tells the direction better."""

BINNED = 64
"""Side in pixels to which the bright disc is binned at most, and the grid of the cross-correlations is twice that."""

ANGLES, SCALES = 72, 36
"""Directions over 360 degrees, and lengths of the shadows' motion, that are tried before the best is refined."""

CERTAIN = 6.0
"""Robust standard deviations by which the motion of the shadows stands out from all motions tried."""

CERTAIN_CURL = 6.0
"""Standard deviations by which the curl of the centres of mass is smaller than by chance. Measured with 100 and 144
patterns near focus: 7 to 10 for the right reading (3.4 in one of six scans), 0.9 to 5.4 with the axes exchanged."""


@dataclass(frozen=True)
class Direction:
    """How the scan lies on the detector, as one of the effects tells.

    Parameters
    ----------
    degrees : float
        Rotation of the positions from +x towards +y that aligns them with the detector, 0 to below 360 (shadows; for a
        sample before the focus) or 0 to below 180 (centres of mass). With 180 degrees more, object and probe are the
        complex conjugates.
    swap : bool
        Whether y and x of the positions are exchanged before they are rotated.
    certainty : float
        Standard deviations by which it stands out from chance.
    method : {"shadow", "centre of mass"}
        Which effect.
    scale : float, optional
        Motion of the shadow in detector pixels for a step of one object pixel: the inverse of the defocus.
    """

    degrees: float
    swap: bool
    certainty: float
    method: Literal["shadow", "centre of mass"]
    scale: float | None = None

    @property
    def certain(self) -> bool:
        """Whether it can be believed without a reconstruction."""
        return self.certainty > (CERTAIN if self.method == "shadow" else CERTAIN_CURL)


def scan_directions(
    counts: NDArray[np.generic], positions: Floats, mask: NDArray[np.bool_] | None = None
) -> list[Direction]:
    """How the scan lies on the detector: by shadows and by centres of mass, without and with y and x exchanged; the
    most certain of each effect first, those of the shadows before the others.

    Parameters
    ----------
    counts : (M, N, N)
        Patterns, zero frequency at [N // 2, N // 2].
    positions : (M, 2)
        (y, x) in object pixels.
    mask : (N, N) or (M, N, N) bool, optional
        True where valid.
    """
    frames = np.where(True if mask is None else mask, counts, 0).astype(np.float32)
    found = [*_by_shadows(frames, positions), *_by_centres(frames, positions)]
    return sorted(found, key=lambda each: (each.method != "shadow" or not each.certain, -each.certainty))


def _by_centres(frames: NDArray[np.float32], positions: Floats) -> list[Direction]:
    """The rotations (mod 180 degrees) at which the field of the centres of mass has the least curl."""
    size, count = frames.shape[-1], len(frames)
    if count < 3 * NEIGHBOURS:
        return []
    axis = np.arange(size) - size / 2
    total = np.maximum(frames.sum((1, 2)), 1)
    centres = np.stack([frames.sum(2) @ axis / total, frames.sum(1) @ axis / total], axis=1)
    gradients = _gradients(centres, positions)
    found = []
    for swap in (False, True):
        # Columns are the derivatives along y and x; exchanging the positions' axes exchanges the columns.
        (yy, yx), (xy, xx) = (gradients[:, :, ::-1] if swap else gradients).transpose(1, 2, 0)
        # Rotating the positions by t rotates the centres by -t: the curl becomes curl cos t + divergence sin t.
        terms = np.stack([xy - yx, yy + xx])
        values, vectors = np.linalg.eigh(terms @ terms.T)
        cosine, sine = vectors[:, 0]
        share = float(values[0] / max(values.sum(), 1e-30))
        certainty = float((0.5 - share) / (0.5 / np.sqrt(count)))
        degrees = float(np.rad2deg(np.arctan2(sine, cosine)) % 180)
        found.append(Direction(degrees, swap, certainty, "centre of mass"))
    return found


def _gradients(values: Floats, positions: Floats) -> Floats:
    """Derivatives (M, 2, 2) of ``values`` (M, 2) along (y, x) of the positions: local planes through the neighbours."""
    near = _neighbours(positions, NEIGHBOURS)
    steps = positions[near] - positions[:, None]
    rises = values[near] - values[:, None]
    normal = np.einsum("mki,mkj->mij", steps, steps)
    # A pattern whose neighbours lie on a line has no gradient across it.
    inverse = np.linalg.pinv(normal, rcond=1e-3, hermitian=True)
    return np.asarray(np.einsum("mka,mki,mij->maj", rises, steps, inverse), np.float64)


def _neighbours(positions: Floats, count: int) -> NDArray[np.intp]:
    from scipy.spatial import KDTree

    found = KDTree(positions).query(positions, k=min(count + 1, len(positions)))[1]
    return np.asarray(found[:, 1:], np.intp)


def _by_shadows(frames: NDArray[np.float32], positions: Floats) -> list[Direction]:
    """The motions of the shadow image that correlate neighbouring patterns best, without and with swapped axes."""
    shadows, binning = _shadows(frames)
    if shadows is None or len(frames) < 3 * NEIGHBOURS:
        return []
    near = _neighbours(positions, SHADOWS_NEAR)
    pairs = np.unique(np.sort(np.stack([np.repeat(np.arange(len(near)), near.shape[1]), near.ravel()], 1), 1), axis=0)
    maps = _correlations(shadows, pairs)
    steps = positions[pairs[:, 1]] - positions[pairs[:, 0]]
    length = float(np.median(np.hypot(*steps.T)))
    if length == 0:
        return []
    reach = maps.shape[-1] // 2 - 2
    scales = np.geomspace(1.5, reach, SCALES) / length
    turns = np.linspace(0.0, 360.0, ANGLES, endpoint=False, dtype=np.float64)
    found = []
    for swap in (False, True):
        moves = steps[:, ::-1] if swap else steps
        scores = np.stack([_scores(maps, moves, turns, scale) for scale in scales], axis=1)
        turn, scale = np.unravel_index(int(scores.argmax()), scores.shape)
        middle = float(np.median(scores))
        spread = 1.4826 * float(np.median(np.abs(scores - middle)))
        degrees, best = _refined(maps, moves, float(turns[turn]), float(scales[scale]))
        certainty = (float(scores.max()) - middle) / max(spread, 1e-30)
        found.append(Direction(degrees, swap, certainty, "shadow", best * binning))
    return found


def _shadows(frames: NDArray[np.float32]) -> tuple[NDArray[np.float32] | None, int]:
    """Deviations (M, n, n) of the patterns from their mean in the bright disc, in units of noise, binned; the binning.

    None where the bright part is too small to hold an image.
    """
    mean = frames.mean(0, dtype=np.float64)
    if mean.sum() <= 0:
        return None, 1
    bright = mean > 0.5 * (mean**2).sum() / mean.sum()
    rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
    side = max(np.ptp(rows), np.ptp(columns)) + 1
    if bright.sum() < 64 or side < 8:
        return None, 1
    box = slice(rows[0], rows[0] + side), slice(columns[0], columns[0] + side)
    part, light, bright = frames[:, *box], mean[box], bright[box]
    totals = (part * bright).sum((1, 2), dtype=np.float64)
    expected = light * (totals / max((light * bright).sum(), 1e-30))[:, None, None]
    deviation = np.where(bright, part - expected, 0) / np.sqrt(np.maximum(light, 1e-30))
    binning = int(np.ceil(side / BINNED))
    full = -(-side // binning) * binning
    padded = np.zeros((len(part), full, full), np.float32)
    padded[:, : part.shape[1], : part.shape[2]] = deviation
    small = padded.reshape(len(part), full // binning, binning, full // binning, binning).sum((2, 4))
    return small - small.mean(0), binning


def _correlations(shadows: NDArray[np.float32], pairs: NDArray[np.intp]) -> NDArray[np.float32]:
    """Cross-correlations (pairs, 2 n, 2 n) of the shadows of pairs of patterns, zero motion at [n, n]."""
    from scipy.fft import irfft2, rfft2

    side = 2 * shadows.shape[-1]
    y, x = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)
    # A Gaussian of 1 pixel, shared out to the two spectra.
    spectra = rfft2(shadows, (side, side)) * np.exp(-np.square(np.pi) * (y**2 + x**2)).astype(np.float32)
    maps = irfft2(np.conj(spectra[pairs[:, 0]]) * spectra[pairs[:, 1]], (side, side))
    return np.asarray(np.fft.fftshift(maps, (1, 2)), np.float32)


def _moved(maps: NDArray[np.float32], steps: Floats, degrees: Floats, scale: float) -> tuple[Floats, Floats]:
    """Where (y, x) the maps have the steps (pairs, 2), rotated from +x towards +y and scaled: (..., pairs)."""
    turn = np.deg2rad(degrees)[..., None]
    middle, (y, x) = maps.shape[-1] // 2, scale * steps.T
    return middle + x * np.sin(turn) + y * np.cos(turn), middle + x * np.cos(turn) - y * np.sin(turn)


def _scores(maps: NDArray[np.float32], steps: Floats, degrees: Floats, scale: float) -> Floats:
    """Mean correlation at the nearest pixels, for each of several rotations."""
    y, x = (np.rint(each).astype(np.intp) for each in _moved(maps, steps, degrees, scale))
    inside = (y >= 0) & (y < maps.shape[-1]) & (x >= 0) & (x < maps.shape[-1])
    found = maps[np.arange(len(maps)), np.where(inside, y, 0), np.where(inside, x, 0)]
    return np.asarray(np.where(inside, found, 0).mean(axis=-1, dtype=np.float64))


def _score(maps: NDArray[np.float32], steps: Floats, degrees: float, scale: float) -> float:
    """Mean correlation for one rotation, interpolated between pixels."""
    y, x = _moved(maps, steps, np.asarray(degrees), scale)
    rows = np.flatnonzero((y >= 0) & (y < maps.shape[-1] - 1) & (x >= 0) & (x < maps.shape[-1] - 1))
    y, x = y[rows], x[rows]
    top, left = y.astype(int), x.astype(int)
    dy, dx = y - top, x - left
    value = (1 - dy) * ((1 - dx) * maps[rows, top, left] + dx * maps[rows, top, left + 1])
    value += dy * ((1 - dx) * maps[rows, top + 1, left] + dx * maps[rows, top + 1, left + 1])
    return float(value.sum() / len(steps))


def _refined(maps: NDArray[np.float32], steps: Floats, degrees: float, scale: float) -> tuple[float, float]:
    """Rotation in degrees, 0 to below 360, and scale at the best correlation near those given."""
    from scipy.optimize import minimize

    start = np.array([degrees, np.log(scale)])
    simplex = start + np.array([[0, 0], [360 / ANGLES, 0], [0, 0.08]])
    found = minimize(
        lambda p: -_score(maps, steps, p[0], float(np.exp(p[1]))),
        start,
        method="Nelder-Mead",
        options={"initial_simplex": simplex, "xatol": 0.05, "fatol": 1e-6 * float(np.abs(maps).max())},
    )
    return float(found.x[0] % 360), float(np.exp(found.x[1]))
