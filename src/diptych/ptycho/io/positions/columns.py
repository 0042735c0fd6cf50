"""Positions in tables of columns (MDA, SPEC, PandA) and in NXstxm files: which columns are y, x and frame numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from diptych.errors import InputError
from diptych.ptycho.io.fields import real_from
from diptych.ptycho.io.files import DataFile
from diptych.ptycho.io.formats import Format
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.positions.table import Table, unit_named
from diptych.ptycho.io.source import TreeSource
from diptych.runtime.registry import NoOptions

_PLACE = re.compile(r"(sam|sample|stage|pos|scan|piezo|motor|pi|fine|coarse|s)?[ _.]?([xy])([ _.].*)?", re.IGNORECASE)
_PANDA = re.compile(r"(INENC\d|PCAP|COUNTER\d|FMC_IN)\.", re.IGNORECASE)


def best_pair(named: Iterable[tuple[str, str]]) -> tuple[str, str] | None:
    """Keys of the columns of y and x among (key, name) pairs, where exactly one of each looks like it; else None."""
    found: dict[str, list[str]] = {"y": [], "x": []}
    for key, name in named:
        match = _PLACE.fullmatch(name.strip())
        if match is not None:
            found[match[2].casefold()].append(key)
    if len(found["y"]) == len(found["x"]) == 1:
        return found["y"][0], found["x"][0]
    return None


def of_columns(source: TreeSource, name: str) -> Table:
    """The positions in a table whose columns say by name or description which of them are y and x.

    Raises
    ------
    InputError
        If that is not clear; the message lists the columns.
    """
    headers = source.headers()
    varying = [key for key, header in headers.items() if len(header.shape) == 1 and header.shape[0] > 0]
    pair = _by_scan(source, varying)
    if pair is None:
        shown = ", ".join(f"{key} ({about})" if (about := _about(source, key)) else key for key in sorted(varying)[:24])
        more = f", ... ({len(varying)} in all)" if len(varying) > 24 else ""
        raise InputError(
            source.where,
            f"does not say which columns are the positions; it holds {shown or 'no columns'}{more}",
            "one column called y and one called x",
            "Name them: --positions FILE:COLUMN_OF_Y,COLUMN_OF_X",
        )
    y, x = pair
    units = [unit_named(source.attributes(key).get("units")) for key in pair]
    if units[0] != units[1]:
        raise InputError(source.where, f"{y} is in {units[0]} and {x} in {units[1]}", "one unit of both")
    ys, xs = (real_from(source, key, "positions").astype(np.float64) for key in pair)
    return Table(source.where, ys, xs, units[0], None, f"positions read from {name}: {y} (y), {x} (x)")


def _about(source: TreeSource, key: str) -> str:
    return str(source.attributes(key).get("description", ""))[:40]


def _by_scan(source: TreeSource, keys: list[str]) -> tuple[str, str] | None:
    """The pair by name, else by description; of several scans in a file (``12/samx``) the only one that has a pair."""
    groups: dict[str, list[str]] = {}
    for key in keys:
        groups.setdefault(key.rpartition("/")[0], []).append(key)
    pairs = []
    for members in groups.values():
        pair = best_pair((key, key.rpartition("/")[2]) for key in members)
        pair = pair or best_pair((key, _about(source, key)) for key in members)
        if pair is not None:
            pairs.append(pair)
    return pairs[0] if len(pairs) == 1 else None


def _read(file: DataFile, options: LoadOptions) -> Table:
    return of_columns(file.arrays, file.path.name)


def _is_panda(file: DataFile) -> bool:
    return file.kind == "hdf5" and any(_PANDA.match(name) for name in file.arrays.names())


def _stxm(source: TreeSource) -> str | None:
    """The group of an NXstxm entry that holds ``sample_x`` and ``sample_y``."""
    for entry in sorted(source.names()):
        try:
            group = source.group(entry)
        except InputError:
            # A link that leads nowhere.
            continue
        if group is None or "NX_class" not in source.attributes(entry):
            continue
        definition = group.read("definition") if group.header("definition") is not None else None
        if definition is None or "NXstxm" not in str(definition):
            continue
        for inner in sorted(group.names()):
            if all(group.header(f"{inner}/sample_{axis}") is not None for axis in "yx"):
                return f"{entry}/{inner}"
    return None


def read_stxm(source: TreeSource, where: str, name: str) -> Table:
    """Positions of an NXstxm file: ``sample_y`` and ``sample_x``, of every point or of the axes of a raster.

    Raises
    ------
    InputError
        If their units differ.
    """
    group = _stxm(source)
    assert group is not None
    keys = [f"{group}/sample_{axis}" for axis in "yx"]
    units = [unit_named(source.attributes(key).get("units")) for key in keys]
    if units[0] != units[1]:
        raise InputError(where, f"{keys[0]} is in {units[0]} and {keys[1]} in {units[1]}", "one unit of both")
    y, x = (np.squeeze(real_from(source, key, "positions").astype(np.float64)) for key in keys)
    data = source.header(f"{group}/data")
    shape = () if data is None else data.shape[-2:]
    how = ""
    if y.ndim == x.ndim == 1 and (y.size != x.size or shape == (y.size, x.size)):
        y, x = np.meshgrid(y, x, indexing="ij")
        how = "; they are the axes of a raster, x fastest"
    if y.shape != x.shape:
        raise InputError(where, f"{keys[0]} has shape {y.shape} and {keys[1]} {x.shape}", "equal shapes")
    said = f"positions read from {name}: {keys[0]}, {keys[1]}{how}"
    return Table(where, np.atleast_1d(y).ravel(), np.atleast_1d(x).ravel(), units[0], None, said)


MDA = Format(
    name="mda",
    help="Positions of EPICS scans (MDA): positioners and detectors of nested scans.",
    options=NoOptions,
    holds="positions",
    matches=lambda file: file.kind == "mda",
    read=_read,
)
SPEC = Format(
    name="spec",
    help="Positions of SPEC scans: the columns of each scan.",
    options=NoOptions,
    holds="positions",
    matches=lambda file: file.kind == "spec",
    read=_read,
)
PANDA = Format(
    name="panda",
    help="Positions captured by a PandABox (HDF5): encoders of each trigger.",
    options=NoOptions,
    holds="positions",
    matches=_is_panda,
    read=_read,
)
STXM = Format(
    name="nxstxm",
    help="Positions of an NXstxm file: sample_y, sample_x.",
    options=NoOptions,
    holds="positions",
    matches=lambda file: file.kind == "hdf5" and _stxm(file.arrays) is not None,
    read=lambda file, options: read_stxm(file.arrays, str(file.path), file.path.name),
)
