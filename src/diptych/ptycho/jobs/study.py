"""A study in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.ptycho.studies import STUDIES, run_study
from diptych.ptycho.studies.base import StudyOptions
from diptych.runtime.device import ExecutionOptions
from diptych.runtime.jobs.context import Finished, JobContext, ending
from diptych.runtime.jobs.runs import options_from
from diptych.runtime.logging import logged
from diptych.runtime.schedulers import SchedulerOptions

if TYPE_CHECKING:
    from diptych.ptycho.studies import StudyRun


@dataclass(frozen=True)
class FinishedStudy(Finished):
    """What :func:`run_study_job` returns: counts, errors and rows as ``data``, and the study's own result.

    ``data["status"]`` is ``failed`` when no cell succeeded, and ``planned`` after a dry run.
    """

    study: StudyRun | None = None


def run_study_job(
    name: str,
    folder: str | Path,
    *,
    options: StudyOptions | Mapping[str, Any] | None = None,
    execution: ExecutionOptions | Mapping[str, Any] | None = None,
    scheduler: SchedulerOptions | Mapping[str, Any] | None = None,
    clobber: bool = False,
    dry_run: bool = False,
    context: JobContext | None = None,
) -> FinishedStudy:
    """Run a study, or resume it; see :func:`diptych.ptycho.studies.run_study`.

    Raises
    ------
    InputError
        If there is no such study, an option is wrong, or the folder holds something else.
    KeyboardInterrupt
        On Ctrl-C; finished cells are kept, and the same call resumes the study.
    """
    context = context or JobContext()
    chosen = options_from(STUDIES[name].options, options)
    assert isinstance(chosen, StudyOptions)
    found = run_study(
        name,
        folder,
        chosen,
        logged(context.progress),
        execution=options_from(ExecutionOptions, execution),
        cancel=context.cancel,
        scheduler=None if scheduler is None else options_from(SchedulerOptions, scheduler),
        clobber=clobber,
        dry_run=dry_run,
    )
    return FinishedStudy(found.to_dict(), ending(found.status == "interrupted"), found)
