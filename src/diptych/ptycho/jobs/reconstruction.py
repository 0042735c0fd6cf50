"""A reconstruction in a run directory: options, log, checkpoints, result, figures and summary."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.errors import InputError, UnavailableError
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.ptycho.io import LoadOptions
from diptych.ptycho.neural.options import InferenceOptions
from diptych.runtime.device import ExecutionOptions
from diptych.runtime.files import check_output, unless_refused
from diptych.runtime.jobs.context import Finished, JobContext, ending
from diptych.runtime.jobs.runs import open_run, options_from, recorded
from diptych.runtime.logging import LOGGER, log_file, logged
from diptych.runtime.options import Options
from diptych.runtime.provenance import provenance, shareable
from diptych.runtime.run_directory import PATHS, RunDirectory, plain

if TYPE_CHECKING:
    from diptych.ptycho.scan import Reconstruction, Scan

RESERVE = 100_000
"""Bytes of a result's file beside its arrays (names, history, options): 20 to 60 kB in small ones."""

REPORT = "report.html"
"""Name of the report in a run directory."""

SUFFIXES = (".h5", ".hdf5", ".npz")


@dataclass(frozen=True)
class Solved:
    """A reconstruction, whether it was interrupted, and how long it took."""

    result: Reconstruction
    interrupted: bool
    seconds: float


@dataclass(frozen=True)
class FinishedReconstruction(Finished):
    """What :func:`run_reconstruction` returns: paths and summary as ``data``, and the result itself.

    Parameters
    ----------
    directory : RunDirectory
        The run directory.
    result : Reconstruction
        The result; the best state so far where the run was interrupted.
    """

    directory: RunDirectory | None = None
    result: Reconstruction | None = None


def run_reconstruction(
    file: str | Path,
    *,
    run: str | Path | None = None,
    out: str | Path | None = None,
    model: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    load: LoadOptions | Mapping[str, Any] | None = None,
    options: ReconstructionOptions | Mapping[str, Any] | None = None,
    inference: InferenceOptions | Mapping[str, Any] | None = None,
    execution: ExecutionOptions | Mapping[str, Any] | None = None,
    config: str | Path | None = None,
    context: JobContext | None = None,
    report: bool = False,
) -> FinishedReconstruction:
    """Reconstruct a scan and write a run directory.

    Parameters
    ----------
    file : path
        The scan.
    run : path, optional
        Run directory; without it ``runs/<name of the scan>-<number>``.
    out : path, optional
        Also write the result to this .h5 or .npz file.
    model : path, optional
        A trained network whose image is the initial guess.
    resume : bool
        Continue the run in ``run`` from its checkpoint; scan and options must be the same.
    overwrite : bool
        Replace an earlier run in ``run`` and the file ``out``.
    load, options, inference, execution : options or mapping, optional
        How the scan is read, how it is reconstructed, how the network is run, and where.
    config : path, optional
        The YAML file that options came from; its SHA-256 is recorded.
    context : JobContext, optional
        Progress, cancel token, and who is told of the run directory.
    report : bool
        Also write ``report.html``; see :func:`diptych.report`.

    Raises
    ------
    InputError
        If the scan, an option or a path is wrong.
    KeyboardInterrupt
        When interrupted before there is a state to save; the message says what is in the run directory.
    """
    from diptych.ptycho.io import load_scan

    context = context or JobContext()
    if out is not None:
        check_output(Path(out), SUFFIXES, overwrite=overwrite)
    if resume and run is None:
        raise InputError("--resume", "there is no run to continue", remedy="Pass --run DIR with the folder of the run.")
    if resume and run is not None:
        model = model or model_of(Path(run))
    resumed = run if resume else None
    reading = options_from(LoadOptions, load, resumed)
    how = options_from(ReconstructionOptions, options, resumed)
    network = options_from(InferenceOptions, inference, resumed)
    where = options_from(ExecutionOptions, execution, resumed)
    models: list[Options] = [reading, how, network, where]
    scan = load_scan(Path(file), reading)
    if model is not None and not Path(model).is_file():
        raise InputError(f"--model {model}", "there is no such file", "a trained network (.safetensors)")
    files = [*inputs_of(file, models, config), *([] if model is None else [Path(model)])]
    record = {
        **provenance("reconstruct", where, files, models),
        "model": None if model is None else shareable(model),
        "load_options": shareable(reading.model_dump(mode="json", exclude_defaults=True)),
    }
    directory = open_run(run, Path(file).stem, record, context, resume=resume, overwrite=overwrite)
    directory.write_options(models)
    if model is not None:
        directory.write_json(PATHS, {"model": str(Path(model).absolute())})
    solved, summary = solve_in(
        directory,
        scan,
        how,
        where,
        context,
        model=None if model is None else Path(model),
        inference=network,
        resume=resume,
        out=None if out is None else Path(out),
    )
    if report:
        _write_report(directory, scan)
    written = paths_of(directory) | ({"report": str(directory.path / REPORT)} if report else {})
    paths = {name: path for name, path in written.items() if Path(path).exists()}
    if out is not None and Path(out).exists():
        paths["out"] = str(out)
    status = ending(solved.interrupted)
    return FinishedReconstruction({**paths, "status": status, **summary}, status, directory, solved.result)


def paths_of(directory: RunDirectory) -> dict[str, str]:
    """What a finished reconstruction has written, by name."""
    return {
        "run": str(directory.path),
        "result": str(directory.result),
        "figure": str(directory.path / "result.png"),
    }


def _write_report(directory: RunDirectory, scan: Scan) -> None:
    """Write the report of the result in a run directory; with metrics where the scan carries its truth."""
    from diptych.ptycho.evaluate import evaluate
    from diptych.ptycho.io import load_result

    result, metrics = load_result(directory.result), None
    if scan.truth is not None:
        try:
            metrics = evaluate(result, scan.truth)
        except InputError as error:
            LOGGER.info("the report is without metrics: %s", error)
    with unless_refused("the result is kept"):
        result.report(directory.path / REPORT, scan=scan, metrics=metrics)


def model_of(run: Path) -> Path | None:
    """The trained network that an earlier run in this folder started from."""
    try:
        found = json.loads((run / PATHS).read_text(encoding="utf-8")).get("model")
    except (OSError, ValueError, AttributeError):
        return None
    return Path(found) if isinstance(found, str) else None


def inputs_of(scan: str | Path, models: Iterable[Options], config: str | Path | None) -> list[Path]:
    """The files a run reads: the scan, the YAML file, and every option that names a file (a start, a probe)."""
    named = [Path(value) for model in models for _, value in model if isinstance(value, str) and Path(value).is_file()]
    return [Path(scan), *([Path(config)] if config is not None else []), *named]


def solve_in(
    directory: RunDirectory,
    scan: Scan,
    options: ReconstructionOptions,
    execution: ExecutionOptions,
    context: JobContext,
    *,
    model: Path | None = None,
    inference: InferenceOptions | None = None,
    resume: bool = False,
    out: Path | None = None,
) -> tuple[Solved, dict[str, Any]]:
    """Reconstruct with a log and checkpoints, and write everything into ``directory``; the result and its summary."""
    kept, nothing = "its state is kept", "there was no state to save yet"
    with (
        recorded(directory, directory.checkpoint, resume=resume, kept=kept, nothing=nothing),
        log_file(directory.log) as log,
    ):
        log.info("reconstruct %s (%d patterns): %s; %s", scan.name, len(scan), options, execution)
        solved = _solve(directory, scan, options, execution, context, model, inference, resume)
        for flag in solved.result.flags:
            log.info("flag: %s", flag)
        log.info("%s after %.1f s", "interrupted" if solved.interrupted else "done", solved.seconds)
        summary = write_result(directory, scan, solved, out)
    return solved, summary


def write_result(directory: RunDirectory, scan: Scan, solved: Solved, out: Path | None = None) -> dict[str, Any]:
    """Write ``result.h5``, ``metrics.csv``, ``summary.json``, the figures and, last, the status; return the summary.

    A file system that refuses any of the files after the result is a warning.

    Parameters
    ----------
    out : Path, optional
        Another file for the result.

    Raises
    ------
    UnavailableError
        If the result cannot be written anywhere; the message names the file and the bytes that are needed.
    """
    from diptych.ptycho.figures.overview import save_figure
    from diptych.ptycho.figures.slices import plot_slices

    provenance = {**solved.result.provenance, "run": plain(directory.record)}
    result = replace(solved.result, provenance=shareable(provenance))
    _save_result(directory, result, out)
    kept = "the result is kept"
    with unless_refused(kept):
        directory.write_history(result.history)
    summary = summarise(scan, solved)
    with unless_refused(kept):
        directory.write_json("summary.json", summary)
    for item, name in ((result, "result.png"), (scan, "scan.png")):
        with unless_refused(kept):
            save_figure(item.plot(), directory.path / name)
    if result.slices is not None:
        with unless_refused(kept):
            save_figure(plot_slices(result), directory.path / "slices.png")
    with unless_refused(kept):
        directory.set_status("interrupted" if solved.interrupted else "done")
    return summary


def _save_result(directory: RunDirectory, result: Reconstruction, out: Path | None) -> None:
    """Write the result into the run directory and to ``out``; one of them must succeed."""
    from diptych.ptycho.io import save

    paths = [directory.result, *([] if out is None else [out])]
    refused: list[UnavailableError] = []
    for path in paths:
        try:
            save(result, path)
        except UnavailableError as error:
            refused.append(error)
    if len(refused) == len(paths) and _saved_instead_of_the_state(directory, result):
        refused = refused[1:]
    if len(refused) == len(paths):
        kept = directory.checkpoint.exists()
        remedy = f"Free some space and continue with --run {directory.path} --resume." if kept else ""
        raise UnavailableError(f"{refused[0]} {remedy}".strip()) from refused[0].__cause__
    for failure in refused:
        LOGGER.warning("%s", failure)


def _saved_instead_of_the_state(directory: RunDirectory, result: Reconstruction) -> bool:
    """Write the result in the space of the checkpoint where a full disk has no other; whether that was done.

    The checkpoint is written back if the result is refused all the same.
    """
    from diptych.ptycho.io import bytes_of, save

    state = directory.checkpoint
    free, needed = shutil.disk_usage(directory.path).free, bytes_of(result) + RESERVE
    if not state.exists() or free >= needed or state.stat().st_size + free < needed:
        return False
    content = state.read_bytes()
    state.unlink()
    try:
        save(result, directory.result)
    except BaseException as error:
        state.write_bytes(content)
        if isinstance(error, UnavailableError):
            return False
        raise
    LOGGER.warning("%s: removed, to make space for the result; the run cannot be resumed", state)
    return True


def summarise(scan: Scan, solved: Solved) -> dict[str, Any]:
    """Numbers by which a result is judged, as JSON values; ``metrics`` only when the scan carries its truth."""
    result, info = solved.result, solved.result.provenance
    counts = float(scan.counts.sum(axis=(1, 2), dtype="float64").mean())
    summary: dict[str, Any] = {
        "scan": scan.name,
        "patterns": len(scan),
        "photons_per_pattern": counts / float(info.get("counts_per_photon", 1.0)),
        **{
            key: info.get(key)
            for key in ("engine", "epochs", "best_epoch", "fit", "held_out_fit", "stop_reason", "device")
        },
        **{key: info[key] for key in ("start", "network_result", "patterns_per_second") if key in info},
        "flags": list(result.flags),
        "seconds": round(solved.seconds, 2),
        "object_shape": list(result.object.shape),
        "object_pixel_m": result.object.pixel_m,
        "probe_modes": len(result.probe),
    }
    if scan.truth is not None:
        from diptych.ptycho.evaluate import evaluate

        try:
            summary["metrics"] = dict(evaluate(result, scan.truth))
        except InputError as error:
            summary["no_metrics"] = str(error)
    return summary


def _solve(
    directory: RunDirectory,
    scan: Scan,
    options: ReconstructionOptions,
    execution: ExecutionOptions,
    context: JobContext,
    model: Path | None,
    inference: InferenceOptions | None,
    resume: bool,
) -> Solved:
    from diptych.ptycho.reconstruct import Interrupted, reconstruct

    started = time.perf_counter()
    interrupted = False
    if resume and not directory.checkpoint.exists():
        LOGGER.warning("%s holds no checkpoint, so the run starts from the beginning", directory.path)
    try:
        result = reconstruct(
            scan,
            model,
            options,
            logged(context.progress),
            cancel=context.cancel,
            execution=execution,
            checkpoint=directory.checkpoint,
            resume=resume,
            inference=inference,
            folder=directory.path,
        )
    except Interrupted as stop:
        result, interrupted = stop.result, True
    return Solved(result, interrupted, time.perf_counter() - started)
