"""Progress bars on a terminal; silence anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from diptych.runtime.jobs.context import silent
from diptych.runtime.progress import Progress, ProgressCallback


@contextmanager
def progress_bars() -> Iterator[ProgressCallback]:
    """Yield a callback that draws one bar per stage on standard error, or does nothing when that is no terminal."""
    if not sys.stderr.isatty():
        yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[values]}"),
    )
    stages: dict[str, TaskID] = {}
    with Bars(*columns, console=Console(stderr=True, highlight=False)) as bars:

        def show(progress: Progress) -> None:
            # "check: transposed" is a step of the stage "check", and shares its bar.
            stage = progress.stage.split(":")[0]
            if stage not in stages:
                stages[stage] = bars.add_task(stage, total=None, values="")
            values = "  ".join(f"{name} {value:.4g}" for name, value in progress.values.items())
            bars.update(
                stages[stage],
                description=progress.stage,
                completed=progress.done,
                total=progress.total or None,
                values=values,
            )

        yield show
