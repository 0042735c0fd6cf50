"""Properties of a scan, a result or a file as JSON values, with notes on likely mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import IncompleteError, InputError, UnavailableError, to_type
from diptych.ptycho.io import LoadOptions, load
from diptych.ptycho.io.convert import chunks
from diptych.ptycho.io.files import DataFile, opened
from diptych.ptycho.io.formats import LAYOUT_REMEDY, recognise, unrecognised
from diptych.ptycho.io.tree import array_line, single_array, tree_lines
from diptych.ptycho.physics.probe import probe_diameter
from diptych.ptycho.prepare.clean import inspect
from diptych.ptycho.prepare.coincidence import find_coincidence
from diptych.ptycho.prepare.positions import position_notes
from diptych.ptycho.scan import Geometry, Reconstruction, Scan
from diptych.ptycho.validation import POSITIONS, TRUTH, dark_noise


def describe_file(path: str | Path, options: LoadOptions | None = None, **overrides: Any) -> dict[str, Any]:
    """Describe any NPZ or HDF5 file, or a trained network.

    Parameters
    ----------
    path : path-like
        A scan, a result, a trained network, or a file of another layout.
    options : LoadOptions, optional
        As for :func:`diptych.load`.
    **overrides
        Single options by name.

    Returns
    -------
    dict
        ``file``, ``bytes``, ``container``, ``arrays`` (name, shape, type; unit, and why values cannot be read),
        ``kind`` ("scan", "result", "positions", "network", "probe" or "image" for such an array alone, "incomplete"
        where something has to be given, which ``needs`` says, or "unknown" where the file cannot be used),
        ``problem`` (of an unknown file the reason and the remedy, else None), and the values of :func:`describe_scan`,
        :func:`describe_result` or :func:`describe_positions`, or for a trained network its size, options, statistics
        and provenance.

    Raises
    ------
    InputError
        If the file is missing, damaged, or neither NPZ nor HDF5 nor a trained network.
    """
    path = Path(path)
    if path.suffix.lower() == ".safetensors":
        return _describe_model(path)
    with opened(path) as file:
        if file.source is None and recognise(file) is None:
            raise unrecognised(file)
        about: dict[str, Any] = {
            "file": str(path),
            "bytes": path.stat().st_size,
            "container": file.kind.upper(),
            "arrays": tree_lines(file.source),
        }
        if _only_positions(file, options, overrides):
            return about | describe_positions(file)
        if told(options, overrides) and (alone := _alone(file)) is not None:
            return about | alone
    try:
        found = load(path, options, **overrides)
    except IncompleteError as error:
        return about | {"kind": "incomplete", "problem": None, "needs": str(error), "notes": []}
    except (InputError, UnavailableError) as error:
        # Where positions or the true object are at fault, the arrays were found, and a layout changes nothing.
        found_all = getattr(error, "where", "").endswith((f": {POSITIONS}", f": {TRUTH}"))
        notes = [LAYOUT_REMEDY] if about["arrays"] and not found_all else []
        return about | {"kind": "unknown", "problem": str(error), "notes": notes}
    if isinstance(found, Scan):
        return about | {"kind": "scan", "problem": None} | describe_scan(found)
    return about | {"kind": "result", "problem": None} | describe_result(found)


def told(options: LoadOptions | None, overrides: dict[str, Any]) -> bool:
    """Whether the format alone says how the file is read, not the user."""
    asked = (options or LoadOptions()).with_changes(**overrides)
    return asked.layout is None and asked.patterns_at is None


def _alone(file: DataFile) -> dict[str, Any] | None:
    """What a file is that no format reads and that holds a probe or an image alone."""
    try:
        return single_array(file) if recognise(file) is None else None
    except InputError:
        # A link that leads nowhere: reading the file says so.
        return None


def _only_positions(file: DataFile, options: LoadOptions | None, overrides: dict[str, Any]) -> bool:
    if not told(options, overrides):
        return False
    return recognise(file, "positions") is not None and all(
        recognise(file, kind) is None for kind in ("scan", "result")
    )


def describe_positions(file: DataFile) -> dict[str, Any]:
    """Number, unit and extent of the positions in a file that holds nothing else, or why they are not clear."""
    found = recognise(file, "positions")
    assert found is not None
    try:
        table = found.read(file, LoadOptions())
    except InputError as error:
        return {"kind": "positions", "format": found.name, "problem": None, "notes": [str(error)]}
    if not hasattr(table, "unit"):
        return {"kind": "positions", "format": found.name, "problem": None, "positions": len(table), "notes": []}
    span = [float(np.ptp(line)) if len(line) else None for line in (table.y, table.x)]
    note = to_type("to use them with the patterns", "diptych reconstruct PATTERNS --positions FILE")
    return {
        "kind": "positions",
        "format": found.name,
        "problem": None,
        "positions": len(table.y),
        "unit": table.unit or "not stated: pass --position-unit",
        "position_span": span,
        "read": table.said,
        "notes": [note],
    }


def _describe_model(path: Path) -> dict[str, Any]:
    """The description of a trained network."""
    from diptych.ptycho.neural.model import load_model

    model = load_model(path)
    tensors = {"probe": model.probe} | {name: value.cpu().numpy() for name, value in model.network.state_dict().items()}
    about = {
        "file": str(path),
        "bytes": path.stat().st_size,
        "container": "safetensors",
        "kind": "network",
        "problem": None,
    }
    return (
        about
        | {"arrays": [array_line(name, value.shape, value.dtype) for name, value in tensors.items()], "notes": []}
        | model.about()
    )


def describe(item: Scan | Reconstruction) -> dict[str, Any]:
    """Properties of a scan (:func:`describe_scan`) or a result (:func:`describe_result`), as JSON values.

    Raises
    ------
    InputError
        If ``item`` is neither.

    Examples
    --------
    >>> import diptych
    >>> scan = diptych.simulate(object="blocks", size=16, patterns=25, step=2.0, seed=0)
    >>> diptych.describe(scan)["patterns"]
    25
    """
    if isinstance(item, Scan):
        return describe_scan(item)
    if isinstance(item, Reconstruction):
        return describe_result(item)
    raise InputError("describe", f"got a {type(item).__name__}", "a Scan or a Reconstruction")


def describe_scan(scan: Scan) -> dict[str, Any]:
    """Sizes, photons, positions, overlap, probe and geometry of a scan, and notes on likely mistakes.

    Returns
    -------
    dict
        JSON values; lengths in pixels (``_px``) and, with a known geometry, metres (``_m``). Pairs are (y, x).
        ``overlap`` is the linear overlap 1 - step / diameter, with the median step to the nearest neighbour and the
        diameter of the circle around the probe's centre of mass that contains 90 % of its energy. ``notes`` are
        sentences; nothing is corrected.
    """
    photons, look = _photons(scan)
    step = _nearest_step(scan.positions)
    diameter = None if scan.probe is None else probe_diameter(scan.probe)
    span = np.ptp(scan.positions, axis=0)
    pixel = scan.pixel_m
    about: dict[str, Any] = {
        "name": scan.name,
        "patterns": len(scan),
        "size": scan.size,
        "dtype": str(scan.counts.dtype),
        "photons_per_pattern": photons,
        "zero_fraction": look["zeros"],
        "max_count": look["max"],
        "masked_fraction": 0.0 if scan.mask is None else float(1 - scan.mask.mean()),
        "position_span_px": [float(v) for v in span],
        "step_px": step,
        "positions": "whole pixels" if np.array_equal(scan.positions, np.rint(scan.positions)) else "sub-pixel",
        "probe_modes": 0 if scan.probe is None else len(scan.probe),
        "probe_diameter_px": diameter,
        "overlap": None if step is None or diameter is None else float(1 - step / diameter),
        "geometry": _geometry(scan.geometry),
        "object_pixel_m": None if pixel is None else list(pixel),
        "position_span_m": None if pixel is None else [float(s * p) for s, p in zip(span, pixel, strict=True)],
        "truth": None if scan.truth is None else list(scan.truth.shape),
        "background": scan.background is not None,
        "metadata": {key: value for key, value in scan.metadata.items() if key != "load"},
        "load": scan.metadata.get("load"),
    }
    return about | {"notes": _notes(scan, about, look)}


def describe_result(result: Reconstruction) -> dict[str, Any]:
    """Object, probe, positions, history and flags of a result, as JSON values."""
    values = result.object.values
    power = np.sum(np.abs(result.probe) ** 2, axis=(1, 2), dtype=np.float64)
    pixel = result.object.pixel_m
    return {
        "name": result.name,
        "object": list(result.object.shape),
        "origin": list(result.object.origin),
        "object_pixel_m": None if pixel is None else list(pixel),
        "median_amplitude": float(np.median(np.abs(values))),
        "probe_modes": len(result.probe),
        "size": int(result.probe.shape[-1]),
        "mode_power": [float(v) for v in power / power.sum()],
        "photons": float(power.sum()),
        "probe_diameter_px": probe_diameter(result.probe),
        "patterns": len(result.positions),
        "position_span_px": [float(v) for v in np.ptp(result.positions, axis=0)] if len(result.positions) else None,
        "epochs": max((len(column) for column in result.history.values()), default=0),
        "last": {name: float(column[-1]) for name, column in result.history.items() if len(column)},
        "error": result.error is not None,
        "slices": 1 if result.slices is None else len(result.slices),
        "slice_distance_m": result.slice_distance_m,
        "geometry": _geometry(result.geometry),
        "flags": list(result.flags),
    }


def _geometry(geometry: Geometry | None) -> dict[str, Any] | None:
    if geometry is None:
        return None
    pixel = geometry.detector_pixel_m
    return {
        "particle": geometry.particle,
        "energy_eV": geometry.energy_eV,
        "wavelength_m": geometry.wavelength_m,
        "distance_m": geometry.distance_m,
        "detector_pixel_m": None if pixel is None else list(pixel),
        "orientation": geometry.orientation,
        "propagation": geometry.propagation,
        "focus_distance_m": geometry.focus_distance_m,
        "magnification": geometry.magnification,
    }


def _photons(scan: Scan) -> tuple[dict[str, float], dict[str, Any]]:
    """Photons per pattern over the valid pixels, and other statistics from one pass over the counts."""
    counts, mask = scan.counts, scan.mask
    totals = np.empty(len(counts))
    mean = np.zeros(counts.shape[1:])
    zeros, valid, top, at_top, whole, whole_squares, masked_sum = 0, 0, 0.0, 0, True, True, 0.0
    for part in chunks(counts):
        frames = counts[part].astype(np.float64)
        if mask is not None:
            good = np.broadcast_to(mask if mask.ndim == 2 else mask[part], frames.shape)
            finite = np.where(np.isfinite(frames), frames, 0.0)
            masked_sum += float(finite[~good].sum())
            frames = np.where(good, finite, 0.0)
            valid += int(good.sum())
            zeros -= int((~good).sum())
        else:
            valid += frames.size
        totals[part] = frames.sum(axis=(1, 2))
        mean += frames.sum(axis=0)
        zeros += int((frames == 0).sum())
        here = float(frames.max())
        at_top = int((frames == here).sum()) + (at_top if here == top else 0) if here >= top else at_top
        top = max(top, here)
        if np.issubdtype(counts.dtype, np.floating):
            whole = whole and bool((frames == np.rint(frames)).all())
            square = frames**2
            whole_squares = whole_squares and bool((np.abs(square - np.rint(square)) <= 1e-6 * square).all())
    photons = {"mean": float(totals.mean()), "min": float(totals.min()), "max": float(totals.max())}
    return photons, {
        "totals": totals,
        "mean": mean / len(counts),
        "zeros": zeros / valid,
        "max": top,
        "at_max": at_top,
        "whole": whole,
        "whole_squares": whole_squares and not whole,
        "masked_sum": masked_sum,
    }


def _nearest_step(positions: NDArray[np.float64]) -> float | None:
    """Median distance to the nearest other position, in pixels; repeated positions count once."""
    from scipy.spatial import cKDTree

    distinct = np.unique(positions, axis=0)
    if len(distinct) < 2:
        return None
    return float(np.median(cKDTree(distinct).query(distinct, k=2)[0][:, 1]))


def _notes(scan: Scan, about: dict[str, Any], look: dict[str, Any]) -> list[str]:
    """Sentences on unusual properties; each states what was found."""
    totals: NDArray[np.float64] = look["totals"]
    notes = [*_domain_notes(scan, look), *_centre_notes(scan, look["mean"])]
    notes += [f"{sentence}." for sentence in inspect(scan).sentences()]
    if (lost := find_coincidence(scan)) is not None:
        notes.append(f"{lost.sentence()}.")
    notes += position_notes(scan, about["step_px"])
    repeated = len(scan) - len(np.unique(scan.positions, axis=0))
    if repeated:
        notes.append(f"{repeated} positions repeat an earlier one.")
    if scan.probe is None:
        notes.append("there is no probe to start from; reconstruct with probe='estimate' (--probe estimate) or a file.")
    if about["overlap"] is not None and about["overlap"] < 0.4:
        notes.append(f"the linear overlap is only {about['overlap']:.0%}; 60 % or more makes the problem well posed.")
    if scan.mask is not None and about["masked_fraction"] > 0.5 and look["masked_sum"] > totals.sum():
        notes.append(
            "most pixels are masked and the masked ones hold most photons: is the mask inverted? (mask_means='bad')"
        )
    if scan.truth is not None and np.ptp(np.abs(scan.truth.values)) == 0 and np.ptp(np.angle(scan.truth.values)) == 0:
        notes.append("the true object is flat: perhaps it is only a first guess (use_truth=False).")
    return notes


def _domain_notes(scan: Scan, look: dict[str, Any]) -> list[str]:
    if look["whole_squares"]:
        return ["the counts are not whole numbers but their squares are: are they amplitudes? (domain='amplitude')"]
    if scan.read_noise is not None:
        seen = dark_noise(scan.counts, scan.mask)
        text = f"readings of a charge-integrating detector: read noise {scan.read_noise:.3g} as stated"
        if seen is None or abs(seen / scan.read_noise - 1) < 0.25:
            return [f"{text}."]
        return [f"{text}, while the dark peak is {seen:.3g} wide (rms): check --read-noise and its unit."]
    if not look["whole"]:
        return [
            "the counts are not whole numbers: other units than photons, normalised, background-subtracted or "
            "noise-free data? `reconstruct` divides them by their gain (counts per photon), which it takes from their "
            "unit or their noise; state it where it is known (--scale, photons per count)."
        ]
    return []


def _centre_notes(scan: Scan, mean: NDArray[np.float64]) -> list[str]:
    """Notes where zero frequency, or the probe, does not seem to lie at [N // 2, N // 2]."""
    notes: list[str] = []
    n = scan.size
    y, x = np.indices((n, n)) - n // 2
    near = np.hypot(y, x) <= n / 4
    # Where much is masked, the rest says little about the whole pattern.
    total = float(mean.sum()) if scan.mask is None or scan.mask.mean() > 0.75 else 0.0
    at_centre, at_corner = float(mean[near].sum()), float(np.fft.ifftshift(mean)[near].sum())
    if total > 0 and at_corner > 2 * at_centre:
        notes.append(
            "most photons lie at the corners of the mean pattern: is zero frequency at pixel [0, 0]? "
            "(corner_centred=True)"
        )
    elif total > 0:
        away = float((mean * y).sum() / total), float((mean * x).sum() / total)
        if np.hypot(*away) > max(2.0, n / 32):
            notes.append(
                f"the mean pattern's centre of mass lies {away[0]:.1f}, {away[1]:.1f} px (y, x) from zero frequency."
            )
    if scan.probe is not None:
        energy = np.sum(np.abs(scan.probe) ** 2, axis=0)
        if float(np.fft.ifftshift(energy)[near].sum()) > 2 * float(energy[near].sum()):
            notes.append("the probe's energy lies at the corners of its array; expected it in the middle.")
    return notes
