"""Is the scan read the right way round? Orientation, position signs and centring, each tried for a few epochs and ranked by fit.

A wrong convention is the commonest failure at a beamline: the engine runs, the fit stays poor, nothing says why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.ptycho.scan import Scan
from diptych.runtime.progress import Progress, ProgressCallback

PATTERNS = 200
"""Patterns of the scan's middle that the trials use."""

EPOCHS = 10
"""Epochs of each trial."""

CLEARLY_BETTER = 0.85
"""A reading must fit this much better than the scan as given before a change is advised."""


@dataclass(frozen=True)
class Check:
    """The ranking: ``rows`` best first, each with ``reading``, ``change``, ``fit``, ``relative`` (to the scan as given); and ``advice``."""

    rows: list[dict[str, Any]]
    advice: str


def check(scan: Scan, progress: ProgressCallback | None = None) -> Check:
    """Try the 8 orientations of the patterns, the signs and order of the positions, and the centring of the patterns.

    Parameters
    ----------
    scan : Scan
        As loaded. Without a probe, the start is estimated anew for each reading.
    progress : callable, optional
        Called after each trial.

    Returns
    -------
    Check
        Turning the patterns by 180 degrees gives the complex conjugate of object and probe, which fits as well when the probe is free: the
        two readings differ only through the start of the probe.
    """
    from diptych.ptycho.iterative.trial import central_part, trial_fit

    part = central_part(scan, PATTERNS)
    readings = _readings(part)
    rows: list[dict[str, Any]] = []
    for done, (name, change, make) in enumerate(readings, 1):
        fit = trial_fit(*_with_probe(make(part)), EPOCHS)
        rows.append({"reading": name, "change": change, "fit": fit})
        if progress is not None:
            progress(Progress(f"check: {name}", done, len(readings), {"fit": fit}))
    given = rows[0]["fit"]
    for row in rows:
        row["relative"] = row["fit"] / given
    ranked = sorted(rows, key=lambda row: row["fit"])
    return Check(ranked, _advice(ranked, given))


def _with_probe(scan: Scan) -> tuple[Scan, NDArray[np.complex64]]:
    if scan.probe is not None:
        return scan, scan.probe
    from diptych.ptycho.iterative.estimate import estimate_probe

    return scan, estimate_probe(scan)


Reading = tuple[str, str, Callable[[Scan], Scan]]


def _readings(scan: Scan) -> list[Reading]:
    """Name, what to change in the user's file, and how to make the changed scan."""
    readings: list[Reading] = [("as given", "nothing", lambda s: s)]
    for orientation in range(1, 8):
        turns = [what for bit, what in ((4, "transpose"), (2, "flip y"), (1, "flip x")) if orientation & bit]
        change = f"counts = {_numpy_turn(orientation)}"
        readings.append((f"patterns: {', '.join(turns)} (orientation {orientation})", change, _turner(orientation)))
    for name, change, matrix in (
        ("positions: negate y", "y = -y", ((-1, 0), (0, 1))),
        ("positions: negate x", "x = -x", ((1, 0), (0, -1))),
        ("positions: negate both", "y, x = -y, -x", ((-1, 0), (0, -1))),
        ("positions: swap y and x", "y, x = x, y", ((0, 1), (1, 0))),
        ("positions: swap, negate y", "y, x = -x, y", ((0, -1), (1, 0))),
        ("positions: swap, negate x", "y, x = x, -y", ((0, 1), (-1, 0))),
        ("positions: swap, negate both", "y, x = -x, -y", ((0, -1), (-1, 0))),
    ):
        readings.append((name, change, _mover(np.asarray(matrix, float))))
    half = scan.size // 2
    readings.append(("patterns: zero frequency at the corner", "counts = np.fft.fftshift(counts, (1, 2))", _roller(half, half)))
    dy, dx = _off_centre(scan)
    if (dy, dx) != (0, 0):
        readings.append((f"patterns: centre at y {half + dy}, x {half + dx}", f"counts = np.roll(counts, ({-dy}, {-dx}), (1, 2))", _roller(-dy, -dx)))
    return readings


def _numpy_turn(orientation: int) -> str:
    text = "counts.transpose(0, 2, 1)" if orientation & 4 else "counts"
    if orientation & 3:
        text += f"[:, {'::-1' if orientation & 2 else ':'}, {'::-1' if orientation & 1 else ':'}]"
    return text


def _turner(orientation: int) -> Callable[[Scan], Scan]:
    def turn(array: NDArray[Any]) -> NDArray[Any]:
        if orientation & 4:
            array = np.swapaxes(array, -1, -2)
        for bit, axis in ((2, -2), (1, -1)):
            if orientation & bit:
                # Even sizes have no mirror pixel for row 0: rolling by one keeps zero frequency where it is.
                array = np.roll(np.flip(array, axis), 1 - array.shape[axis] % 2, axis)
        return array

    return lambda scan: _with_patterns(scan, turn)


def _roller(dy: int, dx: int) -> Callable[[Scan], Scan]:
    return lambda scan: _with_patterns(scan, lambda array: np.roll(array, (dy, dx), (-2, -1)))


def _mover(matrix: NDArray[np.float64]) -> Callable[[Scan], Scan]:
    return lambda scan: replace(scan, positions=scan.positions @ matrix.T)


def _with_patterns(scan: Scan, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Scan:
    return replace(
        scan,
        counts=np.ascontiguousarray(change(scan.counts)),
        mask=None if scan.mask is None else np.ascontiguousarray(change(scan.mask)),
        background=None if scan.background is None else np.ascontiguousarray(change(scan.background)),
    )


def _off_centre(scan: Scan) -> tuple[int, int]:
    """How far the mean pattern's centre of mass lies from [N // 2, N // 2], in whole pixels (y, x)."""
    valid = 1.0 if scan.mask is None else scan.mask
    mean = (scan.counts * valid).mean(0, dtype=np.float64)
    axis = np.arange(scan.size) - scan.size // 2
    return int(np.rint((mean.sum(1) @ axis) / mean.sum())), int(np.rint((mean.sum(0) @ axis) / mean.sum()))


def _advice(ranked: list[dict[str, Any]], given: float) -> str:
    best = ranked[0]
    if best["fit"] > CLEARLY_BETTER * given:
        if given < 3:
            return f"The scan fits best as it is given (fit {given:.2f})."
        return (
            f"No other reading fits clearly better than the scan as given (fit {given:.2f} after {EPOCHS} epochs). If a full run stays poor, "
            "look at the probe start (--probe estimate), the number of probe modes (--modes 3), the units of the positions and the mask."
        )
    ties = [row["reading"] for row in ranked[1:] if row["fit"] < 1.1 * best["fit"]]
    text = f"Reading the scan with '{best['reading']}' fits {given / best['fit']:.1f} times better than as given: {best['change']}."
    if ties:
        text += (
            f" As good: {'; '.join(ties)}. Turning patterns and positions alike only mirrors the image, and turning the patterns by 180 degrees "
            "conjugates it; choose the one that your beamline's convention names."
        )
    return text
