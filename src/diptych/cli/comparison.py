"""``compare``: several reconstructions of one scan, to a run directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from diptych.cli.console import progress_bars
from diptych.cli.generate import Choices, verb
from diptych.cli.output import Report, table
from diptych.cli.reconstruction import files_of
from diptych.cli.runs import open_run, recorded
from diptych.cli.scans import Overwrite
from diptych.errors import InputError
from diptych.ptycho.evaluate.compare import CompareOptions, ComparisonInterrupted, Plan
from diptych.ptycho.evaluate.methods import ENGINES
from diptych.ptycho.io import LoadOptions
from diptych.runtime.device import ExecutionOptions
from diptych.runtime.logging import log_file, logged
from diptych.runtime.provenance import provenance
from diptych.runtime.run_directory import RunDirectory

if TYPE_CHECKING:
    from diptych.ptycho.evaluate.comparison import Comparison


@verb(CompareOptions, LoadOptions, ExecutionOptions)
def compare(
    file: Annotated[Path, Parameter(help="A scan.")],
    /,
    *,
    arm: Annotated[
        list[str],
        Parameter(
            name=("--method", "--arm"),
            help="NAME=WHAT; WHAT is an engine, a result (.h5, .npz) or a network (.safetensors). Once per method.",
            negative=(),
        ),
    ],
    truth: Annotated[
        Path | None, Parameter(help="The truth: a simulated scan, or a reference result; without it the scan's.")
    ] = None,
    run: Annotated[
        Path | None, Parameter(help="Run directory; without it runs/<name of the scan>-compare-<number>.")
    ] = None,
    overwrite: Overwrite = False,
    choices: Choices,
) -> Report:
    """Reconstruct a scan in several ways and judge the results alike."""
    from diptych.ptycho.io import load_scan

    options = list(choices)
    arms = named_arms(arm)
    scan = load_scan(file, choices[LoadOptions])
    plan = Plan.of(scan, arms, truth, choices[CompareOptions])
    read = [*([truth] if truth is not None else []), *(Path(what) for what in arms.values() if what not in ENGINES)]
    record = provenance("compare", choices[ExecutionOptions], [*files_of(file, choices), *read], options)
    directory = open_run(run, f"{file.stem}-compare", {**record, "arms": arms}, resume=False, overwrite=overwrite)
    directory.write_options(options)
    comparison, interrupted = carry_out(directory, plan, choices[ExecutionOptions])
    return report(directory, comparison, interrupted=interrupted)


def named_arms(given: list[str]) -> dict[str, str]:
    """``["engine=auto"]`` as ``{"engine": "auto"}``. Raises InputError for an arm without a name, and for a name given
    twice.
    """
    arms: dict[str, str] = {}
    for text in given:
        name, sign, what = text.partition("=")
        if not (name and sign and what):
            raise InputError(
                f"--arm {text}: expected NAME=WHAT, for instance --arm engine=auto or --arm other=result.npz."
            )
        if name in arms:
            raise InputError(f"--arm {text}: the name {name!r} is given twice; expected one name per arm.")
        arms[name] = what
    return arms


def carry_out(directory: RunDirectory, plan: Plan, execution: ExecutionOptions) -> tuple[Comparison, bool]:
    """Run the arms with a log and progress bars, and write the comparison; return it, and whether Ctrl-C cut it
    short.
    """
    interrupted = False
    with recorded(directory, None, nothing="no arm could be compared yet"):
        with log_file(directory.log) as log:
            log.info(
                "compare %s (%d patterns): %s; %s", plan.scan.name, len(plan.scan), ", ".join(plan.methods), execution
            )
            with progress_bars() as bars:
                try:
                    comparison = plan.run(logged(bars), execution)
                except ComparisonInterrupted as stop:
                    comparison, interrupted = stop.comparison, True
            comparison.save(directory.path)
            log.info("interrupted" if interrupted else "done")
        directory.set_status("interrupted" if interrupted else "done")
    return comparison, interrupted


def report(directory: RunDirectory, comparison: Comparison, *, interrupted: bool) -> Report:
    """What the command says of a finished or interrupted comparison."""
    places = {
        "run": str(directory.path),
        "table": str(directory.path / "comparison.csv"),
        "figure": str(directory.path / "comparison.png"),
    }
    notes = [f"interrupted; the arms that were finished are compared in {directory.path}."] if interrupted else []
    if failed := [name for name in comparison.errors if not interrupted]:
        notes.append(
            f"{len(failed)} of {len(comparison.rows)} arms failed ({', '.join(failed)}); the others are compared."
        )
    data = {**places, "status": "interrupted" if interrupted else "done", **comparison.to_dict()}
    return Report(data, [comparison.table(), "", table(places)], code=130 if interrupted else 0, note=" ".join(notes))
