"""The scan that is reconstructed: without bad frames, bad pixels and saturated counts, and what was left out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.physics.detector.read_noise import read_variance, shifted
from diptych.ptycho.physics.gain import common_unit
from diptych.ptycho.prepare.coincidence import find_coincidence
from diptych.ptycho.prepare.events import Events, find_events
from diptych.ptycho.prepare.frames import BadFrames, find_bad_frames, parse_ranges, ranges
from diptych.ptycho.prepare.pixels import BadPixels, find_bad_pixels, find_saturation
from diptych.ptycho.scan import Scan


@dataclass(frozen=True, eq=False)
class Findings:
    """What a scan holds that no sample explains.

    Parameters
    ----------
    frames : BadFrames
        Empty, bright, dark and misshapen frames.
    pixels : BadPixels
        Hot, stuck and dead pixels and lines, judged without the bad frames.
    events : Events
        Cosmic rays, in the frames without a fault.
    saturation : float, optional
        The value at which the detector saturates.
    numbers : (m,) int
        Numbers of the frames without a fault.
    """

    frames: BadFrames
    pixels: BadPixels
    events: Events
    saturation: float | None
    numbers: NDArray[np.int64]

    def sentences(self) -> list[str]:
        """One sentence for each fault."""
        said = [*self.frames.sentences(), *self.pixels.sentences()]
        if self.events:
            said.append(self.events.sentence(self.numbers))
        if self.saturation is not None:
            said.append(f"the largest count {self.saturation:g} repeats: the detector saturates there")
        return said


def inspect(scan: Scan) -> Findings:
    """Look for bad frames, then, without them, for bad pixels, then, without these, for events and saturation."""
    unit = _unit(scan)
    if unit != 1:
        # Every threshold is one of photons.
        shown = None if scan.background is None else (scan.background / unit).astype(np.float32)
        noise = None if scan.read_noise is None else scan.read_noise / unit
        counts = (scan.counts / np.float64(unit)).astype(np.float32)
        scan = replace(scan, counts=counts, background=shown, read_noise=noise)
    shift = read_variance(scan)
    scan = shifted(scan)
    frames = find_bad_frames(scan)
    rest = without_frames(scan, frames.numbers)
    pixels = find_bad_pixels(rest)
    usable = masked(rest, pixels.valid()) if pixels else rest
    events = find_events(usable)
    level = find_saturation(masked(usable, events.valid(usable.counts.shape)) if events else usable)
    level = None if level is None else (level - shift) * unit
    return Findings(frames, pixels, events, level, np.setdiff1d(np.arange(len(scan)), frames.numbers))


def _unit(scan: Scan) -> float:
    """Counts per photon as the scan states, or their common unit; 1 where there is none.

    The noise, which tells it for other counts, is measured after cleaning: a hot pixel would be taken for noise.
    """
    if scan.scale is not None:
        return 1 / scan.scale
    return 1.0 if scan.read_noise is not None else common_unit(scan.counts, scan.mask) or 1.0


def without_frames(scan: Scan, numbers: list[int]) -> Scan:
    """The scan without these frames.

    Raises
    ------
    InputError
        If none would be left.
    """
    if not numbers:
        return scan
    kept = np.ones(len(scan), bool)
    kept[numbers] = False
    if not kept.any():
        raise InputError(f"{scan.name}: drop", "all frames would be left out", "at least one frame to reconstruct")
    mask = scan.mask[kept] if scan.mask is not None and scan.mask.ndim == 3 else scan.mask
    return replace(scan, counts=scan.counts[kept], positions=scan.positions[kept], mask=mask)


def masked(scan: Scan, valid: NDArray[np.bool_]) -> Scan:
    """The scan with the pixels masked where ``valid`` (N, N) or (M, N, N) is False."""
    return replace(scan, mask=valid if scan.mask is None else scan.mask & valid)


@dataclass(frozen=True, eq=False)
class Cleaned:
    """A scan to reconstruct, what was changed (``flags``, sentences), and the record of it (JSON values).

    ``spoiled`` says what was found, is still in the scan, and how to take it out; empty where nothing is.
    """

    scan: Scan
    flags: tuple[str, ...] = ()
    record: dict[str, Any] = field(default_factory=dict)
    spoiled: str = ""


def clean(
    scan: Scan,
    *,
    drop: str = "",
    bad_frames: Literal["auto", "keep"] = "auto",
    auto_mask: bool = False,
    saturated: Literal["auto", "keep", "limit"] = "auto",
) -> Cleaned:
    """Leave out what no sample explains.

    Parameters
    ----------
    drop : str
        Numbers and ranges of frames to leave out, for instance "3,7-9".
    bad_frames : {"auto", "keep"}
        Leave out the frames found at fault, or only name them.
    auto_mask : bool
        Mask the pixels found at fault; otherwise they are only named.
    saturated : {"auto", "keep", "limit"}
        Mask counts at the value where the detector saturates, or only name it. With "limit" they are masked too, and
        maximum likelihood uses them as lower limits.

    Raises
    ------
    InputError
        If ``drop`` names no frames of the scan, or nothing would be left.
    """
    dropped = parse_ranges(drop, len(scan))
    rest = without_frames(scan, dropped)
    found = inspect(rest)
    lost = find_coincidence(rest)
    numbers = np.setdiff1d(np.arange(len(scan)), dropped)
    named = BadFrames(*(tuple(int(numbers[i]) for i in some) for some in vars(found.frames).values()))
    leave_out, pixels = bad_frames == "auto", found.pixels
    flags = [f"frames left out as asked: {ranges(dropped)}."] if dropped else []
    flags += [f"{lost.sentence()}."] if lost else []
    flags += _frame_flags(named, found, numbers, leave_out)
    out = _without_faulty_frames(rest, found) if leave_out else rest
    if pixels:
        out = masked(out, pixels.valid()) if auto_mask else out
        hint = "masked" if auto_mask else "mask them with auto_mask=True (--auto-mask)"
        flags += [f"{sentence}; {hint}." for sentence in pixels.sentences()]
    number = 0
    if found.saturation is not None:
        out, number, flag = _saturation_masked(out, found.saturation, saturated)
        flags.append(flag)
    record = {
        "dropped": dropped,
        "bad_frames": {kind: list(some) for kind, some in vars(named).items() if some},
        "left_out": sorted({*dropped, *(named.numbers if leave_out else [])}),
        "events": len(found.events.where),
        "events_masked": bool(found.events) and leave_out,
        "bad_pixels": {kind: list(getattr(pixels, kind)) for kind in ("hot", "stuck", "dead", "rows", "columns")},
        "bad_pixels_masked": bool(pixels) and auto_mask,
        "saturation": found.saturation,
        "saturated_counts": number,
    }
    remedies = [
        "mask the bad pixels (auto_mask=True, --auto-mask)" if pixels and not auto_mask else "",
        "leave out the bad frames (bad_frames='auto', --bad-frames auto)" if named.numbers and not leave_out else "",
        "mask the saturated counts (saturated='auto', --saturated auto)" if number and saturated == "keep" else "",
    ]
    return Cleaned(out, tuple(flags), record if flags else {}, " and ".join(filter(None, remedies)))


def _frame_flags(named: BadFrames, found: Findings, numbers: NDArray[np.int64], leave_out: bool) -> list[str]:
    """Sentences on bad frames and cosmic rays, with the ``numbers`` of the frames in the whole scan."""
    what = "left out" if leave_out else "kept as asked"
    hint = "Keep them with bad_frames='keep' (--bad-frames keep)." if leave_out else "They spoil the image."
    flags = [f"{what}: {sentence}. {hint}" for sentence in named.sentences()]
    if found.events:
        what = "masked" if leave_out else "kept as asked"
        flags.append(f"{what}: {found.events.sentence(numbers[found.numbers])}.")
    return flags


def _without_faulty_frames(scan: Scan, found: Findings) -> Scan:
    """The scan without its bad frames, and with cosmic rays masked in the others."""
    if found.events:
        good = np.ones(scan.counts.shape, bool)
        good[(found.numbers[found.events.where[:, 0]], *found.events.where.T[1:])] = False
        scan = masked(scan, good)
    return without_frames(scan, found.frames.numbers)


def _saturation_masked(scan: Scan, level: float, saturated: Literal["auto", "keep", "limit"]) -> tuple[Scan, int, str]:
    """The scan with the counts at the saturation ``level`` masked, unless kept; their number, and a sentence."""
    high = np.asarray(scan.counts >= level * (1 - 1e-6)) & (True if scan.mask is None else scan.mask)
    number = int(high.sum())
    hint = {"auto": "masked", "keep": "kept as asked", "limit": "used as lower limits where the engine can"}[saturated]
    flag = f"saturated: {number} counts share the largest value, {level:g}; {hint}."
    return (scan if saturated == "keep" else masked(scan, ~high)), number, flag
