"""Checks the conventions of a scan: orientation, position signs, centring and order of frames, each tried for a few
epochs and ranked.

A wrong convention is the most common failure at a beamline: the engine runs and the fit stays poor, without an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.ptycho.engines.flags.readings import (
    AS_GIVEN,
    Reading,
    by_options,
    command_line,
    frame_orders,
    orientations,
)
from diptych.ptycho.prepare.photons import usable
from diptych.ptycho.scan import Scan
from diptych.runtime.cpu.parallel import shared_out
from diptych.runtime.progress import Progress, ProgressCallback

if TYPE_CHECKING:
    from diptych.ptycho.engines.flags.trials import Verdict

PATTERNS = 200
"""Patterns at the centre of the scan that the trials use."""

AS_GOOD = 1.3
"""Readings within this factor of the best fit are reported as indistinguishable."""


@dataclass(frozen=True)
class Check:
    """The ranking of all readings, and a recommendation.

    Parameters
    ----------
    rows : list of dict
        Best first, each with ``reading``, ``change`` (flags for the command line), ``fit``, and ``relative``: the fit
        relative to that of the scan as given.
    advice : str
        What to do.
    """

    rows: list[dict[str, Any]]
    advice: str


def check(scan: Scan, progress: ProgressCallback | None = None, *, search_rotation: bool | None = None) -> Check:
    """Try the 8 orientations of the patterns, the signs and order of the positions, the centring of the patterns, and
    other assignments of frames to positions.

    Parameters
    ----------
    scan : Scan
        As loaded. Without a probe, an initial one is estimated for each reading.
    progress : callable, optional
        Called after each trial.
    search_rotation : bool, optional
        Search the rotation of the scan against the detector first, over 360 degrees and with y and x exchanged or not.
        Default: where the particle is the electron. Where a rotation, or none, explains the patterns, nothing else is
        tried.

    Returns
    -------
    Check
        Rotating the patterns by 180 degrees gives the complex conjugate of object and probe, and so does mirroring y
        and x of the positions, with the image rotated as well. Both fit equally well where the probe is refined: they
        differ only in the initial probe, and no ranking can decide between them.

        Bad frames and saturated counts are left out first, and counts in other units divided by their gain, as
        :func:`~diptych.reconstruct` does; the advice ends with what was found.

        The best reading is then reconstructed further. Where it does not explain the patterns either, the advice
        recommends no reading: see :mod:`diptych.ptycho.engines.flags.trials` for the standard.

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
    from diptych.ptycho.engines.flags.rotation_report import check_rotation
    from diptych.ptycho.engines.flags.trials import rank, settle
    from diptych.ptycho.engines.starts.trial import central_part

    cleaned = usable(scan)
    scan = cleaned.scan
    found = "".join(f" {flag[0].upper()}{flag[1:]}" for flag in cleaned.flags)
    if search_rotation is None:
        search_rotation = scan.geometry is not None and scan.geometry.particle == "electron"
    if search_rotation:
        turned = check_rotation(scan, progress)
        if turned.settled:
            return Check(turned.rows, turned.advice + found)
        found = f" {turned.advice}{found}"
    readings = _readings(scan, central_part(scan, PATTERNS))
    rows: list[dict[str, Any]] = []

    def report(done: int, reading: Reading, fit: float) -> None:
        rows.append({"reading": reading.name, "change": _change(reading), "fit": fit})
        if progress is not None:
            progress(Progress(f"check: {reading.name}", done, len(readings), {"fit": fit}))

    with shared_out(True) as workers:
        fits = rank(scan, readings, PATTERNS, report, workers)
        verdict = settle(scan, readings, fits, workers)
    for row in rows:
        # Where the scan as given diverged, what did not is better by any factor.
        row["relative"] = row["fit"] / fits[0] if np.isfinite(fits[0]) else float(not np.isfinite(row["fit"]))
    ranked = sorted(rows, key=lambda row: row["fit"])
    return Check(ranked, _advice(ranked, verdict, fits[0]) + found)


def _readings(scan: Scan, part: Scan) -> list[Reading]:
    """The readings to try, the scan as given first; ``part`` shows where the patterns are centred."""
    readings = [AS_GIVEN, *orientations()]
    for name, changes in (
        ("negate y", {"flip_y": True}),
        ("negate x", {"flip_x": True}),
        ("negate both", {"flip_y": True, "flip_x": True}),
        ("swap y and x", {"swap_xy": True}),
        ("swap, negate y", {"swap_xy": True, "flip_y": True}),
        ("swap, negate x", {"swap_xy": True, "flip_x": True}),
        ("swap, negate both", {"swap_xy": True, "flip_y": True, "flip_x": True}),
    ):
        readings.append(by_options(f"positions: {name}", changes))
    readings.append(by_options("patterns: zero frequency at the corner", {"corner_centred": True}))
    y, x = _off_centre(part)
    if (y, x) != (0, 0):
        half = part.size // 2
        readings.append(by_options(f"patterns: centre at y {half + y}, x {half + x}", {"move_y": -y, "move_x": -x}))
    return readings + frame_orders(scan)


def _change(reading: Reading) -> str:
    """Flags for the command line, or what to do where no flag makes the reading."""
    return reading.remedy if reading.changes is None else command_line(reading.changes)


def _off_centre(scan: Scan) -> tuple[int, int]:
    """Distance (y, x) of the mean pattern's centre of mass from [N // 2, N // 2], in whole pixels."""
    counts = scan.counts if scan.mask is None else np.where(scan.mask, scan.counts, 0)
    mean = counts.mean(0, dtype=np.float64)
    axis = np.arange(scan.size) - scan.size // 2
    return int(np.rint((mean.sum(1) @ axis) / mean.sum())), int(np.rint((mean.sum(0) @ axis) / mean.sum()))


def _advice(ranked: list[dict[str, Any]], verdict: Verdict, given: float) -> str:
    """What to do: nothing, another reading, or to look for the cause where no reading fits."""
    from diptych.ptycho.engines.flags.misfit import NO_ADVICE, NO_RANKING, UNRANKED, intensity_varies

    best, name = ranked[0]["fit"], verdict.best.name
    if not (verdict.right or verdict.distinct):
        text = (
            f"No reading fits: the best short trial reaches {best:.2f} ('{ranked[0]['reading']}'), the scan as given "
            f"{given:.2f}, and a longer trial of '{name}' {verdict.evidence.level:.2f}, where 1 is expected. As far as "
            f"tried, {NO_ADVICE} An initial probe far from the true one (--probe estimate) and too few probe modes "
            "(--modes 3) have the same effect."
        )
        if intensity_varies(verdict.evidence):
            text += f" The totals of the patterns vary by {verdict.evidence.spread:.0%}: the beam was not stable."
        return text + (NO_RANKING if verdict.evidence.level > UNRANKED else "")
    if verdict.best is AS_GIVEN:
        text = f"The scan fits best as it is given (fit {given:.2f}).{_twins(ranked, 'as given', given)}"
        return text if verdict.right else text + _MISSING
    times = f"{given / best:.1f} times better than" if np.isfinite(given) else "well, and diverged"
    return f"Reading the scan with '{name}' fits {times} as given: {verdict.best.remedy}.{_twins(ranked, name, best)}"


_MISSING = (
    " No other reading comes near, but the patterns are not explained yet: try more probe modes (--modes 3), another "
    "initial probe (--probe estimate), and check positions, mask and bad frames."
)


def _twins(ranked: list[dict[str, Any]], reading: str, fit: float) -> str:
    """Readings that fit as well as ``reading``, and the conjugate that no scan can exclude."""
    ties = [
        f"'{row['reading']}' ({row['change']})"
        for row in ranked
        if row["reading"] != reading and row["fit"] < AS_GOOD * fit
    ]
    text = ""
    if ties:
        text = (
            f" About as good, and indistinguishable by the data: {', '.join(ties)}. The same rotation of patterns and "
            "positions mirrors the image; choose your beamline's convention."
        )
    return text + (
        " Patterns rotated by another 180 degrees give the complex conjugate of object and probe (the phase changes "
        "sign), which fits as well: only the initial probe decides between the two."
    )
