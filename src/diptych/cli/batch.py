"""``batch``: a verb on many files, on this machine or on a cluster."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from diptych.cli.generate import verb
from diptych.cli.output import Report, rows_table, table
from diptych.errors import DiptychError, InputError
from diptych.ptycho.jobs.batch import VERBS, Show, run_batch
from diptych.runtime.jobs.context import JobContext
from diptych.runtime.option_fields import Choices
from diptych.runtime.schedulers import SchedulerOptions
from diptych.runtime.schedulers.batch import BatchJob, keep


@verb(SchedulerOptions)
def batch(
    *items: Annotated[
        str,
        Parameter(
            help=f"Files or quoted patterns, then the verb ({', '.join(VERBS)}; reconstruct without one), and after -- "
            "its own arguments.",
            allow_leading_hyphen=True,
        ),
    ],
    out: Annotated[Path, Parameter(help="Folder of the batch; the same call again runs what is missing there.")] = Path(
        "batch"
    ),
    choices: Choices,
) -> Report:
    """Run a verb on many files: diptych batch 'scans/*' reconstruct --scheduler processes -- --engine rpie."""
    patterns, name, arguments = split(items)
    with live_table() as show:
        finished = run_batch(
            patterns,
            name,
            arguments,
            out=out,
            scheduler=choices[SchedulerOptions],
            context=JobContext(),
            show=show,
        )
    found = finished.data
    # What counts of a long path is its end, which a narrow terminal would cut off.
    rows = [{**job.row(), "file": job.file.name, "log": Path(job.task.log or "").name} for job in finished.jobs]
    interrupted = finished.status == "interrupted"
    note = ""
    if interrupted:
        note = f"interrupted; {found['waiting']} files are left; the same command continues."
    elif found["failed"]:
        note = f"{len(found['failed'])} of {found['files']} files failed; the table names the log of each."
    paths = {"folder": str(out), "table": str(out / "batch.csv"), "logs": str(out / "logs")}
    code = 130 if interrupted else int(bool(found["failed"]))
    return Report(found, [rows_table(rows), "", table(paths)], code=code, note=note)


def split(items: Sequence[str]) -> tuple[list[str], str, list[str]]:
    """Patterns, verb and its arguments: the verb is the first item that is one, or missing before the first flag.

    Raises
    ------
    InputError
        If there is no pattern, or the last one is a word that is neither a file nor a verb.
    """
    ends = [number for number, item in enumerate(items) if item in VERBS or item.startswith("-")]
    end = ends[0] if ends else len(items)
    patterns, rest = list(items[:end]), list(items[end:])
    if not patterns:
        raise InputError("batch", "no file is named", "files or a quoted pattern, for instance 'scans/*.h5'")
    word = patterns[-1]
    if len(patterns) > 1 and word.replace("-", "_").isidentifier() and not Path(word).exists():
        raise InputError(f"batch {word}", "is neither a file nor a verb", f"after the files one of {', '.join(VERBS)}")
    name = rest.pop(0) if rest and rest[0] in VERBS else "reconstruct"
    return patterns, name, rest


def run_verb(verb: str, file: str, arguments: Sequence[str], run: str | None, answer: str) -> Mapping[str, Any]:
    """Run a verb on one file, keep its answer, and return it: what a worker does for one job of a batch.

    A run that was killed is continued from its checkpoint, where there is one.

    Raises
    ------
    DiptychError
        If the verb reports an error.
    KeyboardInterrupt
        If it was interrupted.
    """
    from diptych.cli import execute

    argv = [verb, file, *arguments]
    if run is not None:
        started = (Path(run) / "checkpoint.npz").exists() or (Path(run) / "checkpoints").is_dir()
        argv += ["--run", run, "--resume" if started else "--overwrite"]
    # Before `--`, after which flags are values.
    at = argv.index("--") if "--" in argv else len(argv)
    report = execute([*argv[:at], "--json", *argv[at:]])
    if report is None:
        raise InputError(f"batch: {verb}", "prints help and computes nothing", remedy="Leave out --help.")
    if report.code == 130:
        raise KeyboardInterrupt(report.note)
    if report.code:
        raise DiptychError(str(report.data.get("error") or report.note))
    keep(Path(answer), report.data)
    return report.data


@contextmanager
def live_table() -> Iterator[Show | None]:
    """Yield a function that shows the jobs as one table that is renewed in place; None where there is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True, highlight=False), refresh_per_second=4, transient=True) as live:

        def show(jobs: Sequence[BatchJob]) -> None:
            # The end of a long batch is what changes; a terminal has few lines.
            height = max(5, live.console.height - 4)
            open_ = [job for job in jobs if job.state in ("running", "failed")]
            shown = [*open_, *(job for job in jobs if job not in open_)][:height]
            ended = sum(job.state in ("done", "failed") for job in jobs)
            rows = [{**job.row(), "file": job.file.name, "log": None} for job in shown]
            live.update(rows_table(rows, title=f"{ended} of {len(jobs)} files"))

        yield show
