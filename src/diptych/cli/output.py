"""The report of a command and how it is printed: tables, or one JSON object."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from diptych.errors import to_type
from diptych.runtime.run_directory import plain

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


class Verbatim(str):
    """Text that is printed as it is, without wrapping: code and files to copy from the terminal."""


def steps(*found: tuple[str, str]) -> Verbatim:
    """What each command is for, and the command (see :func:`diptych.errors.to_type`)."""
    return Verbatim("\n".join(to_type(purpose, command) for purpose, command in found))


@dataclass(frozen=True)
class Report:
    """The outcome of a command.

    Parameters
    ----------
    data : dict
        Printed with ``--json``.
    text : sequence of rich renderables
        Printed on standard output otherwise.
    code : int
        Exit code.
    note : str
        A line for standard error.
    """

    data: dict[str, Any]
    text: Sequence[RenderableType] = field(default=())
    code: int = 0
    note: str = ""


def printable(text: str) -> str:
    """``text`` with control characters escaped: names and messages may come from a file, and a terminal would execute
    them.
    """
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def show(report: Report, *, as_json: bool) -> None:
    """Print a report: data as one line of JSON, or the text; the note goes to standard error either way."""
    if as_json:
        print(to_json(report.data))
    else:
        from rich.console import Console

        # A pipe has no width; a fixed one gives scripts and diffs the same text everywhere.
        console = Console(file=sys.stdout, highlight=False, markup=False, width=None if sys.stdout.isatty() else 120)
        for part in report.text:
            if isinstance(part, Verbatim):
                print(printable(part))
                continue
            console.print(printable(part) if isinstance(part, str) else part)
    if report.note:
        print(printable(report.note), file=sys.stderr)


def to_json(data: Mapping[str, Any]) -> str:
    """One line of strict JSON; NaN and infinity become null."""
    return json.dumps(plain(data), allow_nan=False)


def table(values: Mapping[str, Any], title: str | None = None) -> Table:
    """Two columns, name and value; nested mappings are indented, and each text of a list has its own line."""
    from rich.table import Table

    result = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
    result.add_column(style="bold", no_wrap=True)
    result.add_column(overflow="fold")
    for name, value in _rows(values):
        result.add_row(name, value)
    return result


def rows_table(rows: Sequence[Mapping[str, Any]], title: str | None = None) -> Table:
    """A table with one column per key of the rows."""
    from rich.table import Table

    result = Table(title=title, title_justify="left", box=None, pad_edge=False)
    keys = list(dict.fromkeys(key for row in rows for key in row))
    for key in keys:
        numeric = all(isinstance(row.get(key), int | float) and not isinstance(row.get(key), bool) for row in rows)
        result.add_column(key.replace("_", " "), justify="right" if numeric else "left")
    for row in rows:
        result.add_row(*(cell(row.get(key)) for key in keys))
    return result


def cell(value: Any) -> str:
    """A value as text for tables."""
    value = plain(value) if not isinstance(value, float) else value
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, list):
        if not value:
            return "none"
        inner = ", ".join(cell(item) for item in value[:8])
        return inner + (f", ... ({len(value)} in all)" if len(value) > 8 else "")
    return printable(str(value))


def _rows(values: Mapping[str, Any], indent: int = 0) -> Iterable[tuple[str, str]]:
    for key, value in values.items():
        name = " " * indent + printable(str(key)).replace("_", " ")
        if isinstance(value, Mapping):
            yield name, "" if value else "none"
            yield from _rows(value, indent + 2)
        elif (
            isinstance(value, Sequence) and any(isinstance(item, str) for item in value) and not isinstance(value, str)
        ):
            yield name, "\n".join(map(cell, value))
        else:
            yield name, cell(value)
