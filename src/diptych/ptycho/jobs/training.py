"""A training in a run directory: options, log, checkpoints, model, figures and summary."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.errors import InputError
from diptych.ptycho.io import LoadOptions
from diptych.ptycho.neural.options import TrainerOptions, TrainingOptions
from diptych.runtime.device import ExecutionOptions, torchrun_processes
from diptych.runtime.files import check_output, unless_refused
from diptych.runtime.jobs.context import Finished, JobContext, ending
from diptych.runtime.jobs.runs import open_run, options_from, recorded
from diptych.runtime.logging import LOGGER, log_file
from diptych.runtime.options import Options
from diptych.runtime.provenance import provenance
from diptych.runtime.run_directory import RunDirectory

if TYPE_CHECKING:
    from diptych.ptycho.neural.model import Model


@dataclass(frozen=True)
class FinishedTraining(Finished):
    """What :func:`run_training` returns: paths and summary as ``data``, and the model itself."""

    directory: RunDirectory | None = None
    model: Model | None = None


def run_training(
    files: Sequence[str | Path],
    *,
    run: str | Path | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    load: LoadOptions | Mapping[str, Any] | None = None,
    options: TrainingOptions | Mapping[str, Any] | None = None,
    trainer: TrainerOptions | Mapping[str, Any] | None = None,
    config: str | Path | None = None,
    context: JobContext | None = None,
) -> FinishedTraining:
    """Train a network on scans and write a run directory.

    Parameters
    ----------
    files : sequence of paths
        The scans, all with patterns of one size.
    run : path, optional
        Run directory; without it ``runs/<name of the first scan>-<number>``.
    out : path, optional
        Also write the model to this .safetensors file.
    resume : bool
        Continue the run in ``run`` from its last finished epoch; scans and options must be the same.
    overwrite : bool
        Replace an earlier run in ``run`` and the file ``out``.
    load, options, trainer : options or mapping, optional
        How the scans are read, what is trained and how, and where.
    config : path, optional
        The YAML file that options came from; its SHA-256 is recorded.
    context : JobContext, optional
        Progress, cancel token, and who is told of the run directory.

    Raises
    ------
    InputError
        If a scan, an option or a path is wrong.
    KeyboardInterrupt
        When interrupted before there is a model to save; the message says what is in the run directory.
    """
    context = context or JobContext()
    if torchrun_processes() is not None:
        raise InputError(
            "diptych train",
            "was started by torchrun",
            remedy="Start a Python script that calls diptych.train with torchrun; docs/network.md has one to copy.",
        )
    if out is not None:
        check_output(Path(out), (".safetensors",), overwrite=overwrite)
    if resume and run is None:
        raise InputError("--resume", "there is no run to continue", remedy="Pass --run DIR with the folder of the run.")
    resumed = run if resume else None
    reading = options_from(LoadOptions, load, resumed)
    how = options_from(TrainingOptions, options, resumed)
    where = options_from(TrainerOptions, trainer, resumed)
    models: list[Options] = [reading, how, where]
    paths = [Path(file) for file in files]
    for path in paths:
        if not path.is_file():
            raise InputError(path, "there is no such file", "a scan")
    inputs = [*paths, *([Path(config)] if config is not None else [])]
    record = provenance("train", ExecutionOptions(device=where.device, threads=where.threads), inputs, models)
    directory = open_run(run, paths[0].stem, record, context, resume=resume, overwrite=overwrite)
    directory.write_options(models)
    elsewhere = out is not None
    model, interrupted, seconds = _fit(
        directory, paths, reading, how, where, context, resume=resume, elsewhere=elsewhere
    )
    written = paths_of(directory)
    if out is not None:
        model.save(Path(out))
        written["out"] = str(out)
    status = ending(interrupted)
    return FinishedTraining({**written, "status": status, **summarise(model, seconds)}, status, directory, model)


def paths_of(directory: RunDirectory) -> dict[str, str]:
    """What a finished training has written, by name."""
    found = {"run": str(directory.path), "model": str(directory.path / "model.safetensors")}
    figure = directory.path / "training.png"
    return {**found, **({"figure": str(figure)} if figure.exists() else {})}


def summarise(model: Model, seconds: float) -> dict[str, Any]:
    """Numbers by which a training is judged, as JSON values."""
    about = model.about()
    info = about["provenance"]
    return {
        **{key: about[key] for key in ("network", "parameters", "size")},
        **{key: info.get(key) for key in ("epochs", "best_epoch", "stop_reason", "device")},
        **about["statistics"],
        "seconds": round(seconds, 2),
    }


def _fit(
    directory: RunDirectory,
    files: list[Path],
    load: LoadOptions,
    options: TrainingOptions,
    trainer: TrainerOptions,
    context: JobContext,
    *,
    resume: bool,
    elsewhere: bool,
) -> tuple[Model, bool, float]:
    """Train with a log; the model, whether the training was interrupted, and the seconds it took.

    That the model cannot be written in the run directory is a warning where it is also written ``elsewhere``.
    """
    from diptych.ptycho.train import TrainingInterrupted, UnsavedModel, train

    began, interrupted = time.perf_counter(), False
    state = directory.path / "checkpoints" / "last.ckpt"
    if resume and not state.exists():
        LOGGER.warning("%s holds no checkpoint, so the training starts from the beginning", directory.path)
    with recorded(
        directory, state, resume=resume, kept="its last finished epoch is kept", nothing="no epoch was finished"
    ):
        with log_file(directory.log) as log:
            log.info("train on %s: %s; %s", ", ".join(file.name for file in files), options, trainer)
            try:
                model = train(
                    files,
                    options,
                    directory.path,
                    context.progress,
                    trainer=trainer,
                    load=load,
                    resume=resume,
                    cancel=context.cancel,
                )
            except TrainingInterrupted as stop:
                model, interrupted = stop.model, True
            except UnsavedModel as error:
                if not elsewhere:
                    raise
                LOGGER.warning("%s", error)
                model, interrupted = error.model, error.interrupted
            seconds = time.perf_counter() - began
            log.info("%s after %.1f s", "interrupted" if interrupted else "done", seconds)
        with unless_refused("the model is kept"):
            directory.write_json("summary.json", summarise(model, seconds))
        with unless_refused("the model is kept"):
            directory.set_status("interrupted" if interrupted else "done")
    return model, interrupted, seconds
