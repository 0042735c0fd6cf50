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
from diptych.ptycho.studies.folder import StudyFolder
from diptych.ptycho.studies.report import Status, StudyRun, Table
from diptych.ptycho.studies.report_files import write_report
from diptych.runtime.device import ExecutionOptions
from diptych.runtime.progress import Progress, ProgressCallback
from diptych.runtime.provenance import commit, utc_now, versions
from diptych.runtime.run_directory import plain
from diptych.runtime.schedulers import SchedulerOptions, Task, run_tasks

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
    scheduler: SchedulerOptions | None = None,
    **overrides: Any,
) -> StudyRun:
    """Run a study, or resume it: cells that are done are not run again.

    The folder then holds ``manifest.json`` (study, options, version, cells and their status), ``cells/<key>.json``,
    ``results.csv`` and ``results.json`` (one row per cell), ``tables/*.csv`` and ``*.json``, ``figure.png``,
    ``figures/``, ``summary.md``, ``verification.json`` (what was checked, and whether it held) and ``inventory.txt``.
    It is safe to kill at any time; the same call resumes it. A resumed study gives the same tables as one that was
    never stopped.

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
    scheduler : SchedulerOptions, optional
        Where the cells run, and how often a failed one is run again; by default in this process, once. Workers on other
        machines must see ``folder`` under the same path.
    executor : callable, optional
        In place of ``scheduler``: maps cells to results. See :data:`~diptych.ptycho.studies.base.Executor`.
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
    ('planned', 16)
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
        where = execution or ExecutionOptions()
        job = partial(run_cell, study, chosen, where, home=home)
        if executor is None:
            executor = serial if scheduler is None else _scheduled(scheduler, study, chosen, where, home, cancel)
        state.run_missing(job, executor, cancel, progress)
        if len(state.results) == len(cells):
            status = "done" if any(result.error is None for result in state.results.values()) else "failed"
    except KeyboardInterrupt:
        kept = f"{len(state.results)} of {len(cells)} cells are finished, and their results kept in {home.path}"
        raise KeyboardInterrupt(f"interrupted; {kept}; the same call continues.") from None
    finally:
        state.facts["ended"] = utc_now()
        state.write(status)
    return write_report(study, chosen, home, state.report(status))


def serial(job: Callable[[Cell], CellResult], cells: Sequence[Cell]) -> Iterator[CellResult]:
    """Run the cells one after the other in this process."""
    yield from map(job, cells)


def run_cell(
    study: Study, options: StudyOptions, execution: ExecutionOptions, cell: Cell, *, home: StudyFolder
) -> CellResult:
    """Compute one cell; an error of the cell becomes its result."""
    began = time.perf_counter()
    try:
        values = values_of(study, options, execution, cell, home)
    except Exception as error:
        seconds = time.perf_counter() - began
        if isinstance(error, DiptychError):
            return CellResult(cell.key, {}, seconds, str(error))
        text = f"{type(error).__name__}: {error}"
        return CellResult(cell.key, {}, seconds, text, traceback.format_exc())
    return CellResult(cell.key, values, time.perf_counter() - began)


def values_of(
    study: Study, options: StudyOptions, execution: ExecutionOptions, cell: Cell, home: StudyFolder
) -> dict[str, Any]:
    """The values of one cell, as JSON."""
    more = (home.cell_folder(cell.key),) if study.keeps else ()
    values: dict[str, Any] = plain(study.run(cell, options, execution, *more))
    return values


def run_cell_by_name(
    study: str,
    options: Mapping[str, Any],
    execution: Mapping[str, Any],
    key: str,
    parameters: Mapping[str, Any],
    folder: str,
) -> dict[str, Any]:
    """Compute one cell on a worker, from JSON values, and write its file before it is answered.

    The file makes the result outlive the worker, and the connection to it.
    """
    found = STUDIES[study]
    chosen = _options(found, None, options)
    home = StudyFolder(Path(folder), _identity(found, chosen))
    cell, began = Cell(key, parameters), time.perf_counter()
    values = values_of(found, chosen, ExecutionOptions.build(dict(execution)), cell, home)
    home.write_result(cell, CellResult(key, values, time.perf_counter() - began))
    return values


def _scheduled(
    scheduler: SchedulerOptions,
    study: Study,
    options: StudyOptions,
    execution: ExecutionOptions,
    home: StudyFolder,
    cancel: Cancel | None,
) -> Executor:
    """An executor that runs the cells on a scheduler."""
    logs = home.path / "logs"

    def run(job: Callable[[Cell], CellResult], cells: Sequence[Cell]) -> Iterator[CellResult]:
        logs.mkdir(exist_ok=True)
        common = {
            "study": study.name,
            "options": options.model_dump(mode="json"),
            "execution": execution.model_dump(mode="json"),
            "folder": str(home.path.resolve()),
        }
        tasks = [
            Task(
                cell.key,
                f"{__name__}:{run_cell_by_name.__name__}",
                {**common, "key": cell.key, "parameters": plain(cell.parameters)},
                str((logs / f"{cell.key}.txt").resolve()),
            )
            for cell in cells
        ]
        for answer in run_tasks(tasks, scheduler, cancel):
            error = f"{answer.error} (log: {logs / answer.key}.txt)" if answer.error else None
            yield CellResult(answer.key, answer.values or {}, answer.seconds, error, answer.traceback or None)

    return run


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
            self.study.name,
            self.home.path,
            status,
            self.cells,
            ordered,
            tuple(tables),
            self.hours(),
            memory,
            quick=self.options.size == "quick",
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
