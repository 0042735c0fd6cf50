"""``study``: a quantity over a grid of conditions, in a folder that can be resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from cyclopts import Parameter
from pydantic import Field

from diptych.cli.console import progress_bars
from diptych.cli.generate import verb
from diptych.cli.output import Report, Verbatim, rows_table, table
from diptych.errors import InputError
from diptych.ptycho.studies.base import STUDIES
from diptych.runtime.device import ExecutionOptions
from diptych.runtime.jobs.context import JobContext
from diptych.runtime.option_fields import Choices
from diptych.runtime.registry import SelectingOptions
from diptych.runtime.schedulers import SchedulerOptions


class StudySelection(SelectingOptions):
    """Selects a study; its own options are given beside its name."""

    registries: ClassVar = {"study": STUDIES}

    study: str | None = Field(None, description="Name of the study.")


@verb(StudySelection, ExecutionOptions, SchedulerOptions, without=("study",))
def study(
    name: Annotated[str | None, Parameter(help="Name of the study; without it the studies are listed.")] = None,
    /,
    *,
    run: Annotated[
        Path | None, Parameter(help="Folder of the study; without it studies/<name>. An unfinished one is resumed.")
    ] = None,
    clobber: Annotated[
        bool, Parameter(help="Delete the results of an earlier study in the folder.", negative=())
    ] = False,
    dry_run: Annotated[bool, Parameter(help="Only list the cells, and estimate time and memory.", negative=())] = False,
    quick: Annotated[bool, Parameter(help="Same as --size quick.", negative=())] = False,
    standard: Annotated[bool, Parameter(help="Same as --size standard.", negative=())] = False,
    full: Annotated[bool, Parameter(help="Same as --size full.", negative=())] = False,
    choices: Choices,
) -> Report:
    """Run a study by name, or resume it; without a name, list the studies."""
    sizes = [size for size, given in (("quick", quick), ("standard", standard), ("full", full)) if given]
    if len(sizes) > 1:
        raise InputError("study", f"--{' and --'.join(sizes)} are given", "one size")
    chosen = choices.with_values(study=name, **({"size": sizes[0]} if sizes else {}))
    options = chosen[StudySelection]
    if name is None:
        rows = [{"name": entry.name, "help": entry.help} for entry in STUDIES.entries()]
        return Report({"studies": rows}, [rows_table(rows)])
    from diptych.ptycho.jobs import run_study_job

    folder = run if run is not None else Path("studies") / name
    with progress_bars() as bars:
        finished = run_study_job(
            name,
            folder,
            options=options.own("study"),
            execution=choices[ExecutionOptions],
            scheduler=choices[SchedulerOptions],
            clobber=clobber,
            dry_run=dry_run,
            context=JobContext(bars),
        )
    found = finished.data
    paths = {} if dry_run else {"folder": str(folder), "summary": str(folder / "summary.md")}
    interrupted, failed = finished.status == "interrupted", found["status"] == "failed"
    note = ""
    if interrupted:
        note = f"interrupted; {found['done']} of {found['cells']} cells are done; the same command resumes the study."
    elif found["failed"]:
        note = f"{len(found['failed'])} of {found['cells']} cells failed; {folder / 'summary.md'} says why."
    elif found["not_held"]:
        note = f"{len(found['not_held'])} checks of the verification did not hold; {folder / 'summary.md'} lists them."
        failed = True
    code = 130 if interrupted else int(failed)
    return Report(found, [Verbatim(finished.study), "", table(paths)], code=code, note=note)
