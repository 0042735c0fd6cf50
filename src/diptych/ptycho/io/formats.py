"""File formats: one :class:`Format` each, in one registry.

To add one, write a module under ``scans``, ``results`` or ``positions`` that defines a :class:`Format`, and add its
line to :data:`BUILTIN`; an installed package offers one under the entry-point group ``diptych.formats``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from diptych.errors import InputError, to_type
from diptych.ptycho.io.files import DataFile
from diptych.ptycho.io.foreign import foreign
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.source import listed
from diptych.ptycho.scan import Reconstruction, Scan
from diptych.runtime.registry import Extension, Registry

log = logging.getLogger("diptych")

Holds = Literal["scan", "result", "positions"]

BUILTIN = {
    "scan-npz": "diptych.ptycho.io.scans.npz:FORMAT",
    "tike": "diptych.ptycho.io.scans.tike:FORMAT",
    "ptychoshelves": "diptych.ptycho.io.results.ptychoshelves:FORMAT",
    "ptychodus": "diptych.ptycho.io.results.product:FORMAT",
    "ptychodus-npz": "diptych.ptycho.io.results.product_npz:FORMAT",
    "result-npz": "diptych.ptycho.io.results.npz:FORMAT",
    "raw-data": "diptych.ptycho.io.scans.hdf5:RAW_DATA",
    "scan-hdf5": "diptych.ptycho.io.scans.hdf5:FORMAT",
    "ptychodus-cxi": "diptych.ptycho.io.results.product_cxi:FORMAT",
    "nxptycho": "diptych.ptycho.io.scans.cxi:NXPTYCHO",
    "cxi": "diptych.ptycho.io.scans.cxi:FORMAT",
    "ptypy": "diptych.ptycho.io.scans.ptypy:FORMAT",
    "fold-slice": "diptych.ptycho.io.scans.fold_slice:FORMAT",
    "fold-slice-positions": "diptych.ptycho.io.scans.fold_slice:PARAMETERS",
    "ptylab": "diptych.ptycho.io.scans.ptylab:FORMAT",
    "hxn": "diptych.ptycho.io.scans.hxn:FORMAT",
    "ptypy-result": "diptych.ptycho.io.results.ptypy:FORMAT",
    "cdtools-result": "diptych.ptycho.io.results.cdtools:FORMAT",
    "ptyrad": "diptych.ptycho.io.results.ptyrad:FORMAT",
    "nexus": "diptych.ptycho.io.results.nexus:FORMAT",
    "tiff": "diptych.ptycho.io.results.tiff:FORMAT",
    "raster": "diptych.ptycho.io.scans.raster:FORMAT",
    "dectris": "diptych.ptycho.io.scans.detectors.eiger:FORMAT",
    "nanomax": "diptych.ptycho.io.scans.detectors.beamlines:NANOMAX",
    "frames": "diptych.ptycho.io.scans.detectors.beamlines:FRAMES",
    "tiff-frames": "diptych.ptycho.io.scans.detectors.images:FORMAT",
    "emd": "diptych.ptycho.io.scans.electrons.emd:FORMAT",
    "empad": "diptych.ptycho.io.scans.electrons.empad:FORMAT",
    "mda": "diptych.ptycho.io.positions.columns:MDA",
    "spec": "diptych.ptycho.io.positions.columns:SPEC",
    "panda": "diptych.ptycho.io.positions.columns:PANDA",
    "nxstxm": "diptych.ptycho.io.positions.columns:STXM",
}
"""Formats are asked in this order; the first that recognises the content reads it."""


CUT = ("frame_size", "centre_y", "centre_x")
RASTER = ("scan_step", "scan_columns")
KEYS = ("axes", "nominal_positions", "probe_key", "use_truth")
CONDITIONAL = (*CUT, *RASTER, *KEYS, "entry")
"""Load options that some formats use and others do not."""


@dataclass(frozen=True)
class Format(Extension):
    """A file format.

    Parameters
    ----------
    name, help, options
        As for every extension.
    holds : {"scan", "result", "positions"}
        What ``read`` returns: a Scan, a Reconstruction, or positions: an array (M, 2) or a
        :class:`~diptych.ptycho.io.positions.table.Table`.
    matches : callable
        Whether a file is of this format, by its content. Should look at names and attributes only, and read no data.
    read : callable
        What the file holds, given the file and the load options. Raises InputError where it is incomplete or wrong.
    write : callable, optional
        Writes a Scan or a Reconstruction to a path.
    suffixes : tuple of str
        Of written files; :func:`diptych.save` chooses the format by them.
    by_suffix : bool
        Whether a suffix alone chooses it; otherwise it is written where its name is given.
    beside : callable, optional
        Names of the further files that ``write`` makes next to a path.
    takes : tuple of str
        Those of :data:`CONDITIONAL` that its ``read`` uses; built-in formats refuse the others.
    datasets : mapping of str to tuple of str
        Paths under which the format keeps ``"patterns"``, ``"probe"`` and ``"object"``; the first that exists is used.
    """

    holds: Holds
    matches: Callable[[DataFile], bool]
    read: Callable[[DataFile, LoadOptions], Any]
    write: Callable[[Any, Path], None] | None = None
    suffixes: tuple[str, ...] = ()
    by_suffix: bool = True
    beside: Callable[[Path], tuple[Path, ...]] | None = None
    takes: tuple[str, ...] = ()
    datasets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


LAYOUT_REMEDY = (
    "Files of a kind of your own are read by a description of them: --layout L.yaml. "
    + to_type("To see the tree of the file", "diptych info FILE")
    + to_type("\nTo write a description to fill in", "diptych info FILE --layout-template L.yaml")
)

FORMATS: Registry[Format] = Registry("format", "diptych.formats", Format, BUILTIN)


def recognise(file: DataFile, holds: Holds | None = None) -> Format | None:
    """The first format that recognises the content of ``file``, among those that hold ``holds``; None if there is none.

    A format of an installed package that fails is logged and left out: it must not stop others from reading a file.
    """
    for format_ in _entries(holds):
        try:
            if format_.matches(file):
                return format_
        except Exception as error:
            if format_.name in BUILTIN:
                raise
            log.warning("format %s: left out, it failed on %s (%r)", format_.name, file.path, error)
    return None


def refuse_unused(found: Format, path: Path, options: LoadOptions) -> None:
    """Raise where an option is given that a built-in format would pass over in silence."""
    if found.name in BUILTIN:
        refuse_others(found.name, found.takes, path, options)


def refuse_others(how: str, takes: tuple[str, ...], path: Path, options: LoadOptions) -> None:
    """Raise where one of :data:`CONDITIONAL` is given that is not among those that reading a file so ``takes``.

    Raises
    ------
    InputError
        Names the options, and ``how`` the file is read.
    """
    usual = LoadOptions()
    unused = [name for name in CONDITIONAL if name not in takes and getattr(options, name) != getattr(usual, name)]
    if unused:
        flags = ", ".join("--no-use-truth" if name == "use_truth" else "--" + name.replace("_", "-") for name in unused)
        cut = to_type(" To crop any scan", "diptych prepare FILE OUT --crop N") if set(unused) & set(CUT) else ""
        raise InputError(path, f"is read as {how}, to which {flags} cannot apply", "other options", f"Omit them.{cut}")


def unrecognised(file: DataFile, holds: Holds | None = None) -> InputError:
    """The error for a file that no format recognises, with the way on: its tree, and a template of a layout."""
    if file.source is None:
        return file.problem or InputError(file.path, "is of an unknown kind")
    scan = "a scan (diff3d or diffraction, xcoords, ycoords, probeGuess)"
    what = f"{scan}, or a result (object and probe)" if holds is None else scan if holds == "scan" else f"a {holds}"
    expected = f"{what}, or one of the formats {listed_formats(holds)}"
    if file.kind == "npy":
        return InputError(
            file.path, "holds a single NPY array", f"{expected}; a raster has the shape (rows, columns, N, N)"
        )
    if (known := foreign(file, expected)) is not None:
        return known
    blocked = next((f"{name!r} {found}" for name, found in file.source.walk() if isinstance(found, str)), None)
    note = f", and {blocked}" if blocked else ""
    return InputError(file.path, f"holds {listed(file.source.names())}{note}", expected, LAYOUT_REMEDY)


def listed_formats(holds: Holds | None = None) -> str:
    """Names of the formats that are read, for a message."""
    kinds: tuple[Holds, ...] = ("scan", "result") if holds is None else (holds,)
    return ", ".join(sorted(entry.name for kind in kinds for entry in _entries(kind)))


def writer(item: Scan | Reconstruction, path: Path, name: str | None = None) -> Format:
    """The format that writes ``item`` to ``path``: the one called ``name``, else by the suffix.

    Raises
    ------
    InputError
        If there is no such format, it cannot write the item, or no format has the suffix.
    """
    kind: Holds = "scan" if isinstance(item, Scan) else "result"
    if name is not None:
        chosen = FORMATS[name]
        if chosen.write is None or chosen.holds != kind:
            able = listed(entry.name for entry in _entries(kind) if entry.write is not None)
            raise InputError(f"format {name!r}", f"cannot write a {kind}", f"one of {able}")
        return chosen
    suffix = path.suffix.lower()
    able_to = [entry for entry in _entries(kind) if entry.write is not None]
    for entry in able_to:
        if entry.by_suffix and suffix in entry.suffixes:
            return entry
    endings = " or ".join(f"{end} ({entry.name})" for entry in able_to if entry.by_suffix for end in entry.suffixes)
    named = listed(entry.name for entry in able_to if not entry.by_suffix)
    remedy = f"By its name (--as, format=...) you can also have {named}."
    raise InputError(path, f"found {suffix or 'no suffix'}", f"for a {kind}, a name that ends in {endings}", remedy)


def suffixes(holds: Holds) -> tuple[str, ...]:
    """Suffixes by which a format is chosen for a scan or a result."""
    able_to = (entry for entry in _entries(holds) if entry.write is not None and entry.by_suffix)
    return tuple(end for entry in able_to for end in entry.suffixes)


def _entries(holds: Holds | None) -> Iterator[Format]:
    return (entry for entry in FORMATS.entries() if holds is None or entry.holds == holds)
