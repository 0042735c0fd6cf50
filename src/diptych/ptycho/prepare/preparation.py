"""``diptych.prepare``: a new scan with frames chosen, and detector and positions corrected."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io.convert import chunks
from diptych.ptycho.io.images import read_image
from diptych.ptycho.prepare.centre import centre_of_mass, centre_of_symmetry
from diptych.ptycho.prepare.clean import masked, without_frames
from diptych.ptycho.prepare.detector import CUT_OFF, binned, cut_off, recentred, resized, turned
from diptych.ptycho.prepare.frames import parse_ranges, ranges
from diptych.ptycho.prepare.photons import in_photons
from diptych.ptycho.prepare.pixels import find_bad_pixels
from diptych.ptycho.prepare.preparation_options import PrepareOptions
from diptych.ptycho.prepare.tilt import untilted
from diptych.ptycho.scan import Scan

WEAKEST = 0.1
"""Pixels of a flat field below this share of its median are masked."""


def prepare(scan: Scan, options: PrepareOptions | None = None, **overrides: Any) -> Scan:
    """A scan with frames chosen, detector and positions corrected; what was done is in ``metadata["preparation"]``.

    The result depends on the scan and the options alone. Counts stay counts: a dark frame becomes expected background,
    pixels that were not measured are masked, binning sums. A flat field or a gain gives numbers that are no longer
    whole; their noise is then the photons' only to the accuracy of the correction.

    Parameters
    ----------
    scan : Scan
        M patterns of N x N pixels; it is not changed.
    options : PrepareOptions, optional
        What to do; steps are taken in the order of the fields.
    **overrides
        Single options by name; they take precedence over ``options``.

    Raises
    ------
    InputError
        If an option is wrong, a file cannot be read, no frame is left, or N does not allow a step.

    Examples
    --------
    >>> import diptych
    >>> scan = diptych.simulate(object="blocks", size=32, patterns=25, step=4.0, seed=0)
    >>> smaller = diptych.prepare(scan, crop=16)
    >>> smaller.size, bool((smaller.positions == scan.positions / 2).all())
    (16, True)
    >>> smaller.metadata["preparation"]["steps"]
    ['cropped from 32 to 16 pixels: the object pixel is 2 times as large']
    """
    if not isinstance(scan, Scan):
        raise InputError("prepare", f"got a {type(scan).__name__}", "a Scan", "diptych.load(path) reads one.")
    options = (options or PrepareOptions()).with_changes(**overrides)
    said: list[str] = []
    out = _chosen(scan, options, said)
    out = _calibrated(out, options, said)
    out = _framed(out, options, said)
    if options.tilt_deg:
        out, sentence = untilted(out, options.tilt_deg, options.tilt_axis, options.tilt_positions)
        said.append(sentence)
    out = _placed(out, options, said)
    given = options.model_dump(mode="json", exclude_defaults=True)
    record: dict[str, Any] = {
        "options": given,
        "steps": said,
        "of": {"name": scan.name, "counts_sha256": counts_sha256(scan)},
    }
    if earlier := scan.metadata.get("preparation"):
        record["after"] = earlier
    return replace(out, metadata={**scan.metadata, "preparation": record})


def counts_sha256(scan: Scan) -> str:
    """SHA-256 of the counts, hexadecimal."""
    digest = hashlib.sha256(f"{scan.counts.dtype} {scan.counts.shape}".encode())
    for part in chunks(scan.counts):
        digest.update(np.ascontiguousarray(scan.counts[part]).tobytes())
    return digest.hexdigest()


def _chosen(scan: Scan, options: PrepareOptions, said: list[str]) -> Scan:
    """The frames that are kept."""
    every = np.arange(len(scan))
    kept = np.asarray(parse_ranges(options.frames, len(scan), "frames"), int) if options.frames.strip() else every
    kept = np.setdiff1d(kept[:: options.every], parse_ranges(options.omit, len(scan), "omit"))
    if len(kept) < len(scan):
        said.append(f"{len(kept)} of {len(scan)} frames kept: {ranges(kept.tolist())}")
    return without_frames(scan, np.setdiff1d(every, kept).tolist())


def _calibrated(scan: Scan, options: PrepareOptions, said: list[str]) -> Scan:
    """Dark frame, flat field, masks and gain."""
    if options.dark is not None:
        dark = np.asarray(read_image(options.dark, scan.size, "a dark frame"), np.float32)
        if not np.isfinite(dark).all() or dark.min() < 0:
            raise InputError(options.dark, "values are negative or not finite", "expected counts of a dark frame")
        scan = replace(scan, background=dark if scan.background is None else scan.background + dark)
        said.append(f"dark frame of {dark.mean():.3g} counts per pixel added to the background")
    if options.flat is not None:
        scan = _flattened(scan, read_image(options.flat, scan.size, "a flat field"), options.flat)
        said.append("counts divided by the flat field, relative to its median")
    if options.mask_file is not None:
        given = read_image(options.mask_file, scan.size, "a mask") != 0
        scan = masked(scan, given if options.mask_file_means == "valid" else ~given)
        said.append("mask of a file applied")
    if options.mask_found and (found := find_bad_pixels(scan)):
        scan = masked(scan, found.valid())
        said += [f"masked: {sentence}" for sentence in found.sentences()]
    if options.gain is not None:
        stated = replace(scan, scale=None if options.gain == "auto" else 1 / options.gain)
        scan, gain = in_photons(stated)
        said.append(f"counts divided by {gain.value:.6g} detector units per photon")
    return scan


def _flattened(scan: Scan, flat: NDArray[Any], where: str) -> Scan:
    usual = float(np.median(flat[np.isfinite(flat)])) if np.isfinite(flat).any() else 0.0
    if usual <= 0:
        raise InputError(where, "its median is not above 0", "the response of each pixel to even light")
    relative = np.where(np.isfinite(flat), flat / usual, 0)
    valid = relative >= WEAKEST
    relative = np.where(valid, relative, 1)
    counts = np.empty(scan.counts.shape, np.float32)
    for part in chunks(scan.counts):
        counts[part] = np.where(valid, scan.counts[part] / relative, 0)
    shown = None if scan.background is None else (scan.background / relative).astype(np.float32)
    scan = replace(scan, counts=counts, background=shown)
    return scan if valid.all() else masked(scan, valid)


def _framed(scan: Scan, options: PrepareOptions, said: list[str]) -> Scan:
    """Orientation, centre, crop, bin, pad."""
    scan = turned(scan, options.turn)
    if options.turn:
        said.append(f"patterns oriented by {options.turn}")
    if options.centre != "keep":
        y, x = centre_of_mass(scan) if options.centre == "mass" else centre_of_symmetry(scan)
        middle = scan.size // 2
        dy, dx = int(np.rint(middle - y)), int(np.rint(middle - x))
        scan = recentred(scan, dy, dx)
        said.append(f"centre of {options.centre} at ({y:.1f}, {x:.1f}): patterns moved by ({dy}, {dx}) pixels")
    if options.crop is not None:
        scan = _resized(scan, options.crop, "crop", said)
    if options.bin > 1:
        size = scan.size // options.bin
        lost = 0.0 if scan.probe is None else cut_off(scan.probe, size)
        scan = binned(scan, options.bin)
        cut = f"; {lost:.1%} of the probe's power is outside the smaller window" if lost > CUT_OFF else ""
        said.append(f"{options.bin} x {options.bin} pixels summed: N = {size}{cut}")
    if options.pad is not None:
        scan = _resized(scan, options.pad, "pad", said)
    return scan


def _resized(scan: Scan, size: int, how: Literal["crop", "pad"], said: list[str]) -> Scan:
    old = scan.size
    if (size > old) if how == "crop" else (size < old):
        raise InputError(f"prepare: {how}", f"{size} for N = {old}", f"at {'most' if how == 'crop' else 'least'} {old}")
    if size == old:
        return scan
    said.append(
        f"{'cropped' if how == 'crop' else 'padded'} from {old} to {size} pixels: the object pixel is "
        f"{old / size:.4g} times as large"
    )
    return resized(scan, size)


def _placed(scan: Scan, options: PrepareOptions, said: list[str]) -> Scan:
    """Positions scaled, sheared and rotated about their mean."""
    scale, turn, shear = options.position_scale, options.position_rotation, options.position_shear
    if (scale, turn, shear) == (1, 0, 0):
        return scan
    angle = np.deg2rad(turn)
    # Rows are new (y, x), columns old: shear first, then rotation, then scale.
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    matrix = scale * rotation @ np.array([[1, 0], [shear, 1]])
    middle = scan.positions.mean(0)
    said.append(f"positions: scale {scale:g}, rotation {turn:g} degrees, shear {shear:g}")
    return replace(scan, positions=middle + (scan.positions - middle) @ matrix.T, truth=None)
