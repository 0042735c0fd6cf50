"""Positions as a table in text: a header with names and units, one line for each frame.

Columns are recognised by their names: ``x`` and ``y`` (also ``pos_x``, ``samx``, ``PosX [um]``), and the number of the
frame (``frame``, ``index``, ``number``, ``trigger``). Units stand in the name:
``x_um``, ``x (mm)``, ``x [m]``, ``x_px``.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from diptych.errors import InputError
from diptych.ptycho.io.positions.table import UNITS, Table
from diptych.ptycho.io.source import listed

LARGEST_BYTES = 256 * 2**20
_EXPECTED = "a header with the columns y and x and their units, for instance 'frame, y_um, x_um', then numbers"
_UNIT = re.compile(r"[\s_\[(]+(" + "|".join(UNITS) + r")[\])]*$", re.IGNORECASE)
_FRAME = re.compile(r"^(frame|index|number|trigger|pattern|n|no|nr|frame[ _]?(number|index|id)|trigger[ _]?\w+)$")
_AXIS = {
    axis: re.compile(rf"^(.*[^a-z])?{axis}([^a-z].*)?$|^(pos|position|sam|stage|motor|s)_?{axis}$") for axis in "yx"
}


def read_text(path: Path, columns: str | None = None) -> Table:
    """The positions in a text file (CSV, TSV, columns).

    Parameters
    ----------
    path : Path
        The file.
    columns : str, optional
        ``Y,X`` or ``Y,X,FRAMES``: names of the header, or numbers of the columns, from 1; without it, the names tell.

    Raises
    ------
    InputError
        If there is no header, a column is missing or there are several of it, or a line holds something else.
    """
    if path.stat().st_size > LARGEST_BYTES:
        raise InputError(path, f"has {path.stat().st_size / 1e6:.0f} MB", "a table of positions")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(path, "is neither text nor a file of a known kind", _EXPECTED) from None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not any(_numbers(line) for line in lines) and all(";" in line or "\t" in line for line in lines):
        # Tables of a country that writes 1,5 for 1.5.
        lines = [re.sub(r"(?<=\d),(?=\d)", ".", line) for line in lines]
    first = next((number for number, line in enumerate(lines) if _numbers(line) is not None), None)
    if first is None:
        raise InputError(path, "holds no line of numbers", _EXPECTED)
    if first == 0 and columns is None:
        remedy = "Name the columns by their numbers, from 1: --positions FILE:Y,X or FILE:Y,X,FRAMES."
        raise InputError(path, "has no header, so which column is y is not known", _EXPECTED, remedy)
    head = _cells(lines[first - 1].lstrip("#% ")) if first else [str(n + 1) for n in range(len(_cells(lines[0])))]
    names = [name.strip().strip('"') for name in head]
    rows = [_numbers(line) for line in lines[first:] if not line.startswith(("#", "%"))]
    wrong = next((number for number, row in enumerate(rows) if row is None or len(row) != len(names)), None)
    if wrong is not None:
        raise InputError(path, f"line {wrong + 1} of the numbers does not have {len(names)} of them", listed(names))
    values = np.asarray(rows, np.float64)
    chosen = [] if columns is None else _named(names, columns, path)
    y, x = chosen[:2] or (_column(names, axis, path) for axis in "yx")
    if not np.isfinite(values[:, [y, x]]).all():
        line = int(np.flatnonzero(~np.isfinite(values[:, [y, x]]).all(axis=1))[0])
        raise InputError(path, f"line {line + 1} of the numbers has no y or no x", "a finite number of both")
    units = [_unit(names[column]) for column in (y, x)]
    if units[0] != units[1]:
        raise InputError(path, f"y is in {units[0] or 'an unstated unit'} and x in {units[1]}", "one unit of both")
    frames = chosen[2:] or [number for number, name in enumerate(names) if _FRAME.match(name.casefold())]
    if frames and not np.isfinite(values[:, frames[0]]).all():
        raise InputError(path, f"column {names[frames[0]]!r} holds something else", "numbers of the frames")
    return Table(
        where=str(path),
        y=values[:, y],
        x=values[:, x],
        unit=units[0],
        numbers=np.rint(values[:, frames[0]]).astype(np.int64) if frames else None,
        said=f"positions read from {path.name}, columns {names[y]!r} (y) and {names[x]!r} (x)",
    )


def _cells(line: str) -> list[str]:
    for separator in (";", "\t") if ";" in line or "\t" in line else (",",):
        if separator in line:
            return line.split(separator)
    return re.sub(r"\s+([\[(])", r"\1", line).split()


def _numbers(line: str) -> list[float] | None:
    """The cells of a line as numbers, NaN for text; None where fewer than two are numbers."""
    found = [_number(cell) for cell in _cells(line)]
    return found if sum(not np.isnan(value) for value in found) >= 2 else None


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")


def _bare(name: str) -> str:
    return _UNIT.sub("", name).casefold()


def _unit(name: str) -> str | None:
    found = _UNIT.search(name)
    return next((unit for unit in UNITS if found is not None and unit.casefold() == found[1].casefold()), None)


def _named(names: list[str], columns: str, path: Path) -> list[int]:
    """Places of the columns that ``columns`` names, by the header or by their numbers from 1."""
    asked = [part.strip() for part in columns.split(",")]
    if len(asked) not in (2, 3):
        raise InputError(f"{path}: {columns}", f"names {len(asked)} columns", "Y,X or Y,X,FRAMES")
    places = []
    for part in asked:
        by_number = part.isdigit() and 1 <= int(part) <= len(names)
        place = names.index(part) if part in names else int(part) - 1 if by_number else -1
        if place < 0:
            raise InputError(path, f"has no column {part!r}; its columns are {listed(names)}", "one of them")
        places.append(place)
    return places


def _column(names: list[str], axis: str, path: Path) -> int:
    bare = [_bare(name) for name in names]
    exact = [number for number, name in enumerate(bare) if name == axis]
    fitting = exact or [number for number, name in enumerate(bare) if _AXIS[axis].match(name)]
    if len(fitting) != 1:
        found = "no column" if not fitting else "several columns"
        raise InputError(path, f"has {found} for {axis}; its columns are {listed(names)}", _EXPECTED)
    return fitting[0]
