"""A template of a layout: the YAML for a file that no format reads, with the datasets that may be meant."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from diptych.ptycho.io.layouts.layout import Layout
from diptych.ptycho.io.positions.columns import best_pair
from diptych.ptycho.io.positions.table import UNITS, unit_named
from diptych.ptycho.io.source import Header, TreeSource

_MOST_OTHERS = 6
_ENERGY = re.compile(r"energy|wavelength|lambda|voltage", re.IGNORECASE)
_NO_ENERGY = re.compile(r"threshold|spread|readout|source", re.IGNORECASE)
_DISTANCE = re.compile(r"distance|camera_?length|^z$|^zo$", re.IGNORECASE)
_PIXEL = {"y": re.compile(r"y_?pixel|pixel_?(size_?)?y|^dy$"), "x": re.compile(r"x_?pixel|pixel_?(size_?)?x|^dx$")}
_PIXEL_ANY = re.compile(r"pixel_?size|pixel_?um|^psize$|^dxd$", re.IGNORECASE)
_MASK = re.compile(r"mask|valid|bad|good", re.IGNORECASE)
_PROBE = re.compile(r"probe|illumination", re.IGNORECASE)
_FILL = "FILL IN"

Headers = dict[str, Header]


def template(source: TreeSource, path: Path) -> str:
    """YAML text: one line for each key of a layout, with its meaning; keys without a value are not used.

    What fits by name, shape and unit is filled in and has to be checked; where there are other candidates they stand in
    the comment. Whether patterns are counts or amplitudes is never guessed.
    """
    headers: Headers = {}
    for name, header in source.walk():
        if not isinstance(header, str) and header.dtype.kind in "buifc":
            headers[name] = header
    values, others = _guess(source, headers)
    values["name"] = re.sub(r"[^A-Za-z0-9]+", "-", path.stem).strip("-").lower()[:60] or "layout"
    lines = [
        f"# How to read files like {_plain(path.name)}:",
        "#   diptych info FILE --layout THIS.yaml",
        "# Paths and units were filled in by name and shape where something fits: check them.",
        f"# Keys without a value are not used. {_FILL} what is marked so.",
        "",
    ]
    for key, field in Layout.model_fields.items():
        lines.append(f"# {field.description}")
        if choices := others.get(key):
            shown = ", ".join(_plain(choice) for choice in choices[:_MOST_OTHERS])
            lines.append(f"# Also possible: {shown}{', ...' if len(choices) > _MOST_OTHERS else ''}")
        required = field.is_required() and key not in values
        default = values.get(key, None if required else field.default)
        text = "" if default is None or default == () else json.dumps(default)
        lines.append(f"{key}: {text}".rstrip() + (f"  # {_FILL}" if required else ""))
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Text of a file in a comment: on one line."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _guess(source: TreeSource, headers: Headers) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Values of keys, and other candidates of keys."""
    values: dict[str, Any] = {}
    others: dict[str, list[str]] = {}

    def take(key: str, found: Sequence[str]) -> None:
        if found:
            values[key] = found[0]
            others[key] = list(found[1:])

    patterns = sorted(
        (name for name, header in headers.items() if _may_be_patterns(header)),
        key=lambda name: -_size(headers[name]),
    )
    take("patterns", patterns)
    count, frame = 0, (0, 0)
    if patterns:
        shape = headers[patterns[0]].shape
        if len(shape) == 4:
            values["axes"], count, frame = "RCYX", shape[0] * shape[1], (shape[2], shape[3])
        elif shape[0] == shape[1] != shape[2]:
            values["axes"], count, frame = "YXM", shape[2], (shape[0], shape[1])
        else:
            count, frame = shape[0], (shape[1], shape[2])
    _places(source, headers, count, values, others)
    scalars = [name for name, header in headers.items() if _size(header) == 1]
    energy = [name for name in _named(scalars, _ENERGY) if not _NO_ENERGY.search(name)]
    take("energy", energy)
    if energy:
        unit = str(source.attributes(energy[0]).get("units", ""))
        named = unit if unit in ("J", "eV", "keV") else unit_named(unit)
        if named in ("J", "eV", "keV", "m", "nm", "A"):
            values["energy_unit"] = named
    take("distance", _named(scalars, _DISTANCE))
    for axis in "yx":
        take(f"pixel_{axis}", _named(scalars, _PIXEL[axis]) or _named(scalars, _PIXEL_ANY))
    for key, unit_key in (("distance", "distance_unit"), ("pixel_y", "pixel_unit")):
        stated = unit_named(source.attributes(values[key]).get("units")) if key in values else None
        if stated is not None and UNITS[stated] is not None:
            values[unit_key] = stated
    frames = [name for name, header in headers.items() if header.shape[-2:] == frame and len(header.shape) == 2]
    take("mask", _named(frames, _MASK))
    take("probe", [name for name in _named(headers, _PROBE) if headers[name].dtype.kind == "c"])
    return values, others


def _places(
    source: TreeSource, headers: Headers, count: int, values: dict[str, Any], others: dict[str, list[str]]
) -> None:
    """Positions: one array of two or three columns, or a pair that is called y and x in one group."""
    tables = [
        name for name, header in headers.items() if len(header.shape) == 2 and header.shape in ((count, 2), (count, 3))
    ]
    lines = [
        name for name, header in headers.items() if count and _size(header) == count and header.dtype.kind in "uif"
    ]
    groups: dict[str, list[str]] = {}
    for name in lines:
        groups.setdefault(name.rpartition("/")[0], []).append(name)
    pairs = [best_pair((name, name.rpartition("/")[2]) for name in members) for members in groups.values()]
    found = [",".join(pair) for pair in pairs if pair is not None] + tables
    if found:
        values["positions"], others["positions"] = found[0], found[1:]
        unit = unit_named(source.attributes(found[0].split(",")[0]).get("units"))
        if unit is not None:
            values["position_unit"] = unit
        if found[0] in tables and headers[found[0]].shape[1] == 3:
            values["position_order"] = "xy"
    else:
        others["positions"] = lines


def _may_be_patterns(header: Header) -> bool:
    return (
        len(header.shape) in (3, 4) and header.dtype.kind in "uif" and min(header.shape[-2:]) > 1 and _size(header) > 1
    )


def _size(header: Header) -> int:
    size = 1
    for side in header.shape:
        size *= side
    return size


def _named(names: Iterable[str], pattern: re.Pattern[str]) -> list[str]:
    return [name for name in names if pattern.search(name.rpartition("/")[2])]
