"""The folder of a study: its manifest and one file per cell, written so that a killed study can be resumed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diptych.errors import InputError
from diptych.ptycho.studies.base import Cell, CellResult
from diptych.runtime.files import write_text
from diptych.runtime.run_directory import plain

MANIFEST = "manifest.json"
CELLS = "cells"
TABLES = "tables"
FORMAT = 1

FIGURES = "figures"
VERIFICATION = "verification.json"
INVENTORY = "inventory.txt"

_FILES = (MANIFEST, "results.csv", "results.json", "summary.md", "figure.png", VERIFICATION, INVENTORY)
_IDENTITY = ("study", "version", "options")


@dataclass(frozen=True)
class StudyFolder:
    """The folder of one study.

    Parameters
    ----------
    path : Path
        The folder; it need not exist yet.
    identity : dict
        ``study``, ``version`` and ``options`` as JSON values: cells are only reused where all three agree.
    """

    path: Path
    identity: Mapping[str, Any]

    def check(self, *, clobber: bool) -> None:
        """Make sure that the study may write here. Changes nothing.

        Raises
        ------
        InputError
            If the folder holds another study, or this one with other options or of another version, and ``clobber`` is
            False; or if it holds files but no study.
        """
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise InputError(self.path, "is a file", "a folder", "Name another folder.")
        # A hidden file may be what a killed run left of a file it was writing.
        if all(entry.name.startswith(".") for entry in self.path.iterdir()):
            return
        if not (self.path / MANIFEST).exists():
            raise InputError(
                self.path,
                f"holds files, but no {MANIFEST} of a study",
                "an empty folder, or that of a study",
                "Name another folder.",
            )
        differences = [] if clobber else self._differences(self._manifest())
        if differences:
            raise InputError(
                self.path,
                f"holds results of another study: {'; '.join(differences)}",
                "the same study, options and version",
                "Name another folder, or pass clobber=True (--clobber) to delete those results.",
            )

    def open(self, *, clobber: bool) -> None:
        """Create the folder; with ``clobber``, delete what an earlier study wrote into it."""
        self.check(clobber=clobber)
        if clobber and (self.path / MANIFEST).exists():
            self._clear()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                self.path, f"cannot be used as a folder ({error.strerror})", "", "Name another one."
            ) from None

    def write_manifest(
        self, status: str, cells: Sequence[Cell], results: Mapping[str, CellResult], **facts: Any
    ) -> None:
        """Write ``manifest.json``: study, version, options, status, and each cell with its parameters and status."""
        listed = {cell.key: {"status": _status(results.get(cell.key)), "parameters": cell.parameters} for cell in cells}
        record = {"format": FORMAT, **self.identity, "status": status, **facts, "cells": listed}
        _write(self.path / MANIFEST, record)

    def write_result(self, cell: Cell, result: CellResult) -> None:
        """Write the file of one cell."""
        record = {
            "key": cell.key,
            "status": _status(result),
            "parameters": cell.parameters,
            "values": result.values,
            "seconds": result.seconds,
            "error": result.error,
            "traceback": result.traceback,
        }
        (self.path / CELLS).mkdir(parents=True, exist_ok=True)
        _write(self._file(cell.key), record)

    def results(self, cells: Sequence[Cell]) -> dict[str, CellResult]:
        """Results of those cells that are done already. Failed and unreadable ones are left out, so that they run
        again.
        """
        found = {}
        for cell in cells:
            try:
                record = json.loads(self._file(cell.key).read_text(encoding="utf-8"))
                same = record["status"] == "done" and record["parameters"] == plain(cell.parameters)
                result = CellResult(cell.key, dict(record["values"]), float(record["seconds"]))
            except (OSError, ValueError, KeyError, TypeError):
                continue
            if same:
                found[cell.key] = result
        return found

    def cell_folder(self, key: str) -> Path:
        """Where a cell may keep files."""
        return self.path / CELLS / key

    def _file(self, key: str) -> Path:
        return self.path / CELLS / f"{key}.json"

    def _manifest(self) -> dict[str, Any]:
        try:
            record = json.loads((self.path / MANIFEST).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            record = None
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise InputError(
                self.path / MANIFEST,
                "cannot be read as the manifest of a study",
                f"JSON with format {FORMAT}",
                "Name another folder, or pass clobber=True (--clobber) to delete those results.",
            )
        return record

    def _differences(self, found: Mapping[str, Any]) -> list[str]:
        """What differs between the manifest and this study, one sentence part each."""
        out = []
        for name in _IDENTITY:
            there, wanted = found.get(name), plain(self.identity[name])
            if name == "options" and isinstance(there, dict):
                keys = dict.fromkeys([*there, *wanted])
                out += [
                    f"{key} = {there.get(key)} there, {wanted.get(key)} here"
                    for key in keys
                    if there.get(key) != wanted.get(key)
                ]
            elif there != wanted:
                out.append(f"{name} {there} there, {wanted} here")
        return out

    def _clear(self) -> None:
        for folder in (CELLS, TABLES, FIGURES):
            if (self.path / folder).is_dir() and not (self.path / folder).is_symlink():
                shutil.rmtree(self.path / folder)
        # The manifest goes last: as long as it is there, the folder is known as that of a study.
        for name in reversed(_FILES):
            (self.path / name).unlink(missing_ok=True)


def _status(result: CellResult | None) -> str:
    return "pending" if result is None else "failed" if result.error is not None else "done"


def _write(path: Path, record: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(plain(record), indent=2, allow_nan=False) + "\n")
