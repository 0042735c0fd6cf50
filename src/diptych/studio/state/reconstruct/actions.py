"""What can be done with the file of a scan: prepare a new one, convert it, check it against a standard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.errors import InputError
from diptych.ptycho.prepare.preparation_options import PrepareOptions
from diptych.studio.state.confine import confined_load, confined_options

if TYPE_CHECKING:
    from diptych.ptycho.io.exchange.standards import StandardName
    from diptych.studio.context import Studio
    from diptych.studio.state.reconstruct.look import Look

TITLES: dict[StandardName, str] = {"nxptycho": "NXptycho", "cxi": "CXI", "product": "Product of ptychodus"}
"""Standards that a file can be checked against, and how they are called."""


def formats() -> tuple[str, ...]:
    """Suffixes of the files that a scan can be written to."""
    from diptych.ptycho.io.formats import suffixes

    return tuple(dict.fromkeys(suffixes("scan")))


def new_file(studio: Studio, near: Path, given: str) -> Path:
    """The path of a file that does not exist, from what a person typed; a name alone lies beside ``near``.

    Raises
    ------
    InputError
        If it lies outside the data folders, exists, or has no suffix of a scan.
    """
    text = given.strip()
    target = studio.folders.resolve(near.parent / text if "/" not in text else text)
    if not text or not target.name.lower().endswith(formats()):
        raise InputError("new file", f"found {text!r}", f"a name that ends with one of {', '.join(formats())}")
    if target.exists():
        raise InputError(target.name, "exists already", "a name that is not taken")
    if not target.parent.is_dir():
        raise InputError(target.name, "its folder does not exist", "a folder in the data folders")
    return target


def prepare(studio: Studio, look: Look, values: Mapping[str, Any], given: str) -> tuple[Path, list[str]]:
    """Write the open scan, prepared, to a new file; return it, and a sentence for each step. Slow.

    Raises
    ------
    InputError, UnavailableError
        If an option, the name, or the disk refuses.
    """
    from diptych.ptycho.io import save
    from diptych.ptycho.prepare.preparation import prepare as prepare_scan

    target = new_file(studio, look.path, given)
    scan = prepare_scan(look.scan, preparation(studio, values))
    return save(scan, target), list(scan.metadata["preparation"]["steps"])


def preparation(studio: Studio, values: Mapping[str, Any]) -> PrepareOptions:
    """Options of a preparation; the files that they name lie in the data folders.

    Raises
    ------
    InputError
        If an option is wrong, or a file lies outside.
    """
    from diptych.ptycho.prepare.preparation_options import preparation_of

    return (
        preparation_of(confined_options(studio.folders, {"prepare": dict(values)})["prepare"])
        if values
        else (PrepareOptions())
    )


def convert(studio: Studio, look: Look, load: Mapping[str, Any], given: str) -> tuple[Path, list[str]]:
    """Write the open scan in the format that the suffix of a new file names. Slow.

    Returns the file, and a sentence for each field that it does not hold.

    Raises
    ------
    InputError, UnavailableError
        If the format cannot hold the scan, or the name or the disk refuses.
    """
    from diptych.ptycho.io import LoadOptions
    from diptych.ptycho.io.exchange.transfer import convert as convert_file

    target = new_file(studio, look.path, given)
    reading = LoadOptions.build(confined_load(studio.folders, load), origin="how the scan is read")
    done = convert_file(look.path, target, reading)
    return done.path, list(done.lost)


def validate(look: Look, standard: StandardName) -> tuple[str, list[str]]:
    """Whether the file of the open scan conforms to a standard: a sentence, and each deviation. Slow.

    Raises
    ------
    InputError
        If the file cannot be checked, for instance because it is no HDF5 file.
    """
    from diptych.ptycho.io.exchange.conformance import validate as validate_file

    found = validate_file(look.path, standard)
    name, title = look.path.name, TITLES[standard]
    if found.conforms:
        return f"{name} conforms to {title}: {found.checked} rules checked.", []
    lines = [f"{each}. {each.remedy}".strip() for each in found.deviations]
    return f"{name} deviates from {title} in {len(lines)} places ({found.checked} rules checked).", lines
