"""What a file holds, for a person: every dataset with shape, type, unit, where it leads, and why it cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from diptych.errors import DiptychError, to_type
from diptych.ptycho.io.fields import PROBE_KEYS
from diptych.ptycho.io.files import DataFile
from diptych.ptycho.io.source import Header, TreeSource

MOST_LINES = 5000

_SMALLEST = 16
"""Side in pixels of what may be an image of a detector."""


def tree_lines(source: TreeSource | None) -> list[dict[str, Any]]:
    """One line for each dataset: ``name``, ``shape``, ``dtype`` (with where a link leads, or why it is not followed),
    ``units`` where they are stated, ``problem`` where the values cannot be read.
    """
    lines: list[dict[str, Any]] = []
    for path, header in source.walk() if source is not None else ():
        if len(lines) == MOST_LINES:
            lines.append(
                {"name": "...", "shape": [], "dtype": f"more than {MOST_LINES} datasets, the rest is not listed"}
            )
            break
        if isinstance(header, str):
            line = {"name": path, "shape": [], "dtype": header, "problem": header}
        else:
            line = array_line(path, header.shape, header.dtype)
        lines.append(_with_details(line, source) if source is not None else line)
    return lines


def single_array(file: DataFile) -> dict[str, Any] | None:
    """``kind``, ``array`` and ``notes`` of a file that holds a probe, or one image (a mask, a dark frame), and no more.

    Numbers beside it do not count; None for every other file.
    """
    if file.source is None:
        return None
    found: list[tuple[str, Header]] = []
    for path, header in file.source.walk():
        if isinstance(header, str):
            return None
        if header.dtype.kind in "buifc" and sum(side > 1 for side in header.shape) >= 2:
            found.append((path, header))
    probes = [path for path, _ in found if path.rpartition("/")[2] in PROBE_KEYS]
    if len(probes) == 1:
        note = "Use it as the initial probe of a scan: --probe FILE."
        return {"kind": "probe", "problem": None, "array": probes[0], "notes": [note]}
    sides = sorted(found[0][1].shape)[-2:] if len(found) == 1 else [0]
    if min(sides) >= _SMALLEST and found[0][1].dtype.kind in "buif" and np.prod(found[0][1].shape) == np.prod(sides):
        purpose = "To use it as a mask of a scan (--dark: as a dark frame, --flat: as a flat field)"
        note = to_type(purpose, "diptych prepare SCAN OUT --mask-file FILE")
        return {"kind": "image", "problem": None, "array": found[0][0], "notes": [note]}
    return None


def array_line(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> dict[str, Any]:
    """The line of an array."""
    kind = "Python objects (pickled; never read)" if dtype.hasobject and dtype.metadata is None else str(dtype)
    return {"name": name, "shape": list(shape), "dtype": "text" if dtype.metadata is not None else kind}


def _with_details(line: dict[str, Any], source: TreeSource) -> dict[str, Any]:
    name = line["name"]
    if (target := getattr(source, "target", None)) is not None and (leads := target(name)) not in line["dtype"]:
        line["dtype"] = f"{line['dtype']} ({leads})"
    if "problem" in line:
        return line
    units = source.attributes(name).get("units")
    if isinstance(units, str) and units.strip():
        line["units"] = units.strip()[:40]
    if (verify := getattr(source, "verify", None)) is not None:
        try:
            verify(name)
        except DiptychError as error:
            line["problem"] = getattr(error, "found", "") or str(error)
    return line


def tree_text(lines: Sequence[dict[str, Any]]) -> str:
    """The lines as an indented tree."""
    text: list[str] = []
    before: list[str] = []
    for line in lines:
        *folders, name = str(line["name"]).split("/")
        common = 0
        while common < min(len(folders), len(before)) and folders[common] == before[common]:
            common += 1
        text += [f"{'  ' * depth}{folder}/" for depth, folder in enumerate(folders) if depth >= common]
        before = folders
        shape = " x ".join(map(str, line["shape"])) or "scalar"
        what = line["dtype"] if line.get("problem") == line["dtype"] or name == "..." else f"{shape}  {line['dtype']}"
        units = f"  [{line['units']}]" if "units" in line else ""
        problem = line.get("problem", "")
        missing = f"  ! {problem}" if problem and not what.startswith(problem) else ""
        text.append(
            f"{'  ' * len(folders)}{'! ' if what.startswith(problem or '-') else ''}{name}  {what}{units}{missing}"
        )
    return "\n".join(text)
