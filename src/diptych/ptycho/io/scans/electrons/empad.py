"""Scans of the EMPAD detector: raw frames of 130 x 128 float32, of which the last two rows are no image, and an XML.

Either file may be named; the other is looked for in its folder. Without the XML the name tells the raster:
``scan_x64_y64.raw``.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.geometry import Geometry
from diptych.ptycho.io.files import DataFile
from diptych.ptycho.io.formats import RASTER, Format
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.physical import geometry_of, positions_in_pixels
from diptych.ptycho.io.raw import RawScan, finish
from diptych.ptycho.io.scans.raster import raster_positions, sequence_positions
from diptych.ptycho.io.source.base import Header, refuse_what_does_not_fit
from diptych.ptycho.scan import Scan
from diptych.runtime.registry import NoOptions

ROWS, SIZE = 130, 128
PIXEL_M = 150e-6
"""Pixel of the detector (Tate et al., Microsc. Microanal. 22, 237, 2016)."""

_FRAME_BYTES = ROWS * SIZE * 4
_LARGEST_XML, _MOST_XML = 4 * 2**20, 200
_RASTER = re.compile(r"_x(\d+)_y(\d+)", re.IGNORECASE)


def read_empad(path: Path, options: LoadOptions) -> RawScan:
    """The scan in a raw file of the EMPAD, or the one that an XML file names, as stored.

    Raises
    ------
    InputError
        If the raw file is missing or cut short, or the raster or its step is not known.
    """
    is_xml = path.suffix.lower() == ".xml"
    about_path = path if is_xml else _beside(path)
    about = {} if about_path is None else read_xml(about_path)
    raw = path.with_name(Path(about["raw_file"]).name) if is_xml else path
    if not raw.is_file():
        raise InputError(
            path, f"names the frames {raw.name}, which are not in its folder", "the raw file", "Copy it beside the XML."
        )
    frames = _frames(raw)
    said = [f"patterns read from {raw.name}, the first {SIZE} of {ROWS} rows of each frame"]
    if about_path is not None:
        said.append(f"raster and microscope read from {about_path.name}")
    geometry = _geometry(about, options, str(path), said)
    shape = _shape(about, raw, len(frames), said)
    fov = about.get("field_of_view_m")
    placed = shape is not None and options.positions is None and options.scan_step is None and fov is not None
    if shape is None:
        y, x = sequence_positions(options, len(frames), str(path), raw.name, said)
    elif not placed or fov is None:
        y, x = raster_positions(options, shape, str(path), raw.name, said)
    else:
        steps = [
            width * about.get("scan_size", 1.0) / count for width, count in zip(fov, about["resolution"], strict=True)
        ]
        rows, columns = np.indices(shape, dtype=np.float64)
        said.append(f"positions: a raster with steps of {steps[0]:.4g} x {steps[1]:.4g} m, x fastest, no scan rotation")
        y, x, converted = positions_in_pixels(
            rows.ravel() * steps[0], columns.ravel() * steps[1], geometry, SIZE, str(path)
        )
        said.append(converted)
    values = np.ascontiguousarray(frames[:, :SIZE].astype(np.float32))
    return RawScan(
        where=str(path),
        name=raw.stem,
        values=values,
        y=y,
        x=x,
        domain="counts" if options.domain == "auto" else options.domain,
        scale=1.0 if options.scale is None else options.scale,
        geometry=geometry,
        metadata={"layout": "EMPAD", "stored_domain": "counts"},
        said=said,
        sources={"patterns": raw.name} | ({} if about_path is None else {"energy": about_path.name}),
        order="patterns (frame, y, x), x of the scan fastest",
        unit="m" if placed else options.position_unit,
        placed=placed,
    )


def read_xml(path: Path) -> dict[str, Any]:
    """What the XML of an acquisition states: ``raw_file``, ``shape``, ``energy_eV``, ``angle_rad``,
    ``field_of_view_m``, ``resolution``, ``scan_size``; each where it is there.

    Raises
    ------
    InputError
        If it is no such XML, is too large, or declares entities.
    """
    if path.stat().st_size > _LARGEST_XML:
        raise InputError(path, f"has {path.stat().st_size / 1e6:.0f} MB", "the XML of an EMPAD acquisition")
    text = path.read_bytes()
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        raise InputError(path, "declares entities (DOCTYPE), which are never expanded", "plain XML")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(path, f"is not valid XML ({error})", "the XML of an EMPAD acquisition") from None
    raw = root.find("raw_file")
    if raw is None or not raw.get("filename"):
        raise InputError(path, "is XML without <raw_file filename=...>", "the XML of an EMPAD acquisition")
    found: dict[str, Any] = {"raw_file": raw.get("filename", "").replace("\\", "/")}
    sides = [_value(root, key) for key in ("pix_y", "pix_x")]
    if None not in sides:
        found["shape"] = tuple(round(side or 0.0) for side in sides)
    scan = next((each for each in root.findall("scan_parameters") if each.get("mode") == "acquire"), root)
    resolution = [_value(scan, f"scan_resolution_{axis}") for axis in "yx"]
    view = _numbers(root.findtext("iom_measurements/optics.get_full_scan_field_of_view"))
    if len(view) == 2 and min(view) > 0 and all(each and each > 0 for each in resolution):
        found["field_of_view_m"], found["resolution"] = (view[1], view[0]), tuple(resolution)
        found["scan_size"] = _value(scan, "scan_size") or 1.0
    for name, key in (
        ("energy_eV", "iom_measurements/source.get_voltage"),
        ("angle_rad", "iom_measurements/calibrated_diffraction_angle"),
    ):
        if (value := _value(root, key)) is not None and value > 0:
            found[name] = value
    return found


def _value(root: ElementTree.Element, key: str) -> float | None:
    found = _numbers(root.findtext(key))
    return found[0] if len(found) == 1 else None


def _numbers(text: str | None) -> list[float]:
    """The numbers in a text such as ``64`` or ``[4.5e-06, 4.5e-06]``; none where it is anything else."""
    try:
        value = ast.literal_eval((text or "").strip()[:400])
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []
    listed = value if isinstance(value, list | tuple) else [value]
    usable = all(isinstance(each, int | float) and np.isfinite(float(each)) for each in listed)
    return [float(each) for each in listed] if usable else []


def _beside(raw: Path) -> Path | None:
    """The XML in the folder that names the raw file."""
    for number, path in enumerate(sorted(raw.parent.glob("*.xml"))):
        if number >= _MOST_XML:
            break
        try:
            if Path(read_xml(path)["raw_file"]).name == raw.name:
                return path
        except (InputError, OSError):
            # XML of another program.
            continue
    return None


def _frames(path: Path) -> NDArray[np.float32]:
    size = path.stat().st_size
    if size == 0 or size % _FRAME_BYTES:
        raise InputError(
            path, f"has {size} bytes, no whole number of frames of {ROWS} x {SIZE} float32", "a raw file of the EMPAD"
        )
    count = size // _FRAME_BYTES
    refuse_what_does_not_fit(Header((count, SIZE, SIZE), np.dtype(np.float32)), str(path), path.name)
    return np.memmap(path, "<f4", "r", shape=(count, ROWS, SIZE))


def _shape(about: dict[str, Any], raw: Path, count: int, said: list[str]) -> tuple[int, int] | None:
    """Rows and columns of the raster, by the XML, else by the name; None where neither fits the number of frames."""
    shape: tuple[int, int] | None = about.get("shape")
    if shape is None and (named := _RASTER.search(raw.stem)):
        shape = int(named[2]), int(named[1])
        said.append(f"raster of {shape[0]} rows and {shape[1]} columns read from the name {raw.name}")
    if shape is not None and shape[0] * shape[1] != count:
        said.append(f"the raster {shape[0]} x {shape[1]} does not fit {count} frames and is not used")
        return None
    return shape


def _geometry(about: dict[str, Any], options: LoadOptions, where: str, said: list[str]) -> Geometry:
    """Energy and camera length; the angle of a pixel gives the camera length that belongs to the detector's pixel."""
    stated: dict[str, Any] = {"particle": options.particle or "electron", "detector_pixel_m": (PIXEL_M, PIXEL_M)}
    if "energy_eV" in about:
        stated["energy_eV"] = about["energy_eV"]
    if "angle_rad" in about:
        stated["distance_m"] = PIXEL_M / about["angle_rad"]
        said.append(f"camera length derived from {about['angle_rad']:.4g} rad and {PIXEL_M:g} m per pixel")
    return geometry_of(options, where, **stated)


def _matches(file: DataFile) -> bool:
    """A raw file whose size is a whole number of frames, or an XML file that names one."""
    if file.kind != "other" or not file.path.is_file():
        return False
    suffix, size = file.path.suffix.lower(), file.path.stat().st_size
    if suffix == ".raw":
        return size > 0 and size % _FRAME_BYTES == 0
    if suffix != ".xml" or size > _LARGEST_XML:
        return False
    return b"<raw_file" in file.path.read_bytes()


def _read(file: DataFile, options: LoadOptions) -> Scan:
    return finish(read_empad(file.path, options), options)


FORMAT = Format(
    name="empad",
    help="4D-STEM scan of the EMPAD: raw frames of 130 x 128 float32, with its XML where it is there.",
    options=NoOptions,
    holds="scan",
    takes=RASTER,
    matches=_matches,
    read=_read,
)
