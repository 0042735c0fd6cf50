"""What the names and shapes of a file do not show: positions, counts, mask, probe and object against each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io.exchange.standards import Deviation, Standard
from diptych.ptycho.io.physical import energy_unit, photon_energy_eV
from diptych.ptycho.io.positions.table import UNITS, unit_named
from diptych.ptycho.io.source import Header, TreeSource
from diptych.ptycho.scan import PLANCK_TIMES_LIGHT_EV_M

CONTENTS = 5
"""How many questions are asked: positions, counts, mask, probe, object."""
FRAMES_AT_ONCE = 64
_SOURCE, _BEAM = "entry_1/instrument_1/source_1/energy", "entry_1/instrument_1/beam_1/energy"
_DETECTOR = "entry_1/instrument_1/detector_1/"

Headers = Mapping[str, Header]


def of_content(source: TreeSource, headers: Headers, standard: Standard) -> list[Deviation]:
    """How the contents deviate from what a scan or a result can be.

    An array that is absent, or of a wrong kind, is left to the rules of the standard.
    """
    checks: tuple[Callable[[TreeSource, Headers, Standard], Iterator[Deviation]], ...]
    checks = (_positions, _counts, _mask, _probe, _windows)
    found: list[Deviation] = []
    for check in checks:
        try:
            found += check(source, headers, standard)
        except InputError as error:
            found.append(
                Deviation(
                    error.where, error.found, error.expected or "readable values", error.remedy or "write it again"
                )
            )
    return found


def _first(headers: Headers, paths: tuple[str, ...], kinds: str, axes: tuple[int, ...]) -> str | None:
    """The first path that holds an array of this kind of numbers with so many axes."""
    known = (path for path in paths if path in headers)
    return next((p for p in known if headers[p].dtype.kind in kinds and len(headers[p].shape) in axes), None)


def _metres(source: TreeSource, path: str) -> NDArray[np.float64] | None:
    """Lengths in metres; None where the unit is no length."""
    stated = source.attributes(path).get("units")
    scale = 1.0 if stated in (None, "") else UNITS.get(unit_named(stated) or "px")
    return None if scale is None else source.read(path).astype(np.float64) * scale


def _places(source: TreeSource, headers: Headers, standard: Standard) -> tuple[NDArray[np.float64], str] | None:
    """Positions (M, 2), (y, x) in metres, and the name of their dataset."""
    paths = [path for path in standard.positions if path in headers]
    if len(paths) == 2:
        y, x = (_metres(source, path) for path in paths)
        if y is None or x is None or y.ndim != 1 or y.shape != x.shape:
            return None
        return np.stack([y, x], axis=1), "probe_position_*_m"
    if len(paths) != 1 or len(headers[paths[0]].shape) != 2 or headers[paths[0]].shape[1] < 2:
        return None
    found = _metres(source, paths[0])
    return None if found is None else (found[:, [1, 0]], paths[0])


def _number(source: TreeSource, path: str, headers: Headers) -> float | None:
    """One positive length in metres; None where there is none."""
    if path not in headers or int(np.prod(headers[path].shape)) != 1 or headers[path].dtype.kind not in "fiu":
        return None
    found = _metres(source, path)
    value = None if found is None else float(found.reshape(-1)[0])
    return value if value is not None and np.isfinite(value) and value > 0 else None


def _pixel(source: TreeSource, headers: Headers, standard: Standard, size: int) -> NDArray[np.float64] | None:
    """Object pixel (y, x) in metres that the file states or that follows from its geometry; None where neither."""
    if standard.object and standard.object[0] in headers:
        about = source.attributes(standard.object[0])
        extras = {name: f"entry_1/ptychodus/object_pixel_{name}_m" for name in ("height", "width")}
        sides = []
        for name, path in extras.items():
            value = about.get(f"pixel_{name}_m")
            try:
                sides.append(float(np.ravel(value)[0]) if value is not None else _number(source, path, headers))
            except (TypeError, ValueError, IndexError):
                return None
        valid = all(side is not None and np.isfinite(side) and side > 0 for side in sides)
        return np.array(sides, np.float64) if valid else None
    distance = _number(source, _DETECTOR + "distance", headers)
    detector = [_number(source, _DETECTOR + f"{axis}_pixel_size", headers) for axis in "yx"]
    energies = next((each for each in (_BEAM, _SOURCE) if each in headers), None)
    if energies is None or distance is None or None in detector or headers[energies].shape not in ((), (1,)):
        return None
    try:
        stored = float(np.ravel(source.read(energies))[0])
        energy, _ = photon_energy_eV(stored, energy_unit(source.attributes(energies).get("units")), energies)
    except (InputError, ValueError, TypeError):
        return None
    wavelength = PLANCK_TIMES_LIGHT_EV_M / energy
    return np.array([wavelength * distance / (size * side) for side in detector if side is not None])


def _size(headers: Headers, standard: Standard) -> int | None:
    """N of the patterns, else of the probe."""
    path = _first(headers, standard.patterns, "biuf", (3, 4)) or _first(headers, standard.probe, "cf", (2, 3, 4))
    return headers[path].shape[-1] if path is not None else None


def _positions(source: TreeSource, headers: Headers, standard: Standard) -> Iterator[Deviation]:
    """Finite, distinct, and close enough to overlap."""
    found = _places(source, headers, standard)
    if found is None or len(found[0]) < 2:
        return
    places, path = found
    lost = np.flatnonzero(~np.isfinite(places).all(axis=1))
    if lost.size:
        text = f"{lost.size} of {len(places)} positions are not finite, the first of pattern {lost[0]}"
        yield Deviation(path, text, "finite numbers", "store where these patterns were taken, or remove them")
        places = places[np.isfinite(places).all(axis=1)]
        if len(places) < 2:
            return
    _, first, counts = np.unique(places, axis=0, return_index=True, return_counts=True)
    if len(first) == 1:
        yield Deviation(
            path, f"all {len(places)} positions are the same", "a scan", "store the position of each pattern"
        )
        return
    if (counts > 1).any():
        where = int(first[counts > 1].min())
        text = f"{int(counts.sum() - len(counts))} positions repeat another one, the first that of pattern {where}"
        yield Deviation(path, text, "distinct positions", "remove repeated patterns, or store where they were taken")
    size = _size(headers, standard)
    pixel = None if size is None else _pixel(source, headers, standard, size)
    if size is None or pixel is None:
        return
    yield from _overlap(np.unique(places, axis=0) / pixel, size, path)


def _overlap(places: NDArray[np.float64], size: int, path: str) -> Iterator[Deviation]:
    """Whether windows of ``size`` at ``places`` (object pixels) overlap with their neighbours, and differ."""
    from scipy.spatial import cKDTree

    unit = "check the units of positions, energy, distance and pixel against each other"
    span = float(np.ptp(places, axis=0).max())
    if span < 1:
        yield Deviation(path, f"all positions lie within {span:.3g} object pixels", "a span of pixels", unit)
        return
    nearest = cKDTree(places).query(places, k=2, p=np.inf)[0][:, 1]
    alone = int((nearest >= size).sum())
    if alone == len(places):
        text = (
            f"no two windows of {size} px overlap: neighbours are {float(np.median(nearest)):.4g} object pixels apart"
        )
        yield Deviation(path, text, f"neighbours within {size} px", unit)
    elif alone:
        text = f"{alone} of {len(places)} windows of {size} px overlap with no other"
        yield Deviation(path, text, f"a neighbour within {size} px", "remove outliers, with their patterns")


def _counts(source: TreeSource, headers: Headers, standard: Standard) -> Iterator[Deviation]:
    """Finite, not negative, and not all 0; read a few frames at a time."""
    path = _first(headers, standard.patterns, "iuf", (3,))
    if path is None:
        return
    count = headers[path].shape[0]
    wrong = {"not finite": 0, "negative": 0}
    where: dict[str, int] = {}
    empty = 0
    valid = _valid(source, headers, standard, headers[path].shape[1:])
    for start in range(0, count, FRAMES_AT_ONCE):
        frames = source.read_part(path, np.arange(start, min(start + FRAMES_AT_ONCE, count)), 0)
        kinds = {"not finite": ~np.isfinite(frames), "negative": frames < 0}
        for kind, bad in kinds.items():
            bad = bad & valid
            if bad.any():
                wrong[kind] += int(bad.sum())
                where.setdefault(kind, start + int(np.flatnonzero(bad.any(axis=(1, 2)))[0]))
        empty += int((~(frames > 0).any(axis=(1, 2))).sum())
    for kind, number in wrong.items():
        if number:
            text = f"{number} values outside the mask are {kind}, the first in pattern {where[kind]}"
            yield Deviation(path, text, "counts of 0 or more", "mask these pixels, or set the values")
    if empty:
        yield Deviation(path, f"{empty} of {count} patterns hold no count", "light in each", "remove empty patterns")


def _valid(source: TreeSource, headers: Headers, standard: Standard, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    path = _first(headers, standard.mask, "biu", (2,))
    if path is None or headers[path].shape != shape:
        return np.ones(shape, np.bool_)
    return np.asarray(source.read(path) == 0)


def _mask(source: TreeSource, headers: Headers, standard: Standard) -> Iterator[Deviation]:
    """Of the patterns' shape, integer, and not all bad."""
    path = next((path for path in standard.mask if path in headers), None)
    patterns = _first(headers, standard.patterns, "biuf", (3,))
    if path is None or patterns is None:
        return
    header, shape = headers[path], headers[patterns].shape
    if header.dtype.kind not in "biu":
        text = f"has type {header.dtype}"
        yield Deviation(path, text, "integers, 0 where a pixel is good", "store it as 32-bit unsigned integers")
    elif header.shape not in (shape[1:], shape):
        text, remedy = f"has shape {header.shape}", "cut it as the patterns were cut"
        yield Deviation(path, text, f"{shape[1:]}, that of a pattern", remedy)
    elif header.shape == shape[1:] and (source.read(path) != 0).all():
        yield Deviation(path, "marks every pixel as bad", "0 where a pixel is good", "invert it")


def _probe(source: TreeSource, headers: Headers, standard: Standard) -> Iterator[Deviation]:
    """Square, of the patterns' size, finite and not 0."""
    path = next((path for path in standard.probe if path in headers), None)
    if path is None or headers[path].dtype.kind not in "fc" or len(headers[path].shape) < 2:
        return
    height, width = headers[path].shape[-2:]
    patterns = _first(headers, standard.patterns, "biuf", (3, 4))
    size = headers[patterns].shape[-2:] if patterns is not None else (height, height)
    if (height, width) != size:
        text = f"has shape {headers[path].shape}"
        yield Deviation(path, text, f"{size[0]} x {size[1]} px, as the patterns", "store the probe on their grid")
    values = source.read(path)
    if not np.isfinite(values).all() or not values.any():
        yield Deviation(path, "is 0 everywhere or not finite", "finite values", "store the probe")


def _windows(source: TreeSource, headers: Headers, standard: Standard) -> Iterator[Deviation]:
    """Of a result: whether the windows lie in the object."""
    found = _places(source, headers, standard)
    size = _size(headers, standard)
    path = next((path for path in standard.object if path in headers), None)
    if not standard.result or found is None or size is None or path is None or not len(found[0]):
        return
    pixel = _pixel(source, headers, standard, size)
    centre = _centre(source, headers, path)
    shape = headers[path].shape[-2:]
    if pixel is None or centre is None or not np.isfinite(found[0]).all():
        return
    corner = (found[0] - centre) / pixel + np.asarray(shape) / 2 - size / 2
    out = np.atleast_1d(((corner < -1) | (corner + size > np.asarray(shape) + 1)).any(axis=1))
    if out.any():
        text = f"{int(out.sum())} of {len(out)} windows leave the object of {shape[0]} x {shape[1]} px"
        yield Deviation(found[1], text, "windows inside the object", "check the object's centre and pixel")


def _centre(source: TreeSource, headers: Headers, path: str) -> NDArray[np.float64] | None:
    """The object's centre (y, x) in metres."""
    about = source.attributes(path)
    try:
        if "center_y_m" in about and "center_x_m" in about:
            return np.array([float(np.ravel(about[f"center_{axis}_m"])[0]) for axis in "yx"])
    except (TypeError, ValueError, IndexError):
        return None
    paths = [f"entry_1/ptychodus/object_center_{axis}_m" for axis in "yx"]
    if any(each not in headers or headers[each].dtype.kind not in "fiu" for each in paths):
        return None
    return np.array([float(np.ravel(source.read(each))[0]) for each in paths])
