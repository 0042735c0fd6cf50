"""``diptych.convert``: from one format to another, with a list of what the new file does not hold."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.geometry import Geometry
from diptych.ptycho.io import load, save
from diptych.ptycho.io.formats import writer
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.scan import Canvas, Reconstruction, Scan
from diptych.runtime.files import check_output

OF_READING = {"load", "layout", "conversions", "stored_domain"}
"""What a load writes about itself in the metadata of a scan."""


@dataclass(frozen=True)
class Converted:
    """What :func:`convert` did.

    Parameters
    ----------
    path : Path
        The new file.
    format : str
        Its format.
    holds : {"scan", "result"}
        What it holds.
    lost : tuple of str
        One sentence for each field that the new file does not hold, or holds rounded, found by reading it back.
    """

    path: Path
    format: str
    holds: str
    lost: tuple[str, ...]


def convert(
    source: str | Path,
    target: str | Path,
    options: LoadOptions | None = None,
    *,
    format: str | None = None,
    overwrite: bool = False,
    **overrides: Any,
) -> Converted:
    """Read a scan or a result and write it in another format.

    Parameters
    ----------
    source : path
        Any file that :func:`diptych.load` reads.
    target : path
        The file to write; it appears in one step.
    options : LoadOptions, optional
        How a scan is read.
    format : str, optional
        Name of the format; without it the suffix of ``target`` decides.
    overwrite : bool
        Replace an existing file.
    **overrides
        Single load options by name.

    Raises
    ------
    InputError
        If the source cannot be read, no format fits, or the target exists.
    UnavailableError
        If the file system refuses.

    Examples
    --------
    >>> import diptych
    >>> scan = diptych.simulate(object="blocks", size=16, patterns=25, step=2.0, seed=0)
    >>> path = diptych.save(scan, "scan.npz")
    >>> done = diptych.convert("scan.npz", "scan.cxi")
    >>> done.format, "truth: not kept" in done.lost
    ('cxi', True)
    """
    source, target = Path(source), Path(target)
    if target.exists() and source.exists() and source.samefile(target):
        raise InputError(target, "is the file that is read", "another file to write")
    item = load(source, options, **overrides)
    chosen = writer(item, target, format)
    check_output(target, chosen.suffixes or (target.suffix.lower(),), overwrite=overwrite, option="target")
    for other in chosen.beside(target) if chosen.beside is not None else ():
        check_output(other, (other.suffix.lower(),), overwrite=overwrite, option="target")
    save(item, target, chosen.name)
    holds = "scan" if isinstance(item, Scan) else "result"
    return Converted(target, chosen.name, holds, _lost(item, target))


def _lost(item: Scan | Reconstruction, target: Path) -> tuple[str, ...]:
    try:
        again = load(target)
    except InputError as error:
        return (f"the new file alone is not a {'scan' if isinstance(item, Scan) else 'result'} for diptych: {error}",)
    if type(again) is not type(item):
        return ("the new file is read as something else",)
    return tuple(differences(item, again))


def differences(item: Scan | Reconstruction, again: Scan | Reconstruction) -> list[str]:
    """One sentence for each field of ``item`` that ``again`` lacks, or has with other values."""
    said = []
    for each in dataclasses.fields(item):
        old, new = getattr(item, each.name), getattr(again, each.name)
        if found := _difference(old, new):
            said.append(f"{each.name}: {found}")
    return said


def _difference(old: Any, new: Any) -> str:
    """How ``new`` falls short of ``old``; empty where it does not."""
    if old is None or (isinstance(old, dict | tuple | bool) and not old):
        return ""
    if new is None or (isinstance(new, dict | tuple | bool) and not new):
        return "not kept"
    if isinstance(old, Canvas):
        parts = (("", old.values, new.values), ("origin ", np.array(old.origin), np.array(new.origin)))
        return ", ".join(f"{name}{found}" for name, a, b in parts if (found := _of_arrays(a, b)))
    if isinstance(old, Geometry):
        changed = [f.name for f in dataclasses.fields(old) if not _agree(getattr(old, f.name), getattr(new, f.name))]
        return f"{', '.join(changed)} not kept" if changed else ""
    if isinstance(old, np.ndarray):
        return _of_arrays(old, new)
    if isinstance(old, dict):
        missing = sorted(str(key) for key in old.keys() - new.keys() - OF_READING)
        return f"{', '.join(missing)} not kept" if missing else ""
    if isinstance(old, float):
        return "" if _agree(old, new) else f"{old:g} became {new:g}"
    return "" if old == new else f"{old!r} became {new!r}"


def _agree(old: Any, new: Any) -> bool:
    if old is None or isinstance(old, str) or new is None:
        return old is None or bool(old == new)
    return bool(np.allclose(old, new, rtol=1e-9, atol=0))


def _of_arrays(old: NDArray[Any], new: NDArray[Any]) -> str:
    if old.shape != new.shape:
        return f"{' x '.join(map(str, old.shape))} became {' x '.join(map(str, new.shape))}"
    if np.array_equal(old, new):
        return ""
    kind = np.complex128 if np.iscomplexobj(old) or np.iscomplexobj(new) else np.float64
    largest = float(np.max(np.abs(old.astype(kind) - new.astype(kind))))
    scale = float(np.max(np.abs(old))) or 1.0
    return f"rounded, by up to {largest:.1e} (the largest value is {scale:.3g})"
