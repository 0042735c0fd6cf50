"""Runs a study: the cells that are not done yet, then tables, figure and summary."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from diptych.errors import DiptychError, InputError
from diptych.ptycho.studies.base import STUDIES, Cancel, Cell, CellResult, Executor, Study, StudyOptions
from diptych.ptycho.studies.folder import TABLES, StudyFolder
from diptych.ptycho.studies.report import Status, StudyRun, Table, summary
from diptych.runtime.device import ExecutionOptions
from diptych.runtime.files import write_text
from diptych.runtime.progress import Progress, ProgressCallback
from diptych.runtime.provenance import commit, utc_now, versions
from diptych.runtime.run_directory import plain

log = logging.getLogger("diptych")

_MANIFEST_EVERY = 2.0
"""Seconds between updates of the manifest while cells run; the cells' own files are written at once."""


def run_study(
    name: str,
    folder: str | Path,
    options: StudyOptions | None = None,
    progress: ProgressCallback | None = None,
    *,
    execution: ExecutionOptions | None = None,
    cancel: Cancel | None = None,
    clobber: bool = False,
    dry_run: bool = False,
    executor: Executor | None = None,
    **overrides: Any,
) -> StudyRun:
    """Run a study, or resume it: cells that are done are not run again.

    The folder then holds ``manifest.json`` (study, options, version, cells and their status), ``cells/<key>.json``,
    ``results.csv`` and ``results.json`` (one row per cell), ``tables/*.csv`` and ``*.json``, ``figure.png`` and
    ``summary.md``. It is safe to kill at any time; the same call resumes it. A resumed study gives the same tables as
    one that was never stopped.

    Parameters
    ----------
    name : str
        Name in :data:`STUDIES`, for instance ``"dose-response"``.
    folder : path
        Folder of the study; created if it does not exist.
    options : StudyOptions, optional
        Options of the study: an instance of ``STUDIES[name].options``.
    progress : callable, optional
        Called after each cell; ``values`` has ``failed`` (cells) and ``hours_left``.
    execution : ExecutionOptions, optional
        Device, precision, threads; passed to each cell.
    cancel : Cancel, optional
        When its ``requested`` becomes true, the study stops before the next cell.
    clobber : bool
        Delete what an earlier study left in the folder and start anew.
    dry_run : bool
        Only list the cells and estimate time and memory; writes nothing.
    executor : callable, optional
        Maps cells to results; :func:`serial` by default. See :data:`~diptych.ptycho.studies.base.Executor`.
    **overrides
        Single options by name.

    Returns
    -------
    StudyRun
        Status, results, tables and estimates. A cell that fails is recorded in ``errors``; the others still run, and
        the next call runs it again.

    Raises
    ------
    InputError
        If there is no such study, an option is wrong, or the folder holds other files, or results of another study,
        version or options (unless ``clobber``).
    KeyboardInterrupt
        On Ctrl-C; finished cells are kept, and the manifest says ``interrupted``.

    Examples
    --------
    >>> from diptych.ptycho.studies import run_study
    >>> plan = run_study("dose-response", "studies/dose", size="quick", dry_run=True)
    >>> plan.status, len(plan.cells)
    ('planned', 12)
    """
    study = STUDIES[name]
    chosen = _options(study, options, overrides)
    home = StudyFolder(Path(folder), _identity(study, chosen))
    home.check(clobber=clobber)
    cells = _cells(study, chosen)
    state = _State(study, chosen, home, cells, {} if clobber else home.results(cells))
    if dry_run:
        return state.report("planned")
    home.open(clobber=clobber)
    state.facts = {"started": utc_now(), "versions": versions(), "commit": commit()}
    state.write("running")
    status: Status = "interrupted"
    try:
        job = partial(run_cell, study, chosen, execution or ExecutionOptions())
        state.run_missing(job, executor or serial, cancel, progress)
        if len(state.results) == len(cells):
            status = "done" if any(result.error is None for result in state.results.values()) else "failed"
    finally:
        state.facts["ended"] = utc_now()
        state.write(status)
    run = state.report(status)
    _write_files(study, chosen, run)
    return run


def serial(job: Callable[[Cell], CellResult], cells: Sequence[Cell]) -> Iterator[CellResult]:
    """Run the cells one after the other in this process."""
    yield from map(job, cells)


def run_cell(study: Study, options: StudyOptions, execution: ExecutionOptions, cell: Cell) -> CellResult:
    """Compute one cell; an error of the cell becomes its result."""
    began = time.perf_counter()
    try:
        values = plain(study.run(cell, options, execution))
    except Exception as error:
        seconds = time.perf_counter() - began
        if isinstance(error, DiptychError):
            return CellResult(cell.key, {}, seconds, str(error))
        text = f"{type(error).__name__}: {error}"
        return CellResult(cell.key, {}, seconds, text, traceback.format_exc())
    return CellResult(cell.key, values, time.perf_counter() - began)


@dataclass
class _State:
    """A study under way: its cells, and the results that are there so far."""

    study: Study
    options: StudyOptions
    home: StudyFolder
    cells: tuple[Cell, ...]
    results: dict[str, CellResult]
    facts: dict[str, Any] = field(default_factory=dict)

    def run_missing(
        self,
        job: Callable[[Cell], CellResult],
        executor: Executor,
        cancel: Cancel | None,
        progress: ProgressCallback | None,
    ) -> None:
        """Run the cells without a result until all are done or the study is cancelled."""
        by_key = {cell.key: cell for cell in self.cells}
        missing = [cell for cell in self.cells if cell.key not in self.results]
        if not missing or (cancel is not None and cancel.requested):
            return
        written = time.monotonic()
        incoming = iter(executor(job, missing))
        try:
            for result in incoming:
                self.results[result.key] = result
                self.home.write_result(by_key[result.key], result)
                if result.error is not None:
                    log.warning("study %s: cell %s failed: %s", self.study.name, result.key, result.error)
                if time.monotonic() - written > _MANIFEST_EVERY:
                    self.write("running")
                    written = time.monotonic()
                if progress is not None:
                    failed = sum(each.error is not None for each in self.results.values())
                    values = {"failed": float(failed), "hours_left": self.hours()}
                    progress(Progress(self.study.name, len(self.results), len(self.cells), values))
                if cancel is not None and cancel.requested:
                    return
        finally:
            if isinstance(incoming, Generator):
                incoming.close()

    def hours(self) -> float:
        """Predicted hours of the cells without a result, scaled by measured / predicted time of the finished ones."""
        predicted = {cell.key: self.study.estimate(cell, self.options).seconds for cell in self.cells}
        finished = [result for result in self.results.values() if result.error is None]
        expected = sum(predicted[result.key] for result in finished)
        scale = sum(result.seconds for result in finished) / expected if expected > 0 else 1.0
        return scale * sum(seconds for key, seconds in predicted.items() if key not in self.results) / 3600

    def write(self, status: str) -> None:
        """Write the manifest."""
        self.home.write_manifest(status, self.cells, self.results, **self.facts)

    def report(self, status: Status) -> StudyRun:
        """The results in the order of the cells, and the tables made of them."""
        ordered = {cell.key: self.results[cell.key] for cell in self.cells if cell.key in self.results}
        good = [cell for cell in self.cells if cell.key in ordered and ordered[cell.key].error is None]
        rows = [{**cell.parameters, **ordered[cell.key].values} for cell in good]
        tables: list[Table] = []
        if status != "planned" and rows:
            tables = [Table("results", "Results of every cell", rows), *self.study.tables(rows, self.options)]
        memory = max(self.study.estimate(cell, self.options).memory_bytes for cell in self.cells)
        return StudyRun(
            self.study.name, self.home.path, status, self.cells, ordered, tuple(tables), self.hours(), memory
        )


def _options(study: Study, options: StudyOptions | None, overrides: Mapping[str, Any]) -> StudyOptions:
    if options is None:
        built = study.options.build(dict(overrides), origin=f"study {study.name}")
    elif isinstance(options, study.options):
        built = options.with_changes(**overrides)
    else:
        raise InputError(
            f"study {study.name}", f"options are {type(options).__name__}", f"{study.options.__name__} or None"
        )
    if not isinstance(built, StudyOptions):
        raise InputError(f"study {study.name}", f"its options are {type(built).__name__}", "a subclass of StudyOptions")
    return built


def _cells(study: Study, options: StudyOptions) -> tuple[Cell, ...]:
    cells = tuple(study.cells(options))
    if not cells:
        raise InputError(f"study {study.name}", "has no cells with these options", "at least one")
    if len({cell.key for cell in cells}) < len(cells):
        raise InputError(f"study {study.name}", "gives two cells the same key", "one key per cell")
    return cells


def _identity(study: Study, options: StudyOptions) -> dict[str, Any]:
    from diptych import __version__

    values = plain(options.model_dump(mode="json"))
    return {"study": study.name, "version": f"{study.version} (diptych {__version__})", "options": values}


def _write_files(study: Study, options: StudyOptions, run: StudyRun) -> None:
    """Write tables, figure and ``summary.md`` of the cells that are done so far."""
    if run.tables:
        run.tables[0].to_csv(run.folder / "results.csv")
        run.tables[0].to_json(run.folder / "results.json")
        (run.folder / TABLES).mkdir(exist_ok=True)
        for table in run.tables[1:]:
            table.to_csv(run.folder / TABLES / f"{table.name}.csv")
            table.to_json(run.folder / TABLES / f"{table.name}.json")
        if study.plot is not None:
            from diptych.ptycho.figures.panels import save_figure

            save_figure(study.plot(run.tables[1:], options), run.folder / "figure.png")
    shown = {name: value for name, value in options.model_dump(mode="json").items() if value is not None}
    facts = {
        "status": run.status,
        "cells": f"{run.done} of {len(run.cells)} done, {len(run.errors)} failed",
        "options": ", ".join(f"{name} = {value}" for name, value in shown.items()),
    }
    write_text(run.folder / "summary.md", summary(f"{study.name}: {study.help}", facts, run.tables[1:], run.errors))
