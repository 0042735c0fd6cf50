"""Is the scan read the right way round? Orientation, position signs and centring, each tried for a few epochs and
ranked by fit.

A wrong convention is the commonest failure at a beamline: the engine runs, the fit stays poor, nothing says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.raw import reread
from diptych.ptycho.scan import Scan
from diptych.runtime.progress import Progress, ProgressCallback

PATTERNS = 200
"""Patterns of the scan's middle that the trials use."""

EPOCHS = 10
"""Epochs of each trial."""

CLEARLY_BETTER = 0.85
"""A reading must fit this much better than the scan as given before a change is advised."""

POOR = 3.0
"""A trial fit above this says that something is wrong, whichever reading is best."""

AS_GOOD = 1.3
"""Readings within this factor of the best one are not told apart."""


@dataclass(frozen=True)
class Check:
    """The ranking: ``rows`` best first, each with ``reading``, ``change``, ``fit``, ``relative`` (to the scan as
    given); and ``advice``.
    """

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
        Turning the patterns by 180 degrees gives the complex conjugate of object and probe, and so does mirroring y and
        x of the positions, with the image turned as well. Both fit as well when the probe is free: they differ only
        through the start of the probe, and no ranking can decide between them.

    Examples
    --------
    >>> from dataclasses import replace
    >>> import diptych
    >>> scan = diptych.simulate(object="dead-leaves", size=16, patterns=64, step=2.0, dose=1e6, seed=0)
    >>> wrong = replace(scan, positions=scan.positions[:, ::-1], truth=None)
    >>> found = diptych.check(wrong)
    >>> found.rows[0]["relative"] < 1
    True
    """
    from diptych.ptycho.engines.starts.trial import central_part, try_out

    part = central_part(scan, PATTERNS)
    readings = _readings(part)
    rows: list[dict[str, Any]] = []
    for done, (name, changes) in enumerate(readings, 1):
        fit = try_out(*_with_probe(reread(part, LoadOptions(**changes)) if changes else part), EPOCHS).fit
        rows.append({"reading": name, "change": _flags(changes), "fit": fit})
        if progress is not None:
            progress(Progress(f"check: {name}", done, len(readings), {"fit": fit}))
    given = rows[0]["fit"]
    for row in rows:
        row["relative"] = row["fit"] / given
    ranked = sorted(rows, key=lambda row: row["fit"])
    return Check(ranked, _advice(ranked, dict(readings)[ranked[0]["reading"]], given))


def _with_probe(scan: Scan) -> tuple[Scan, NDArray[np.complex64]]:
    if scan.probe is not None:
        return scan, scan.probe
    from diptych.ptycho.engines.starts.estimate import estimate_probe

    return scan, estimate_probe(scan)


def _readings(scan: Scan) -> list[tuple[str, dict[str, Any]]]:
    """Name, and the options of ``load`` that make the reading."""
    readings: list[tuple[str, dict[str, Any]]] = [("as given", {})]
    for orientation in range(1, 8):
        turns = [what for bit, what in ((4, "transpose"), (2, "flip y"), (1, "flip x")) if orientation & bit]
        readings.append((f"patterns: {', '.join(turns)} (orientation {orientation})", {"orientation": orientation}))
    for name, changes in (
        ("negate y", {"flip_y": True}),
        ("negate x", {"flip_x": True}),
        ("negate both", {"flip_y": True, "flip_x": True}),
        ("swap y and x", {"swap_xy": True}),
        ("swap, negate y", {"swap_xy": True, "flip_y": True}),
        ("swap, negate x", {"swap_xy": True, "flip_x": True}),
        ("swap, negate both", {"swap_xy": True, "flip_y": True, "flip_x": True}),
    ):
        readings.append((f"positions: {name}", dict(changes)))
    readings.append(("patterns: zero frequency at the corner", {"corner_centred": True}))
    y, x = _off_centre(scan)
    if (y, x) != (0, 0):
        half = scan.size // 2
        readings.append((f"patterns: centre at y {half + y}, x {half + x}", {"move_y": -y, "move_x": -x}))
    return readings


def _flags(changes: dict[str, Any]) -> str:
    """What to pass on the command line."""
    return (
        " ".join(
            f"--{name.replace('_', '-')}" + ("" if value is True else f" {value}") for name, value in changes.items()
        )
        or "nothing"
    )


def _off_centre(scan: Scan) -> tuple[int, int]:
    """How far the mean pattern's centre of mass lies from [N // 2, N // 2], in whole pixels (y, x)."""
    counts = scan.counts if scan.mask is None else np.where(scan.mask, scan.counts, 0)
    mean = counts.mean(0, dtype=np.float64)
    axis = np.arange(scan.size) - scan.size // 2
    return int(np.rint((mean.sum(1) @ axis) / mean.sum())), int(np.rint((mean.sum(0) @ axis) / mean.sum()))


def _advice(ranked: list[dict[str, Any]], changes: dict[str, Any], given: float) -> str:
    """What to do; ``changes`` are the options of the best reading."""
    best = ranked[0]
    if best["fit"] > CLEARLY_BETTER * given:
        if given < POOR:
            return f"The scan fits best as it is given (fit {given:.2f}).{_twins(ranked, 'as given', given)}"
        return (
            f"No other reading fits clearly better than the scan as given (fit {given:.2f} after {EPOCHS} epochs). "
            f"If a full run stays "
            "poor, look at the probe start (--probe estimate), the probe modes (--modes 3), the units of the "
            "positions and the mask."
        )
    times = f"{given / best['fit']:.1f} times better than" if np.isfinite(given) else "well, and diverged"
    python = ", ".join(f"{name}={value!r}" for name, value in changes.items())
    return (
        f"Reading the scan with '{best['reading']}' fits {times} as given: pass {best['change']}, in Python "
        f"load(FILE, {python})."
        f"{_twins(ranked, best['reading'], best['fit'])}"
    )


def _twins(ranked: list[dict[str, Any]], reading: str, fit: float) -> str:
    """What fits as well as ``reading``, and what no scan can decide."""
    ties = [
        f"'{row['reading']}' ({row['change']})"
        for row in ranked
        if row["reading"] != reading and row["fit"] < AS_GOOD * fit
    ]
    text = ""
    if ties:
        text = (
            f" About as good, and not told apart by the data: {', '.join(ties)}. Patterns and positions turned alike "
            f"mirror the image; "
            "choose what your beamline's convention names."
        )
    return text + (
        " Patterns turned by 180 degrees more give the complex conjugate of object and probe, the phase with the "
        "other sign: that twin "
        "explains the data as well, and only the start of the probe decides between the two."
    )
