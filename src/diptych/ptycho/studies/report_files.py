"""The files of a report: tables, figures, summary, verification and inventory, for every study alike."""

from __future__ import annotations

import csv
import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.ptycho.studies.base import Check, Study, StudyOptions
from diptych.ptycho.studies.folder import CELLS, FIGURES, INVENTORY, TABLES, VERIFICATION, StudyFolder
from diptych.ptycho.studies.report import NO_EVIDENCE, Row, StudyRun, Table
from diptych.runtime.files import write_text
from diptych.runtime.run_directory import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger("diptych")


def write_report(study: Study, options: StudyOptions, home: StudyFolder, run: StudyRun) -> StudyRun:
    """Write tables, figures, ``summary.md``, ``verification.json`` and ``inventory.txt`` of the cells done so far.

    A figure that cannot be drawn is reported; it never fails a run whose cells have their numbers.

    Returns
    -------
    StudyRun
        With ``checks`` and ``figure_errors``.
    """
    if run.tables:
        _write_tables(run)
        run = replace(run, figure_errors=_draw(study, options, home, run))
    run = replace(run, checks=tuple(_checks(study, options, run)))
    record = {
        "study": run.study,
        "evidence": not run.quick,
        "all_valid": run.verified,
        "n_valid": sum(check.held for check in run.checks),
        "n_checks": len(run.checks),
        "checks": [{"name": each.name, "held": each.held, "found": each.found} for each in run.checks],
        "figures_failed": dict(run.figure_errors),
    }
    write_text(run.folder / VERIFICATION, json.dumps(plain(record), indent=2, allow_nan=False) + "\n")
    write_text(run.folder / "summary.md", summary(study, options, run))
    write_text(run.folder / INVENTORY, "\n".join(inventory(run.folder)) + "\n")
    return run


def inventory(folder: Path) -> list[str]:
    """Relative POSIX paths of all files of a study, sorted; hidden files are left out."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    names = {path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts)}
    return sorted(names | {INVENTORY})


def summary(study: Study, options: StudyOptions, run: StudyRun) -> str:
    """``summary.md``: facts, every table, the verification, failed cells and figures."""
    chosen = {name: value for name, value in options.model_dump(mode="json").items() if value is not None}
    held = sum(check.held for check in run.checks)
    lines = [f"# {study.name}: {study.help}", ""]
    if run.quick:
        lines += [f"**{NO_EVIDENCE}**", ""]
    lines += [
        f"* status: {run.status}",
        f"* cells: {run.done} of {len(run.cells)} done, {len(run.errors)} failed",
        f"* options: {', '.join(f'{name} = {value}' for name, value in chosen.items())}",
        f"* verification: {held} of {len(run.checks)} checks held",
    ]
    for table in run.tables[1:]:
        lines += ["", f"## {table.title}", "", table.to_markdown()]
    lines += ["", "## Verification", ""]
    lines += [f"* {'held' if each.held else 'DID NOT HOLD'}: {each.name} ({each.found})" for each in run.checks]
    if run.errors:
        lines += ["", f"## Failed cells ({len(run.errors)})", ""]
        lines += [f"* `{key}`: {' '.join(why.split())}" for key, why in run.errors.items()]
    if run.figure_errors:
        lines += ["", "## Figures that could not be drawn", ""]
        lines += [f"* `{name}`: {why}" for name, why in run.figure_errors.items()]
    return "\n".join(lines) + "\n"


def finite(rows: Sequence[Row], columns: Sequence[str]) -> Check:
    """The check that columns hold numbers in every row, or that ``undefined`` of the row names them with a reason."""
    wrong = [
        f"{name} in row {number}"
        for number, row in enumerate(rows)
        for name in columns
        if not (isinstance(row.get(name), int | float) and math.isfinite(row[name]))
        and f"{name}: " not in str(row.get("undefined"))
    ]
    found = ", ".join(wrong[:3]) + (", ..." if len(wrong) > 3 else "") or f"{len(rows)} rows"
    return Check(f"{', '.join(columns)} are numbers in every row, or undefined for a stated reason", not wrong, found)


def deltas(
    rows: Sequence[Row], by: Sequence[str], references: Sequence[str], values: Sequence[str]
) -> list[dict[str, Any]]:
    """Each method minus each reference method, in rows that agree in the columns ``by``.

    Parameters
    ----------
    rows : sequence of mapping
        With the columns ``by``, ``method`` and ``values``; one row for each method and case.
    by : sequence of str
        Columns that define a case.
    references : sequence of str
        Methods that are subtracted; the others are compared with them.
    values : sequence of str
        Columns to subtract. A value that is undefined in either row is None.
    """
    cases: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in rows:
        cases.setdefault(tuple(row[name] for name in by), {})[str(row["method"])] = row
    out = []
    for case, methods in cases.items():
        for reference in references:
            for name, row in methods.items():
                if reference not in methods or name in references:
                    continue
                other = methods[reference]
                line: dict[str, Any] = {**dict(zip(by, case, strict=True)), "method": name, "minus": reference}
                for value in values:
                    pair = (row.get(value), other.get(value))
                    line[value] = None if None in pair else float(pair[0]) - float(pair[1])  # type: ignore[arg-type]
                out.append(line)
    return out


def ssim_grid(rows: Sequence[Row], by: Sequence[str], columns: Sequence[str]) -> list[dict[str, Any]]:
    """One row per case and one column per method and SSIM column, for instance ``Baseline amplitude_ssim``."""
    cases: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = tuple(row[name] for name in by)
        line = cases.setdefault(key, dict(zip(by, key, strict=True)))
        line.update({f"{row['method']} {name.removesuffix('_ptychopinn')}": row.get(name) for name in columns})
    return list(cases.values())


def _write_tables(run: StudyRun) -> None:
    run.tables[0].to_csv(run.folder / "results.csv")
    run.tables[0].to_json(run.folder / "results.json")
    (run.folder / TABLES).mkdir(exist_ok=True)
    for table in run.tables[1:]:
        table.to_csv(run.folder / TABLES / f"{table.name}.csv")
        table.to_json(run.folder / TABLES / f"{table.name}.json")


def _draw(study: Study, options: StudyOptions, home: StudyFolder, run: StudyRun) -> dict[str, str]:
    """Draw every figure; return what failed, and why."""
    folders = {id(row): home.cell_folder(key) for row, key in zip(run.tables[0].rows, _done(run), strict=True)}
    wanted: dict[Path, Callable[[], Figure]] = {}
    failed: dict[str, str] = {}
    plot = study.plot
    if plot is not None:
        wanted[run.folder / "figure.png"] = lambda: plot(run.tables[1:], options)
    if study.figures is not None:
        try:
            more = study.figures(run.tables[0].rows, options, lambda row: folders[id(row)])
            wanted |= {run.folder / FIGURES / f"{name}.png": draw for name, draw in more.items()}
        except Exception as error:
            failed[FIGURES] = _why(error)
    for path, draw in wanted.items():
        try:
            from diptych.ptycho.figures.panels import save_figure

            save_figure(draw(), path)
        except Exception as error:
            failed[path.relative_to(run.folder).as_posix()] = _why(error)
    return failed


def _why(error: Exception) -> str:
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    log.warning("a figure could not be drawn: %s", text, exc_info=error)
    return text


def _done(run: StudyRun) -> list[str]:
    return [key for key, result in run.results.items() if result.error is None]


def _checks(study: Study, options: StudyOptions, run: StudyRun) -> list[Check]:
    """What must hold of any study, then what the study itself states."""
    done = f"{run.done} of {len(run.cells)} cells"
    out = [Check("every cell has a result", run.done == len(run.cells), done)]
    if not run.tables:
        return out
    out += [_same_as_cells(run), _same_as_csv(run.folder / "results.csv", run.tables[0])]
    out += [_same_as_csv(run.folder / TABLES / f"{table.name}.csv", table) for table in run.tables[1:]]
    if study.checks is not None:
        out += study.checks(run.tables[0].rows, options)
    return out


def _same_as_cells(run: StudyRun) -> Check:
    """The table of results says what the files of the cells say."""
    wrong = []
    for key, row in zip(_done(run), run.tables[0].rows, strict=True):
        try:
            record = json.loads((run.folder / CELLS / f"{key}.json").read_text(encoding="utf-8"))
            same = plain(row) == {**record["parameters"], **record["values"]}
        except (OSError, ValueError, KeyError):
            same = False
        wrong += [] if same else [key]
    return Check("results.json agrees with the files of the cells", not wrong, ", ".join(wrong) or f"{run.done} cells")


def _same_as_csv(path: Path, table: Table) -> Check:
    """A CSV file, read back, holds the numbers of the table."""
    name = f"{path.parent.name}/{path.name}" if path.parent.name == TABLES else path.name
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            found = list(csv.DictReader(stream))
    except OSError as error:
        return Check(f"{name} can be read back", False, str(error.strerror))
    same = len(found) == len(table.rows) and all(
        _equal(text.get(column), plain(row.get(column)))
        for text, row in zip(found, table.rows, strict=True)
        for column in table.columns
    )
    return Check(f"{name} holds the numbers of its table", same, f"{len(found)} rows")


def _equal(text: str | None, value: Any) -> bool:
    if value is None:
        return text in (None, "")
    if isinstance(value, float):
        return text not in (None, "") and float(text or "nan") == value
    return text == str(value)
