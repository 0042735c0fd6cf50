"""``train`` and ``networks``: from scans to a trained network in a run directory, and the networks there are."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from diptych.cli.console import progress_bars
from diptych.cli.generate import verb
from diptych.cli.output import Report, cell, steps, table
from diptych.cli.scans import Overwrite
from diptych.ptycho.io import LoadOptions
from diptych.ptycho.neural.options import TrainerOptions, TrainingOptions
from diptych.runtime.jobs.context import Finished, JobContext
from diptych.runtime.option_fields import Choices

PATHS = ("run", "model", "figure", "out")


@verb(LoadOptions, TrainingOptions, TrainerOptions)
def train(
    files: Annotated[list[Path], Parameter(help="Scans to train on, all with patterns of one size.", negative=())],
    /,
    *,
    run: Annotated[
        Path | None, Parameter(help="Run directory; without it runs/<name of the first scan>-<number>.")
    ] = None,
    out: Annotated[Path | None, Parameter(help="Also write the model to this .safetensors file.")] = None,
    resume: Annotated[
        bool,
        Parameter(help="Continue the run in --run from its last finished epoch, with its options.", negative=()),
    ] = False,
    overwrite: Overwrite = False,
    choices: Choices,
) -> Report:
    """Train a network on scans and write a run directory."""
    from diptych.ptycho.jobs import run_training

    if resume and run is not None and (run / "options.yaml").exists():
        choices = choices.above(run / "options.yaml")
    with progress_bars() as bars:
        finished = run_training(
            files,
            run=run,
            out=out,
            resume=resume,
            overwrite=overwrite,
            load=choices[LoadOptions],
            options=choices[TrainingOptions],
            trainer=choices[TrainerOptions],
            config=choices.config,
            context=JobContext(bars),
        )
    return report(finished)


def report(finished: Finished) -> Report:
    """The report on a finished or interrupted training."""
    found = finished.data
    paths = {name: found[name] for name in PATHS if name in found}
    patterns = sum(each["train"] for each in found["scans"])
    groups = sum(each["groups"] for each in found["scans"])
    lines = [
        f"Network {found['network']}, {found['parameters']:,} weights, on {groups:,} groups of {patterns:,} patterns.",
        f"{found['epochs']} epochs, {found['seconds']:.1f} s on {found['device']}; stop: {found['stop_reason']}.",
        f"Weights of epoch {found['best_epoch']}: loss {cell(found.get('loss'))}, validation "
        f"{cell(found.get('validation_loss'))}.",
    ]
    command = f"diptych reconstruct SCAN --model {shlex.quote(str(found['model']))}"
    interrupted = finished.status == "interrupted"
    note = (
        f"interrupted; the best network so far is saved in {found['run']} "
        f"(continue with --run {found['run']} --resume)."
    )
    return Report(
        found,
        ["\n".join(lines), "", table(paths), steps(("\nTo start a reconstruction from the network", command))],
        code=130 if interrupted else 0,
        note=note if interrupted else "",
    )
