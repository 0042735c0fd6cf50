"""Several reconstructions of one scan in a run directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.ptycho.evaluate.compare import CompareOptions, ComparisonInterrupted, Plan
from diptych.ptycho.evaluate.methods import ENGINES
from diptych.ptycho.io import LoadOptions
from diptych.ptycho.jobs.reconstruction import inputs_of
from diptych.runtime.device import ExecutionOptions
from diptych.runtime.jobs.context import Finished, JobContext, ending, stopping
from diptych.runtime.jobs.runs import open_run, options_from, recorded
from diptych.runtime.logging import log_file, logged
from diptych.runtime.options import Options
from diptych.runtime.provenance import provenance, shareable
from diptych.runtime.run_directory import RunDirectory

if TYPE_CHECKING:
    from diptych.ptycho.evaluate.comparison import Comparison


@dataclass(frozen=True)
class FinishedComparison(Finished):
    """What :func:`run_comparison` returns: paths and rows as ``data``, and the comparison itself."""

    directory: RunDirectory | None = None
    comparison: Comparison | None = None


def run_comparison(
    file: str | Path,
    methods: Mapping[str, str],
    *,
    truth: str | Path | None = None,
    run: str | Path | None = None,
    overwrite: bool = False,
    load: LoadOptions | Mapping[str, Any] | None = None,
    options: CompareOptions | Mapping[str, Any] | None = None,
    execution: ExecutionOptions | Mapping[str, Any] | None = None,
    config: str | Path | None = None,
    context: JobContext | None = None,
) -> FinishedComparison:
    """Reconstruct a scan with several methods, compare the results, and write a run directory.

    Parameters
    ----------
    file : path
        The scan.
    methods : mapping of str to str
        Name of each method to an engine, a result file (.h5, .npz) or a trained network (.safetensors).
    truth : path, optional
        A simulated scan or a reference result; without it the truth in the scan, where there is one.
    run : path, optional
        Run directory; without it ``runs/<name of the scan>-compare-<number>``.
    overwrite : bool
        Replace an earlier run in ``run``.
    load, options, execution : options or mapping, optional
        How the scan is read, how the results are compared, and where.
    config : path, optional
        The YAML file that options came from; its SHA-256 is recorded.
    context : JobContext, optional
        Progress, cancel token, and who is told of the run directory.

    Raises
    ------
    InputError
        If the scan, a method, an option or a path is wrong.
    KeyboardInterrupt
        When interrupted before the first method has finished.
    """
    from diptych.ptycho.io import load_scan

    context = context or JobContext()
    reading, how = options_from(LoadOptions, load), options_from(CompareOptions, options)
    where = options_from(ExecutionOptions, execution)
    models: list[Options] = [how, reading, where]
    scan = load_scan(Path(file), reading)
    plan = Plan.of(scan, dict(methods), None if truth is None else Path(truth), how)
    read = [
        *([Path(truth)] if truth is not None else []),
        *(Path(what) for what in methods.values() if what not in ENGINES),
    ]
    record = provenance("compare", where, [*inputs_of(file, models, config), *read], models)
    record["methods"] = shareable(dict(methods))
    directory = open_run(run, f"{Path(file).stem}-compare", record, context, resume=False, overwrite=overwrite)
    directory.write_options(models)
    comparison, interrupted = _carry_out(directory, plan, where, context)
    status = ending(interrupted)
    return FinishedComparison(
        {**paths_of(directory), "status": status, **comparison.to_dict()}, status, directory, comparison
    )


def paths_of(directory: RunDirectory) -> dict[str, str]:
    """What a finished comparison has written, by name."""
    return {
        "run": str(directory.path),
        "table": str(directory.path / "comparison.csv"),
        "figure": str(directory.path / "comparison.png"),
    }


def _carry_out(
    directory: RunDirectory, plan: Plan, execution: ExecutionOptions, context: JobContext
) -> tuple[Comparison, bool]:
    """Run the methods with a log and write the comparison; also whether it was interrupted."""
    interrupted = False
    with recorded(directory, None, nothing="no method had finished"):
        with log_file(directory.log) as log:
            log.info(
                "compare %s (%d patterns): %s; %s", plan.scan.name, len(plan.scan), ", ".join(plan.methods), execution
            )
            try:
                comparison = plan.run(logged(stopping(context)), execution)
            except ComparisonInterrupted as stop:
                comparison, interrupted = stop.comparison, True
            comparison.save(directory.path)
            log.info("interrupted" if interrupted else "done")
        directory.set_status("interrupted" if interrupted else "done")
    return comparison, interrupted
