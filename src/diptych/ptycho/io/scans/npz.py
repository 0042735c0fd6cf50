"""Scans as NPZ: the canonical layout and its legacy forms.

Canonical keys are ``diff3d`` (M, N, N), ``xcoords`` and ``ycoords`` (M,) in object pixels, ``probeGuess``,
``objectGuess`` with ``objectOrigin`` (y, x), ``mask`` (True = valid), ``background``, ``trueProbe``, ``trueSlices``
(slices of the object), the geometry as scalars, and ``_metadata``, JSON text.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import IncompleteError, InputError
from diptych.ptycho.io import convert
from diptych.ptycho.io.fields import canvas_from, geometry_from, probe_from, real_from
from diptych.ptycho.io.files import DataFile, writing
from diptych.ptycho.io.formats import KEYS, Format
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.positions.join import unplaced
from diptych.ptycho.io.raw import RawScan, finish
from diptych.ptycho.io.source import Source, TreeSource, json_text, listed, read_json, write_npz
from diptych.ptycho.scan import Scan
from diptych.runtime.registry import NoOptions

SCAN_FORMAT = "diptych scan"
FORMAT_VERSION = 1
PATTERN_KEYS = ("diff3d", "diffraction")

_KNOWN = {
    *PATTERN_KEYS,
    *(
        "xcoords",
        "ycoords",
        "xcoords_start",
        "ycoords_start",
        "probeGuess",
        "objectGuess",
        "objectOrigin",
        "mask",
        "background",
    ),
    *("trueProbe", "_metadata", "energy_eV", "distance_m", "detector_pixel_m", "orientation", "particle"),
    *("propagation", "focus_distance_m", "trueSlices"),
    *("photon_energy_eV", "probe_energy_ev", "detector_distance_m", "detector_pixel_size_m"),
}
_DOMAINS: dict[str, convert.Domain] = {
    "counts": "counts",
    "count_intensity": "counts",
    "amplitude": "amplitude",
    "normalized_amplitude": "amplitude",
}


def has_patterns(source: TreeSource) -> bool:
    """Whether there are patterns under a canonical or legacy key."""
    return any(key in source.names() for key in PATTERN_KEYS)


def read_scan(source: Source, options: LoadOptions, name: str, declared: convert.Domain | None = None) -> RawScan:
    """The scan in ``source``, as stored.

    Parameters
    ----------
    source : Source
        The arrays.
    options : LoadOptions
        What the user states about the file.
    name : str
        What to call the scan where the file does not say.
    declared : {"counts", "amplitude"}, optional
        The domain that the layout itself declares.

    Raises
    ------
    InputError
        If something required is missing, contradictory or damaged.
    """
    about = declaration(source, name, declared)
    key, values = _patterns(source)
    y, x, said = coordinates(source, options, about.own)
    axes = about.axes if options.axes == "auto" else options.axes
    values, arranged = convert.arrange_axes(values, len(y), axes, source.where, key)
    mask, masked = _mask(source, values.shape, about, options)
    domain, scale = _domain(values, about, options, source.where)
    headers = source.headers()
    unused = sorted(headers.keys() - _KNOWN - {options.probe_key})
    if unused:
        said.append(f"keys not used: {', '.join(unused)}")
    if about.not_read:
        said.append(about.not_read)
    return RawScan(
        where=source.where,
        name=about.name,
        values=values,
        y=y,
        x=x,
        domain=domain,
        scale=scale,
        probe=_probe(source, options),
        mask=mask,
        mask_means="" if about.own else about.mask_means if options.mask_means == "auto" else options.mask_means,
        background=source.read("background") if "background" in headers else None,
        geometry=geometry_from(source, options),
        truth=canvas_from(source, "objectGuess", about.truth_pixel_m) if options.use_truth else None,
        true_probe=probe_from(source, "trueProbe") if "trueProbe" in headers else None,
        true_slices=source.read("trueSlices") if options.use_truth and "trueSlices" in headers else None,
        calibrated=about.calibrated,
        photons_per_count=about.photons_per_count,
        read_noise=about.read_noise,
        metadata=about.metadata
        if about.own
        else {"layout": f"NPZ with {key}", "stored_domain": domain, **about.metadata},
        said=[*arranged, *masked, *said],
        sources={"patterns": key, "positions": "ycoords, xcoords", "probe": options.probe_key or "probeGuess"}
        | {"mask": "mask", "energy": "energy_eV", "distance": "distance_m", "detector pixel": "detector_pixel_m"},
        order="patterns (pattern, y, x), positions ycoords and xcoords separate",
    )


@dataclass(frozen=True)
class Declaration:
    """What a file's ``_metadata`` says of its arrays."""

    own: bool
    name: str
    domain: str | None
    axes: str
    mask_means: str
    calibrated: bool
    truth_pixel_m: tuple[float, float] | None
    metadata: dict[str, Any]
    not_read: str | None
    photons_per_count: float | None = None
    read_noise: float | None = None


def declaration(source: Source, name: str, declared: convert.Domain | None) -> Declaration:
    """What the file says of itself; ``name`` and ``declared`` stand where it says nothing."""
    said, not_read = read_json(source)
    own = said.get("format") == SCAN_FORMAT
    axes, pixel = said.get("axes"), said.get("truth_pixel_m")
    try:
        if own and int(said["format_version"]) > FORMAT_VERSION:
            raise InputError(
                source.where,
                f"was written by a newer diptych (format version {said['format_version']})",
                remedy="Update diptych.",
            )
        return Declaration(
            own=own,
            name=str(said["name"]) if own else name,
            domain=said.get("domain", said.get("measurement_domain", declared)),
            axes=axes if axes in ("MHW", "HWM") else "auto",
            mask_means="bad" if said.get("mask") == "bad" else "valid",
            calibrated=own and bool(said.get("probe_calibrated")),
            truth_pixel_m=None if not own or pixel is None else (float(pixel[0]), float(pixel[1])),
            metadata=dict(said["metadata"]) if own else ({"file_metadata": said} if said else {}),
            not_read=not_read,
            photons_per_count=float(said["photons_per_count"]) if own and "photons_per_count" in said else None,
            read_noise=float(said["read_noise"]) if own and "read_noise" in said else None,
        )
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"{source.where}: '_metadata'", f"is damaged ({error})", "what diptych.save writes") from None


def _patterns(source: Source) -> tuple[str, NDArray[Any]]:
    """The stored patterns and their key; both keys may be there when they agree."""
    found = [key for key in PATTERN_KEYS if key in source.headers()]
    values, *others = (real_from(source, key) for key in found)
    if others and not np.array_equal(values, others[0], equal_nan=True):
        raise InputError(
            source.where,
            "'diff3d' and 'diffraction' are both there and differ",
            "one of them, or two equal ones",
            "Remove one.",
        )
    return found[0], values


def coordinates(source: Source, options: LoadOptions, own: bool) -> tuple[NDArray[Any], NDArray[Any], list[str]]:
    """Stored y and x, (M,) each, and a sentence where the nominal ones differ."""
    headers = source.headers()
    suffix = "_start" if options.nominal_positions else ""
    missing = [key for key in (f"xcoords{suffix}", f"ycoords{suffix}") if key not in headers]
    if missing and options.positions is not None:
        shape = next((headers[key].shape for key in PATTERN_KEYS if key in headers), (0,))
        lost = unplaced(shape[-1] if options.axes == "HWM" else shape[0])
        return lost, lost, []
    if missing:
        raise InputError(
            source.where,
            f"{' and '.join(missing)} missing; the file holds {listed(headers)}",
            "the scan positions in object pixels, x (column) and y (row), one per pattern",
        )
    y, x = (np.atleast_1d(np.squeeze(real_from(source, f"{axis}coords{suffix}", "one per pattern"))) for axis in "yx")
    for key, line in ((f"ycoords{suffix}", y), (f"xcoords{suffix}", x)):
        if line.ndim != 1:
            raise InputError(
                source.where, f"{key!r} has shape {line.shape} and type {line.dtype}", "real numbers (patterns,)"
            )
    if len(y) != len(x):
        raise InputError(source.where, f"{len(x)} xcoords but {len(y)} ycoords", "one of each per pattern")
    if own or suffix or not headers.keys() >= {"xcoords_start", "ycoords_start"}:
        return y, x, []
    y0, x0 = (real_from(source, f"{axis}coords_start", "one per pattern") for axis in "yx")
    if y0.shape != y.shape or x0.shape != x.shape or (np.array_equal(y0, y) and np.array_equal(x0, x)):
        return y, x, []
    moved = float(np.hypot(y - y0, x - x0).max())
    return (
        y,
        x,
        [
            f"refined positions used; the nominal ones (*coords_start) differ by up to {moved:.3g}, see "
            f"nominal_positions"
        ],
    )


def _probe(source: Source, options: LoadOptions) -> NDArray[Any] | None:
    key = options.probe_key or "probeGuess"
    if not options.use_probe:
        return None
    if key in source.headers():
        return probe_from(source, key)
    if options.probe_key:
        raise InputError(source.where, f"there is no probe {key!r}; the file holds {listed(source.headers())}")
    return None


def _mask(
    source: Source, shape: tuple[int, ...], about: Declaration, options: LoadOptions
) -> tuple[NDArray[np.bool_] | None, list[str]]:
    """The stored mask, True = valid, and what was done to it."""
    if "mask" not in source.headers():
        return None, []
    stored = source.read("mask")
    if stored.shape == (1, *shape[1:]):
        stored = stored[0]
    if stored.shape not in (shape, shape[1:]):
        raise InputError(source.where, f"the mask has shape {stored.shape}", f"{shape[1:]} or {shape}")
    if options.mask_means == "auto" and stored.dtype != bool and not np.isin(stored, (0, 1)).all():
        raise IncompleteError(
            source.where,
            "the mask has values other than 0 and 1",
            "True (1) where a pixel is valid",
            "Pass --mask-means valid or --mask-means bad to say what values other than 0 mean.",
        )
    means = about.mask_means if options.mask_means == "auto" else options.mask_means
    if means == "bad":
        return stored == 0, ["mask inverted: True meant bad in the file"]
    return stored != 0 if stored.dtype != bool else stored, []


def _domain(values: NDArray[Any], about: Declaration, options: LoadOptions, where: str) -> tuple[convert.Domain, float]:
    """What the stored values are and their scale: as the user says, else as the file declares; never a guess."""
    domain = _DOMAINS.get(str(about.domain)) if options.domain == "auto" else options.domain
    if domain is None:
        note = f" ({about.not_read})" if about.not_read else ""
        raise IncompleteError(
            where,
            f"the file does not declare whether its patterns are counts or amplitudes{note}; "
            f"{convert.describe_values(values)}",
            remedy="Pass domain='counts' (--domain counts) or domain='amplitude' (--domain amplitude).",
        )
    if about.domain == "normalized_amplitude" and domain == "amplitude" and options.scale is None:
        raise IncompleteError(
            where,
            "the file declares normalised amplitudes",
            "a scale, so that counts = (scale * amplitude)^2",
            "Pass scale=... (--scale); 1 gives counts in arbitrary units.",
        )
    return domain, options.scale if options.scale is not None else 1.0


def write_scan(scan: Scan, path: Path) -> None:
    """Write ``scan`` as a canonical NPZ that declares itself; every array and the metadata come back exactly."""
    arrays: dict[str, Any] = {"diff3d": scan.counts}
    for axis, line in zip("yx", scan.positions.T, strict=True):
        # Some readers of this layout want the nominal positions too.
        arrays[f"{axis}coords"] = arrays[f"{axis}coords_start"] = line
    for key, value in (
        ("probeGuess", scan.probe),
        ("trueProbe", scan.true_probe),
        ("trueSlices", scan.true_slices),
        ("mask", scan.mask),
        ("background", scan.background),
    ):
        if value is not None:
            arrays[key] = value
    if scan.truth is not None:
        arrays |= {"objectGuess": scan.truth.values, "objectOrigin": np.asarray(scan.truth.origin, np.int64)}
    if scan.geometry is not None:
        stated = {key: getattr(scan.geometry, key) for key in ("energy_eV", "distance_m", "detector_pixel_m")}
        arrays |= {key: np.asarray(value, np.float64) for key, value in stated.items() if value is not None}
        arrays["orientation"] = np.asarray(scan.geometry.orientation, np.int64)
        if scan.geometry.particle != "photon":
            arrays["particle"] = np.asarray(scan.geometry.particle)
        if scan.geometry.propagation != "far":
            arrays["propagation"] = np.asarray(scan.geometry.propagation)
        if scan.geometry.focus_distance_m is not None:
            arrays["focus_distance_m"] = np.asarray(scan.geometry.focus_distance_m)
    declaration = {
        "format": SCAN_FORMAT,
        "format_version": FORMAT_VERSION,
        "domain": "counts",
        "axes": "MHW",
        "mask": "valid",
        "positions": "object pixels; where index [N // 2, N // 2] of the window lies",
        "name": scan.name,
        "probe_calibrated": scan.probe_calibrated,
        **{key: value for key, value in _detector(scan).items() if value is not None},
        "truth_pixel_m": None if scan.truth is None else scan.truth.pixel_m,
        "metadata": scan.metadata,
    }
    arrays["_metadata"] = np.asarray(json_text(declaration, f"{scan.name}: metadata"))
    with writing(path) as temporary:
        write_npz(temporary, arrays)


def _detector(scan: Scan) -> dict[str, float | None]:
    """What a scan states about its detector's units and noise."""
    return {"photons_per_count": scan.scale, "read_noise": scan.read_noise}


def _matches(file: DataFile) -> bool:
    return file.kind == "npz" and has_patterns(file.arrays)


def _read(file: DataFile, options: LoadOptions) -> Scan:
    return finish(read_scan(file.arrays, options, file.path.stem), options)


FORMAT = Format(
    name="scan-npz",
    help="Scan as NPZ: diff3d or diffraction, xcoords, ycoords, probeGuess; what diptych.save writes.",
    options=NoOptions,
    holds="scan",
    takes=KEYS,
    matches=_matches,
    read=_read,
    write=write_scan,
    suffixes=(".npz",),
    datasets={"patterns": PATTERN_KEYS, "probe": ("probeGuess",), "object": ("objectGuess",)},
)
