"""SPEC data files (certif.com/spec_manual): the columns of every scan, as ``<scan number>/<column>``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io.source.columns import ColumnsSource

LARGEST_BYTES = 2**30
_COMMANDS = ("#F ", "#S ", "#E ", "#D ", "#C ")


def is_spec(head: bytes) -> bool:
    """Whether a file begins as SPEC's do."""
    return any(head.startswith(command.encode()) for command in _COMMANDS[:2])


def open_spec(path: Path) -> ColumnsSource:
    """The columns of all scans in a SPEC file. Scans that were written twice get a number: ``12.2/samx``.

    Raises
    ------
    InputError
        If it is not text, or holds no scan with columns.
    """
    if path.stat().st_size > LARGEST_BYTES:
        raise InputError(path, f"has {path.stat().st_size / 1e9:.1f} GB", "a SPEC file")
    columns: dict[str, NDArray[Any]] = {}
    attributes: dict[str, dict[str, str]] = {}
    for name, command, labels, rows in _scans(path.read_text(encoding="utf-8", errors="replace").splitlines()):
        complete = [row for row in rows if len(row) == len(labels)]
        table = np.asarray(complete, np.float64).reshape(len(complete), len(labels))
        for number, label in enumerate(labels):
            key = f"{name}/{label}"
            columns[key] = table[:, number]
            attributes[key] = {"description": command}
    if not columns:
        raise InputError(path, "is a SPEC file without a scan that has columns (#S, #L)", "scans with motor positions")
    return ColumnsSource(columns, attributes, str(path))


def _scans(lines: list[str]) -> list[tuple[str, str, list[str], list[list[float]]]]:
    """Name, command, labels and rows of every scan. Spectra (@A ...) are passed over."""
    scans: list[tuple[str, str, list[str], list[list[float]]]] = []
    seen: dict[str, int] = {}
    spectrum = False
    for line in lines:
        if line.startswith("#S"):
            found = re.match(r"#S\s+(\S+)\s*(.*)", line)
            number = found[1].replace("/", "_") if found else str(len(scans))
            seen[number] = seen.get(number, 0) + 1
            name = number if seen[number] == 1 else f"{number}.{seen[number]}"
            scans.append((name, found[2] if found else "", [], []))
        elif line.startswith("#L") and scans:
            labels = [label.strip() for label in re.split(r"\s{2,}|\t", line[2:].strip()) if label.strip()]
            scans[-1][2][:] = list(dict.fromkeys(label.replace("/", "_") for label in labels))
        elif spectrum or line.startswith("@"):
            spectrum = line.rstrip().endswith("\\")
        elif scans and scans[-1][2] and line.strip() and not line.startswith("#"):
            row = _row(line)
            if row is not None:
                scans[-1][3].append(row)
    return [scan for scan in scans if scan[2]]


def _row(line: str) -> list[float] | None:
    try:
        return [float(cell) for cell in line.split()]
    except ValueError:
        return None
