"""The result of a study: its tables, the files they are written to, and the summary."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Literal

from diptych.ptycho.studies.base import Cell, CellResult, Check
from diptych.runtime.files import write_text
from diptych.runtime.run_directory import plain

Row = Mapping[str, Any]

NO_EVIDENCE = "Quick run: it shows that the study works; its numbers are no evidence."
Status = Literal["planned", "done", "interrupted", "failed"]


@dataclass(frozen=True)
class Table:
    """A named table.

    Parameters
    ----------
    name : str
        Name of its file: letters, digits and hyphens.
    title : str
        One sentence that says what the rows and columns are.
    rows : sequence of mapping
        Column name to JSON value; None where a value is undefined.
    units : mapping of str to str, optional
        Units of the columns that have one.
    """

    name: str
    title: str
    rows: Sequence[Row]
    units: Mapping[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """All column names, in order of first appearance."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def to_csv(self, path: Path) -> Path:
        """Write the rows; undefined values are empty."""
        stream = io.StringIO(newline="")
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(self.columns)
        for row in self.rows:
            values = plain(row)
            writer.writerow(["" if values.get(name) is None else values[name] for name in self.columns])
        write_text(path, stream.getvalue())
        return path

    def to_json(self, path: Path) -> Path:
        """Write title, units and rows as strict JSON; undefined values are null."""
        document = {"title": self.title, "units": dict(self.units), "rows": plain(self.rows)}
        write_text(path, json.dumps(document, indent=2, allow_nan=False) + "\n")
        return path

    def to_markdown(self) -> str:
        """The table as Markdown text: SSIM with 3 decimals, MAE with 6, other numbers with four digits.

        Standard deviations that are undefined in every row are left out.
        """
        columns = [
            name
            for name in self.columns
            if not name.endswith("_sd") or any(row.get(name) is not None for row in self.rows)
        ]
        heads = [f"{name} ({self.units[name]})" if name in self.units else name for name in columns]
        lines = ["| " + " | ".join(heads) + " |", "|" + "|".join(" --- " for _ in heads) + "|"]
        lines += ["| " + " | ".join(shown(row.get(name), name) for name in columns) + " |" for row in self.rows]
        return "\n".join(lines)


@dataclass(frozen=True)
class StudyRun:
    """What :func:`run_study` did, or with ``dry_run`` would do.

    Parameters
    ----------
    study : str
        Name of the study.
    folder : Path
        Its folder.
    status : str
        ``planned`` (dry run), ``done``, ``interrupted`` (cancelled), or ``failed`` (done, and no cell succeeded).
    cells : tuple of Cell
        All cells.
    results : dict of str to CellResult
        By key; those of earlier runs included.
    tables : tuple of Table
        The cells' rows (``results``), then the tables of the study.
    hours : float
        Predicted time of the cells that are still to run, one after the other.
    memory_bytes : int
        Predicted peak memory of the largest cell.
    checks : tuple of Check
        The verification; empty for a dry run.
    figure_errors : dict of str to str
        Figures that could not be drawn, and why.
    quick : bool
        Whether this is a quick run, which is no evidence.
    """

    study: str
    folder: Path
    status: Status
    cells: tuple[Cell, ...]
    results: dict[str, CellResult] = field(default_factory=dict)
    tables: tuple[Table, ...] = ()
    hours: float = 0.0
    memory_bytes: int = 0
    checks: tuple[Check, ...] = ()
    figure_errors: Mapping[str, str] = field(default_factory=dict)
    quick: bool = False

    @property
    def errors(self) -> dict[str, str]:
        """Why cells failed, by key."""
        return {key: result.error for key, result in self.results.items() if result.error is not None}

    @property
    def done(self) -> int:
        """Cells that have a result."""
        return sum(result.error is None for result in self.results.values())

    @property
    def verified(self) -> bool:
        """Whether every check of the verification held."""
        return all(check.held for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """JSON values: counts, estimates, errors and the rows of every table."""
        record: dict[str, Any] = plain(
            {
                "study": self.study,
                "folder": self.folder,
                "status": self.status,
                "cells": len(self.cells),
                "done": self.done,
                "failed": self.errors,
                "hours": self.hours,
                "memory_bytes": self.memory_bytes,
                "evidence": not self.quick,
                "verified": self.verified if self.checks else None,
                "not_held": [f"{check.name} ({check.found})" for check in self.checks if not check.held],
                "figures_failed": dict(self.figure_errors),
                "tables": {table.name: table.rows for table in self.tables},
            }
        )
        return record

    def __str__(self) -> str:
        lines = [f"{self.study}: {self.status}, {self.done} of {len(self.cells)} cells done, {len(self.errors)} failed"]
        if self.status in ("planned", "interrupted"):
            lines.append(f"still to run: about {self.hours:.3g} h on one core, {self.memory_bytes / 2**30:.2g} GiB")
        if self.checks:
            held = sum(check.held for check in self.checks)
            lines.append(f"verification: {held} of {len(self.checks)} checks held")
            lines += [f"  did not hold: {check.name} ({check.found})" for check in self.checks if not check.held]
        lines += [f"figure {name} could not be drawn: {why}" for name, why in self.figure_errors.items()]
        if self.quick:
            lines.append(NO_EVIDENCE)
        if len(self.tables) > 1:
            lines += ["", self.tables[1].to_markdown()]
        return "\n".join(lines)


def mean_and_deviation(rows: Sequence[Row], by: Sequence[str], values: Sequence[str]) -> list[dict[str, Any]]:
    """Group rows and average over the rest, for instance over seeds.

    Parameters
    ----------
    rows : sequence of mapping
        Rows that have the columns ``by`` and ``values``.
    by : sequence of str
        Columns that define a group; groups keep the order of their first rows.
    values : sequence of str
        Columns to average.

    Returns
    -------
    list of dict
        One row per group: the columns ``by``, ``n`` (rows), and for each value its mean and, as ``<name>_sd``, its
        sample standard deviation. A value that is undefined in any row of the group is None: the mean of the others
        would be biased. The deviation of a single row is None.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in by), []).append(row)
    out = []
    for key, members in groups.items():
        line: dict[str, Any] = {**dict(zip(by, key, strict=True)), "n": len(members)}
        for name in values:
            numbers = [_number(row.get(name)) for row in members]
            known = [number for number in numbers if number is not None]
            complete = len(known) == len(numbers)
            line[name] = mean(known) if complete else None
            line[f"{name}_sd"] = stdev(known) if complete and len(known) > 1 else None
        out.append(line)
    return out


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def shown(value: Any, column: str = "") -> str:
    """A value as text for a table: SSIM has 3 decimals, MAE 6, other numbers four digits."""
    value = plain(value)
    if value is None:
        return "-"
    if isinstance(value, float):
        name = column.lower()
        return f"{value:.3f}" if "ssim" in name else f"{value:.6f}" if "mae" in name else f"{value:.4g}"
    return str(value).replace("|", "\\|")
