"""What a file holds, for a person: every dataset with shape, type, unit, where it leads, and why it cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from diptych.errors import DiptychError
from diptych.ptycho.io.source import TreeSource

MOST_LINES = 5000


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
