"""``diptych.validate``: does a file conform to a standard, and where not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diptych.errors import InputError
from diptych.ptycho.io.exchange.content import CONTENTS, of_content
from diptych.ptycho.io.exchange.standards import (
    CXI_RESULTS,
    DEFINITIONS,
    STANDARDS,
    Attribute,
    Deviation,
    Kind,
    Rule,
    StandardName,
)
from diptych.ptycho.io.files import opened
from diptych.ptycho.io.physical import ELEMENTARY_CHARGE_C
from diptych.ptycho.io.source import Header, TreeSource


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


def validate(path: str | Path, standard: StandardName) -> Conformance:
    """Check whether a file conforms to a standard.

    Checked are names, types, shapes and units, and whether the contents can be a scan or a result: finite and distinct
    positions that overlap, counts of 0 or more, a mask of the patterns' shape, plausible energy, distance and pixels,
    a probe on the grid of the patterns, windows inside the object.

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
    path, described = Path(path), STANDARDS[standard]
    with opened(path) as file:
        if file.kind != "hdf5":
            raise InputError(path, f"is of the kind {file.kind}", f"an HDF5 file, as {standard} demands")
        source = file.arrays
        headers = {name: found for name, found in source.walk() if isinstance(found, Header)}
        if standard == "cxi" and CXI_RESULTS.object[0] in headers and not set(described.patterns) & headers.keys():
            described = CXI_RESULTS
        lengths: dict[str, tuple[int, str]] = {}
        found = [each for rule in described.rules for each in _of_rule(source, headers, rule, lengths)]
        found += [each for wanted in described.attributes for each in _of_attribute(source.attributes(), wanted)]
        if standard == "nxptycho" and "entry_1/definition" in headers:
            found += _of_definition(source)
        found += of_content(source, headers, described)
        return Conformance(standard, tuple(found), len(described.rules) + len(described.attributes) + CONTENTS)


def _of_attribute(stated: Mapping[str, Any], wanted: Attribute) -> Iterator[Deviation]:
    """How an attribute of the file deviates."""
    names = [name for name in wanted.name.split("|") if name in stated]
    if not names:
        yield _absent_attribute("/", wanted.name)
        return
    if wanted.between is None:
        return
    (low, high), where = wanted.between, f"/@{names[0]}"
    expected = f"{low:g} to {high:g} {wanted.unit}"
    try:
        value = float(np.ravel(np.asarray(stated[names[0]]))[0])
    except (TypeError, ValueError, IndexError):
        yield Deviation(where, f"is {str(stated[names[0]])[:60]!r}", f"one number, {expected}", "store a number")
        return
    if not (np.isfinite(value) and low <= value <= high):
        remedy = _converted(value, wanted.unit, wanted.between) or "store the measured value"
        yield Deviation(where, f"is {value:g}", f"{expected}: another unit?", remedy)


def _of_definition(source: TreeSource) -> Iterator[Deviation]:
    stated = _text(source.read("entry_1/definition"))
    if stated not in DEFINITIONS:
        remedy = f"store {DEFINITIONS[0]!r}"
        yield Deviation("entry_1/definition", f"is {stated!r}", " or ".join(DEFINITIONS), remedy)


def _of_rule(
    source: TreeSource, headers: dict[str, Header], rule: Rule, lengths: dict[str, tuple[int, str]]
) -> Iterator[Deviation]:
    """How the file deviates from one rule; ``lengths`` are the named lengths seen so far and where."""
    path = next((name for name in rule.path.split("|") if name in headers), None)
    if path is None:
        if rule.required:
            where = rule.path.replace("|", " or ")
            yield Deviation(where, "is absent", _described(rule), f"add {where}, or a link to where it lies")
        return
    header = headers[path]
    if not _of_kind(header.dtype, rule.kind):
        yield Deviation(path, f"has type {header.dtype}", _described(rule), f"store {_described(rule)}")
        return
    if rule.shape is not None:
        if len(rule.shape) != len(header.shape) and not (rule.shape == () and header.shape == (1,)):
            yield Deviation(path, f"has shape {header.shape}", _described(rule), f"store {_described(rule)}")
            return
        for named, length in zip(rule.shape, header.shape, strict=False):
            known, where = lengths.setdefault(named, (length, path)) if isinstance(named, str) else (named, "")
            if known is not None and known != length:
                expected = f"{known} in place of {length}" + f", as {where}" * bool(where)
                remedy = f"give {path} and {where} equal lengths" if where else f"store {_described(rule)}"
                yield Deviation(path, f"has shape {header.shape}", expected, remedy)
                break
    yield from _of_values(source, path, header, rule)


def _of_values(source: TreeSource, path: str, header: Header, rule: Rule) -> Iterator[Deviation]:
    attributes = source.attributes(path)
    for name in rule.attributes:
        if name not in attributes:
            yield _absent_attribute(f"{path}/", name)
    units = attributes.get("units")
    if rule.units and units is not None and str(units) not in rule.units:
        remedy = f"convert the values to {rule.units[0]}, and set units to {rule.units[0]!r}"
        yield Deviation(path, f"units are {str(units)!r}", rule.units[0], remedy)
    if not (rule.positive and int(np.prod(header.shape)) == 1):
        return
    try:
        value = float(np.ravel(source.read(path))[0])
    except InputError as error:
        yield Deviation(path, error.found, "one number", "store the measured value")
        return
    if not (np.isfinite(value) and value > 0):
        yield Deviation(path, f"is {value:g}", "a finite positive number", "store the measured value")
        return
    unit = rule.units[0] if rule.units else ""
    stated = unit if units is None else str(units)
    of_stated, of_unit = _factor(stated), _factor(unit)
    scale = of_stated / of_unit if of_stated and of_unit else 1.0 if stated == unit else None
    if rule.between is None or scale is None or rule.between[0] <= value * scale <= rule.between[1]:
        return
    low, high = rule.between
    remedy = _converted(value, unit, rule.between) if stated == unit else ""
    remedy = remedy or (f"convert the value to {unit}" if unit else "store the right number")
    found = f"is {value:g}" + f" {stated}" * (stated != unit)
    yield Deviation(path, found, f"{low:g} to {high:g} {unit}: another unit?".replace(" : ", ": "), remedy)


_FACTORS = {
    "J": 1.0,
    "joule": 1.0,
    "eV": ELEMENTARY_CHARGE_C,
    "keV": 1e3 * ELEMENTARY_CHARGE_C,
    "MeV": 1e6 * ELEMENTARY_CHARGE_C,
}
_LENGTHS = {**dict.fromkeys(("m", "metre", "meter", "metres", "meters"), 1.0), "mm": 1e-3, "um": 1e-6, "nm": 1e-9}


def _factor(unit: str) -> float | None:
    """SI units in one of ``unit``; None for others."""
    return _FACTORS.get(unit, _LENGTHS.get(unit))


def _converted(value: float, unit: str, between: tuple[float, float]) -> str:
    """What to store where a number is plausible in another unit; empty where it is in none, or in several."""
    kind = _FACTORS if unit in _FACTORS else _LENGTHS if unit in _LENGTHS else {}
    fitting = {}
    for other in ("J", "eV", "keV") if kind is _FACTORS else ("m", "mm", "um", "nm"):
        if kind and other != unit and between[0] <= (new := value * kind[other] / kind[unit]) <= between[1]:
            fitting[other] = new
    readings = [f"if it is in {other}, store {new:.6g}" for other, new in fitting.items()]
    return f"{' or, '.join(readings)} ({unit})" if readings else ""


def _absent_attribute(prefix: str, name: str) -> Deviation:
    where = prefix + "@" + name.replace("|", " or @")
    return Deviation(where, "is absent", "an attribute", f"set the attribute {name.replace('|', ' or ')}")


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
