"""``compare``: several reconstructions of one scan, in a run directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from diptych.cli.console import progress_bars
from diptych.cli.generate import verb
from diptych.cli.output import Report, table
from diptych.cli.scans import Overwrite
from diptych.errors import InputError
from diptych.ptycho.evaluate.compare import CompareOptions
from diptych.ptycho.io import LoadOptions
from diptych.ptycho.jobs.comparison import FinishedComparison
from diptych.runtime.device import ExecutionOptions
from diptych.runtime.jobs.context import JobContext
from diptych.runtime.option_fields import Choices

PATHS = ("run", "table", "figure")


@verb(CompareOptions, LoadOptions, ExecutionOptions)
def compare(
    file: Annotated[Path, Parameter(help="A scan.")],
    /,
    *,
    method: Annotated[
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
    """Reconstruct a scan with several methods and compare the results."""
    from diptych.ptycho.jobs import run_comparison

    with progress_bars() as bars:
        finished = run_comparison(
            file,
            named_methods(method),
            truth=truth,
            run=run,
            overwrite=overwrite,
            load=choices[LoadOptions],
            options=choices[CompareOptions],
            execution=choices[ExecutionOptions],
            config=choices.config,
            context=JobContext(bars),
        )
    return report(finished)


def named_methods(given: list[str]) -> dict[str, str]:
    """``["engine=auto"]`` as ``{"engine": "auto"}``.

    Raises
    ------
    InputError
        If a method has no name, or a name is given twice.
    """
    methods: dict[str, str] = {}
    for text in given:
        name, sign, what = text.partition("=")
        if not (name and sign and what):
            raise InputError(
                f"--method {text}",
                "has no name",
                "NAME=WHAT, for instance --method engine=auto or --method other=result.npz",
            )
        if name in methods:
            raise InputError(f"--method {text}", f"the name {name!r} is given twice", "one name per method")
        methods[name] = what
    return methods


def report(finished: FinishedComparison) -> Report:
    """The report on a finished or interrupted comparison."""
    found, comparison = finished.data, finished.comparison
    assert comparison is not None
    interrupted = finished.status == "interrupted"
    notes = [f"interrupted; the methods that had finished are compared in {found['run']}."] if interrupted else []
    if failed := [name for name in comparison.errors if not interrupted]:
        notes.append(
            f"{len(failed)} of {len(comparison.rows)} methods failed ({', '.join(failed)}); the others are compared."
        )
    paths = {name: found[name] for name in PATHS}
    return Report(found, [comparison.table(), "", table(paths)], code=130 if interrupted else 0, note=" ".join(notes))
