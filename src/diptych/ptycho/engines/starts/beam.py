"""What of the factors of the frames belongs to a beam that varies in time, and what to a ramp over the scan."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky_banded, solve_banded

_WALKS = (0.0, *np.logspace(-4, 4, 33))
"""Variances of a step of the random walk, in those of the independent part, that are compared."""

_HUBER = 2.0
"""Steps beyond this many standard deviations, such as a refilled storage ring, count by their sign alone."""

_ROUNDS = 30
"""Rounds of reweighted least squares; they end sooner where the slope stays the same."""


def slope_over_scan(logs: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """The slope of log factors over positions that is not explained by a beam that varies in time.

    ``logs = c + places @ slope + b``, where the beam ``b`` is a random walk from frame to frame plus an independent
    part. The variance of the walk is the most likely one; at zero, the slope is that of ordinary least squares. Single
    large steps hardly change the slope (Huber's estimate).

    A beam that falls evenly while positions advance along one axis is not told from a slope. Where the rows of a
    raster are scanned to and fro, the frames within a row tell.

    Parameters
    ----------
    logs : (M,) float array
        Logarithms of the factors, in the order in which the frames were taken.
    places : (M, 2) float array
        Positions, px.

    Returns
    -------
    (2,) float array
        Per px, along y and x; zero along an axis that the positions do not span.

    References
    ----------
    A. C. Harvey, Forecasting, Structural Time Series Models and the Kalman Filter (1989), local level model;
    P. J. Huber, Robust Statistics (1981).
    """
    steps, moves = np.diff(logs), np.diff(places, axis=0)
    if len(steps) < 3:
        return np.zeros(2)
    _, steps, moves = min((_whitened(walk, steps, moves) for walk in _WALKS), key=lambda found: found[0])
    slope = np.linalg.lstsq(moves, steps, rcond=None)[0]
    for _ in range(_ROUNDS):
        off = np.abs(steps - moves @ slope)
        spread = 1.4826 * np.median(off)
        weights = np.sqrt(np.minimum(1.0, _HUBER * spread / np.maximum(off, 1e-300)))
        before, slope = slope, np.linalg.lstsq(moves * weights[:, None], steps * weights, rcond=None)[0]
        if np.abs(slope - before).max() <= 1e-6 * np.abs(slope).max():
            break
    return slope.astype(np.float64)


def _whitened(
    walk: float, steps: NDArray[np.float64], moves: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Minus twice the log likelihood of a variance of the walk, and steps and moves of unit covariance.

    The steps from frame to frame of an independent part plus a walk have a covariance of three diagonals:
    ``-1, 2 + walk, -1``.
    """
    bands = np.stack([np.full(len(steps), 2.0 + walk), np.full(len(steps), -1.0)])
    factor = cholesky_banded(bands, lower=True)
    both = solve_banded((1, 0), factor, np.column_stack([steps, moves]))
    steps, moves = both[:, 0], both[:, 1:]
    left = steps - moves @ np.linalg.lstsq(moves, steps, rcond=None)[0]
    misfit = len(steps) * math.log(max(float(left @ left), 1e-300)) + 2 * float(np.log(factor[0]).sum())
    return misfit, steps, moves
