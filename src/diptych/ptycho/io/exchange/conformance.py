"""``diptych.validate``: does a file conform to a standard, and where not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from diptych.errors import InputError
from diptych.ptycho.io.files import opened
from diptych.ptycho.io.source import Header, TreeSource

Kind = Literal["real", "complex", "text", "any"]


@dataclass(frozen=True)
class Rule:
    """One array that a standard describes.

    Parameters
    ----------
    path : str
        Where it lies; other paths where it may lie instead follow after ``|``.
    kind : {"real", "complex", "text", "any"}
        What it holds.
    shape : tuple, optional
        A number, a name (equal in all arrays of the file that have it), or None for any length; None: any shape.
    required : bool
        Whether a file without it deviates.
    units : tuple of str
        What its attribute ``units`` may say, where it has one.
    positive : bool
        A single number that must be finite and above 0.
    between : (float, float), optional
        Plausible range of a single number in the first of the units; outside of it the unit is in doubt.
    attributes : tuple of str
        Attributes that it must have.
    """

    path: str
    kind: Kind = "real"
    shape: tuple[int | str | None, ...] | None = None
    required: bool = True
    units: tuple[str, ...] = ()
    positive: bool = False
    between: tuple[float, float] | None = None
    attributes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Deviation:
    """One place where a file deviates from a standard: ``path``, what was ``found`` and ``expected``."""

    path: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.path}: {self.found}; expected {self.expected}"


@dataclass(frozen=True)
class Conformance:
    """What :func:`validate` found.

    Parameters
    ----------
    standard : str
        Name of the standard.
    deviations : tuple of Deviation
        Where the file deviates.
    checked : int
        How many rules were checked.
    """

    standard: str
    deviations: tuple[Deviation, ...]
    checked: int

    @property
    def conforms(self) -> bool:
        """Whether nothing deviates."""
        return not self.deviations


_METRE = ("m", "metre", "meter", "metres", "meters")
_DETECTOR, _SOURCE = "entry_1/instrument_1/detector_1/", "entry_1/instrument_1/source_1/"
_PIXELS = ("pixel_width_m", "pixel_height_m")

STANDARDS: dict[str, tuple[Rule, ...]] = {
    "product": (
        Rule("probe_position_indexes", shape=("positions",)),
        Rule("probe_position_x_m", shape=("positions",)),
        Rule("probe_position_y_m", shape=("positions",)),
        Rule("probe", "complex", (None, None, "N", "N"), attributes=_PIXELS),
        Rule("object", "complex", (None, None, None), attributes=(*_PIXELS, "center_x_m", "center_y_m")),
        Rule("object_layer_spacing_m", shape=(None,)),
        Rule("loss_values|costs", shape=("epochs",)),
        Rule("loss_epochs", shape=("epochs",), required=False),
        Rule("opr_weights", shape=("positions", None), required=False),
    ),
    "cxi": (
        Rule("cxi_version", shape=(), positive=True),
        Rule("number_of_entries", shape=(), required=False),
        Rule("entry_1/data_1/data", shape=("patterns", "N", "N")),
        Rule(_DETECTOR + "data", shape=("patterns", "N", "N")),
        Rule("entry_1/data_1/translation", shape=("patterns", 3), units=_METRE),
        Rule("entry_1/sample_1/geometry_1/translation", shape=("patterns", 3), units=_METRE),
        Rule(_SOURCE + "energy", shape=(), units=("J", "joule"), positive=True, between=(1e-20, 1e-12)),
        Rule(_DETECTOR + "distance", shape=(), units=_METRE, positive=True, between=(1e-4, 1e3)),
        Rule(_DETECTOR + "x_pixel_size", shape=(), units=_METRE, positive=True, between=(1e-8, 1e-2)),
        Rule(_DETECTOR + "y_pixel_size", shape=(), units=_METRE, positive=True, between=(1e-8, 1e-2)),
        Rule(_DETECTOR + "basis_vectors", shape=(None, None), required=False),
        Rule(_DETECTOR + "mask", required=False),
    ),
    "nxptycho": (
        Rule("entry_1/definition", "text"),
        Rule("entry_1/title", "text"),
        Rule("entry_1/data_1/data", shape=("patterns", "N", "N")),
        Rule("entry_1/data_1/translation|entry_1/sample_1/geometry_1/translation", shape=("patterns", 3)),
        Rule(_SOURCE + "name", "text"),
        Rule(_SOURCE + "type", "any"),
        Rule(_SOURCE + "probe", "any"),
        Rule(
            "entry_1/instrument_1/beam_1/energy",
            units=("J", "eV", "keV"),
            positive=True,
            between=(1e-20, 1e-12),
            attributes=("units",),
        ),
        Rule("entry_1/instrument_1/beam_1/extent", attributes=("units",)),
        Rule(_DETECTOR + "distance", positive=True, attributes=("units",)),
        Rule(_DETECTOR + "x_pixel_size", positive=True, attributes=("units",)),
        Rule(_DETECTOR + "y_pixel_size", positive=True, attributes=("units",)),
        Rule(_DETECTOR + "beam_center_x", attributes=("units",)),
        Rule(_DETECTOR + "beam_center_y", attributes=("units",)),
    ),
}
"""Ptychodus products (HDF5, 1.7), CXI 1.60 (CXIDB), and NXcxi_ptycho (NeXus, contributed definition)."""

ROOT_ATTRIBUTES = {"product": ("name", "detector_object_distance_m", "probe_energy_eV")}
DEFINITIONS = ("NXcxi_ptycho", "NXptycho")


def validate(path: str | Path, standard: str) -> Conformance:
    """Check whether a file conforms to a standard.

    Parameters
    ----------
    path : path
        An HDF5 file.
    standard : {"product", "cxi", "nxptycho"}
        A Ptychodus product, a CXI scan, or a NeXus file by NXcxi_ptycho.

    Raises
    ------
    InputError
        If there is no such standard, or the file cannot be opened.

    Examples
    --------
    >>> import diptych
    >>> scan = diptych.simulate(object="blocks", size=16, patterns=25, step=2.0, seed=0)
    >>> found = diptych.validate(diptych.save(scan, "scan.cxi"), "cxi")
    >>> print(found.deviations[0])
    entry_1/data_1/translation: units are 'px'; expected m
    """
    if standard not in STANDARDS:
        raise InputError("validate", f"found the standard {standard!r}", f"one of {', '.join(STANDARDS)}")
    path = Path(path)
    with opened(path) as file:
        if file.kind != "hdf5":
            raise InputError(path, f"is of the kind {file.kind}", f"an HDF5 file, as {standard} demands")
        source, rules = file.arrays, STANDARDS[standard]
        headers = {name: found for name, found in source.walk() if isinstance(found, Header)}
        lengths: dict[str, tuple[int, str]] = {}
        found = [each for rule in rules for each in _of_rule(source, headers, rule, lengths)]
        wanted = ROOT_ATTRIBUTES.get(standard, ())
        found += [
            Deviation(f"/@{name}", "is absent", "an attribute") for name in wanted if name not in source.attributes()
        ]
        if standard == "nxptycho" and "entry_1/definition" in headers:
            stated = _text(source.read("entry_1/definition"))
            if stated not in DEFINITIONS:
                found.append(Deviation("entry_1/definition", f"is {stated!r}", " or ".join(DEFINITIONS)))
        return Conformance(standard, tuple(found), len(rules) + len(wanted))


def _of_rule(
    source: TreeSource, headers: dict[str, Header], rule: Rule, lengths: dict[str, tuple[int, str]]
) -> Iterator[Deviation]:
    """How the file deviates from one rule; ``lengths`` are the named lengths seen so far and where."""
    path = next((name for name in rule.path.split("|") if name in headers), None)
    if path is None:
        if rule.required:
            yield Deviation(rule.path.replace("|", " or "), "is absent", _described(rule))
        return
    header = headers[path]
    if not _of_kind(header.dtype, rule.kind):
        yield Deviation(path, f"has type {header.dtype}", _described(rule))
        return
    if rule.shape is not None:
        if len(rule.shape) != len(header.shape) and not (rule.shape == () and header.shape == (1,)):
            yield Deviation(path, f"has shape {header.shape}", _described(rule))
            return
        for named, length in zip(rule.shape, header.shape, strict=False):
            known, where = lengths.setdefault(named, (length, path)) if isinstance(named, str) else (named, "")
            if known is not None and known != length:
                yield Deviation(
                    path, f"has shape {header.shape}", f"{known} in place of {length}" + f", as {where}" * bool(where)
                )
                break
    yield from _of_values(source, path, header, rule)


def _of_values(source: TreeSource, path: str, header: Header, rule: Rule) -> Iterator[Deviation]:
    attributes = source.attributes(path)
    for name in rule.attributes:
        if name not in attributes:
            yield Deviation(f"{path}/@{name}", "is absent", "an attribute")
    units = attributes.get("units")
    if rule.units and units is not None and str(units) not in rule.units:
        yield Deviation(path, f"units are {str(units)!r}", rule.units[0])
    if not (rule.positive and int(np.prod(header.shape)) == 1):
        return
    value = float(np.ravel(source.read(path))[0])
    if not (np.isfinite(value) and value > 0):
        yield Deviation(path, f"is {value:g}", "a finite positive number")
    elif (
        rule.between is not None
        and (units is None or str(units) == rule.units[0])
        and not rule.between[0] <= value <= rule.between[1]
    ):
        low, high = rule.between
        yield Deviation(
            path, f"is {value:g}", f"{low:g} to {high:g} {rule.units[0] if rule.units else ''}: another unit?"
        )


def _of_kind(dtype: np.dtype[Any], kind: Kind) -> bool:
    checks: dict[str, Callable[[str], bool]] = {
        "real": lambda code: code in "biuf",
        "complex": lambda code: code == "c",
        "text": lambda code: code in "OSU",
        "any": lambda code: True,
    }
    return checks[kind](dtype.kind)


def _described(rule: Rule) -> str:
    """What a rule asks for, in words."""
    if rule.kind == "text":
        return "text"
    what = {"real": "real numbers", "complex": "complex numbers", "any": "an array"}[rule.kind]
    if rule.shape == ():
        return "one number"
    if rule.shape is None:
        return what
    return f"{what} ({', '.join('any' if each is None else str(each) for each in rule.shape)})"


def _text(value: Any) -> str:
    item = np.ravel(np.asarray(value))
    first = item[0] if item.size else ""
    return first.decode("utf-8", "replace") if isinstance(first, bytes) else str(first)
