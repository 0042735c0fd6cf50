"""``train``: from scans to a trained network in a run directory."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from diptych.cli.console import progress_bars
from diptych.cli.generate import Choices, verb
from diptych.cli.output import Report, cell, table
from diptych.cli.runs import open_run, recorded
from diptych.cli.scans import Overwrite
from diptych.errors import InputError
from diptych.ptycho.io import LoadOptions
from diptych.ptycho.neural.options import TrainerOptions, TrainingOptions
from diptych.runtime.device import ExecutionOptions
from diptych.runtime.files import check_output
from diptych.runtime.logging import LOGGER, log_file
from diptych.runtime.provenance import provenance
from diptych.runtime.run_directory import RunDirectory

if TYPE_CHECKING:
    from diptych.ptycho.neural.model import Model


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
        Parameter(help="Go on with the run in --run, from its last finished epoch and with its options.", negative=()),
    ] = False,
    overwrite: Overwrite = False,
    choices: Choices,
) -> Report:
    """Train a network on scans and write a run directory."""
    if out is not None:
        check_output(out, (".safetensors",), overwrite=overwrite)
    if resume and run is None:
        raise InputError("--resume: pass --run DIR with the run to go on with.")
    if resume and run is not None and (run / "options.yaml").exists():
        choices = choices.above(run / "options.yaml")
    options, machine = list(choices), choices[TrainerOptions]
    for file in files:
        if not file.is_file():
            raise InputError(f"{file}: there is no such file; expected a scan.")
    inputs = [*files, *([choices.config] if choices.config is not None else [])]
    record = provenance("train", ExecutionOptions(device=machine.device, threads=machine.threads), inputs, options)
    directory = open_run(run, files[0].stem, record, resume=resume, overwrite=overwrite)
    directory.write_options(options)
    model, interrupted, seconds = fit(directory, files, choices, resume=resume)
    if out is not None:
        model.save(out)
    return report(directory, model, interrupted=interrupted, seconds=seconds, out=out)


def fit(directory: RunDirectory, files: list[Path], choices: Choices, *, resume: bool) -> tuple[Model, bool, float]:
    """Train with a log and progress bars; return the model, whether a Ctrl-C ended it, and the seconds it took."""
    from diptych.ptycho import train as training

    began, interrupted = time.perf_counter(), False
    options, machine = choices[TrainingOptions], choices[TrainerOptions]
    state = directory.path / "checkpoints" / "last.ckpt"
    if resume and not state.exists():
        LOGGER.warning("%s holds no checkpoint, so the training starts from the beginning", directory.path)
    with recorded(
        directory, state, resume=resume, kept="its last finished epoch is kept", nothing="no epoch was finished"
    ):
        with log_file(directory.log) as log, progress_bars() as bars:
            log.info("train on %s: %s; %s", ", ".join(map(str, files)), options, machine)
            try:
                model = training.train(
                    files, options, directory.path, bars, trainer=machine, load=choices[LoadOptions], resume=resume
                )
            except training.TrainingInterrupted as stop:
                model, interrupted = stop.model, True
            seconds = time.perf_counter() - began
            log.info("%s after %.1f s", "interrupted" if interrupted else "done", seconds)
        directory.write_json("summary.json", summary(model, seconds))
        directory.set_status("interrupted" if interrupted else "done")
    return model, interrupted, seconds


def summary(model: Model, seconds: float) -> dict[str, Any]:
    """What an honest statement of the training needs, as JSON values."""
    about = model.about()
    told = about["provenance"]
    return {
        **{key: about[key] for key in ("network", "parameters", "size")},
        **{key: told.get(key) for key in ("epochs", "best_epoch", "stop_reason", "device")},
        **about["statistics"],
        "seconds": round(seconds, 2),
    }


def report(directory: RunDirectory, model: Model, *, interrupted: bool, seconds: float, out: Path | None) -> Report:
    """What the command says of a finished or interrupted training."""
    found = summary(model, seconds)
    places = {"run": str(directory.path), "model": str(directory.path / "model.safetensors")}
    if (directory.path / "training.png").exists():
        places["figure"] = str(directory.path / "training.png")
    if out is not None:
        places["out"] = str(out)
    patterns = sum(each["train"] for each in found["scans"])
    groups = sum(each["groups"] for each in found["scans"])
    lines = [
        f"Network {found['network']}, {found['parameters']:,} weights, on {groups:,} groups of {patterns:,} patterns.",
        f"{found['epochs']} epochs, {found['seconds']:.1f} s on {found['device']}; stop: {found['stop_reason']}.",
        f"Weights of epoch {found['best_epoch']}: loss {cell(found.get('loss'))}, validation "
        f"{cell(found.get('validation_loss'))}.",
        f"`diptych reconstruct SCAN --model {places['model']}` starts from it.",
    ]
    note = f"interrupted; the best network so far is saved in {directory.path} (go on with --run {directory.path} --resume)."
    data = {**places, "status": "interrupted" if interrupted else "done", **found}
    return Report(
        data, ["\n".join(lines), "", table(places)], code=130 if interrupted else 0, note=note if interrupted else ""
    )
