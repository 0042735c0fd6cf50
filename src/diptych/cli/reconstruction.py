"""``reconstruct``: from a scan to a run directory."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from diptych.cli.console import progress_bars
from diptych.cli.generate import Choices, verb
from diptych.cli.output import Report, cell, table
from diptych.cli.runs import open_run, recorded
from diptych.cli.scans import Overwrite
from diptych.errors import InputError
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.ptycho.io import LoadOptions
from diptych.ptycho.neural.options import InferenceOptions
from diptych.runtime.device import ExecutionOptions
from diptych.runtime.files import check_output
from diptych.runtime.logging import LOGGER, log_file, logged
from diptych.runtime.provenance import provenance
from diptych.runtime.run_directory import MARK, RunDirectory, plain

if TYPE_CHECKING:
    from diptych.ptycho.scan import Reconstruction, Scan


@dataclass(frozen=True)
class Outcome:
    """A reconstruction and how it ended."""

    result: Reconstruction
    interrupted: bool
    seconds: float


@verb(LoadOptions, ReconstructionOptions, InferenceOptions, ExecutionOptions)
def reconstruct(
    file: Annotated[Path, Parameter(help="A scan.")],
    /,
    *,
    run: Annotated[Path | None, Parameter(help="Run directory; without it runs/<name of the scan>-<number>.")] = None,
    out: Annotated[Path | None, Parameter(help="Also write the result to this .h5 or .npz file.")] = None,
    model: Annotated[
        Path | None, Parameter(help="A trained network (.safetensors) whose image is the start, where it helps.")
    ] = None,
    resume: Annotated[
        bool, Parameter(help="Go on with the run in --run, from its last state and with its options.", negative=())
    ] = False,
    overwrite: Overwrite = False,
    choices: Choices,
) -> Report:
    """Reconstruct a scan and write a run directory."""
    from diptych.ptycho.io import load_scan, save

    if out is not None:
        check_output(out, (".h5", ".hdf5", ".npz"), overwrite=overwrite)
    if resume and run is None:
        raise InputError("--resume: pass --run DIR with the run to go on with.")
    if resume and run is not None and (run / "options.yaml").exists():
        choices = choices.above(run / "options.yaml")
        model = model or model_of(run)
    options = list(choices)
    scan = load_scan(file, choices[LoadOptions])
    if model is not None and not model.is_file():
        raise InputError(f"--model {model}: there is no such file; expected a trained network (.safetensors).")
    files = [*files_of(file, choices), *([] if model is None else [model])]
    record = {
        **provenance("reconstruct", choices[ExecutionOptions], files, options),
        "model": None if model is None else str(model),
    }
    directory = open_run(run, file.stem, record, resume=resume, overwrite=overwrite)
    directory.write_options(options)
    outcome, found = solve(
        directory,
        scan,
        choices[ReconstructionOptions],
        choices[ExecutionOptions],
        model=model,
        inference=choices[InferenceOptions],
        resume=resume,
    )
    if out is not None:
        save(outcome.result, out)
    return report(directory, found, interrupted=outcome.interrupted, out=out)


def model_of(run: Path) -> Path | None:
    """The trained network that an earlier run in this folder started from, by its record."""
    try:
        found = json.loads((run / MARK).read_text(encoding="utf-8")).get("model")
    except (OSError, ValueError, AttributeError):
        return None
    return Path(found) if isinstance(found, str) else None


def files_of(scan: Path, choices: Choices) -> list[Path]:
    """The files a run reads: the scan, the YAML file, and every option that names a file (a start, a probe)."""
    named = [Path(value) for model in choices for _, value in model if isinstance(value, str) and Path(value).is_file()]
    return [scan, *([choices.config] if choices.config is not None else []), *named]


def solve(
    directory: RunDirectory,
    scan: Scan,
    options: ReconstructionOptions,
    execution: ExecutionOptions,
    *,
    model: Path | None = None,
    inference: InferenceOptions | None = None,
    resume: bool = False,
) -> tuple[Outcome, dict[str, Any]]:
    """Reconstruct with a log, progress bars and checkpoints; write all that came of it into ``directory``; return it
    and its summary.
    """
    kept, nothing = "its state is kept", "there was no state to save yet"
    with (
        recorded(directory, directory.checkpoint, resume=resume, kept=kept, nothing=nothing),
        log_file(directory.log) as log,
    ):
        log.info("reconstruct %s (%d patterns): %s; %s", scan.name, len(scan), options, execution)
        outcome = _reconstruct(directory, scan, options, execution, model, inference, resume)
        for flag in outcome.result.flags:
            log.info("flag: %s", flag)
        log.info("%s after %.1f s", "interrupted" if outcome.interrupted else "done", outcome.seconds)
        found = write_result(directory, scan, outcome)
    return outcome, found


def write_result(directory: RunDirectory, scan: Scan, outcome: Outcome) -> dict[str, Any]:
    """Write ``result.h5``, ``metrics.csv``, the figures, ``summary.json`` and, last, how the run ended; return the
    summary.
    """
    from diptych.ptycho.figures.overview import save_figure
    from diptych.ptycho.io import save

    result = replace(outcome.result, provenance={**outcome.result.provenance, "run": plain(directory.record)})
    save(result, directory.result)
    directory.write_history(result.history)
    found = summary(scan, outcome)
    directory.write_json("summary.json", found)
    save_figure(result.plot(), directory.path / "result.png")
    save_figure(scan.plot(), directory.path / "scan.png")
    directory.set_status("interrupted" if outcome.interrupted else "done")
    return found


def summary(scan: Scan, outcome: Outcome) -> dict[str, Any]:
    """What an honest statement of the result needs, as JSON values; ``metrics`` is there when the scan carries its
    truth.
    """
    result, told = outcome.result, outcome.result.provenance
    found: dict[str, Any] = {
        "scan": scan.name,
        "patterns": len(scan),
        "photons_per_pattern": float(scan.counts.sum(axis=(1, 2), dtype="float64").mean()),
        **{
            key: told.get(key)
            for key in ("engine", "epochs", "best_epoch", "fit", "held_out_fit", "stop_reason", "device")
        },
        **{key: told[key] for key in ("start", "patterns_per_second") if key in told},
        "flags": list(result.flags),
        "seconds": round(outcome.seconds, 2),
        "object_shape": list(result.object.shape),
        "object_pixel_m": result.object.pixel_m,
        "probe_modes": len(result.probe),
    }
    if scan.truth is not None:
        from diptych.ptycho.evaluate import evaluate

        try:
            found["metrics"] = dict(evaluate(result, scan.truth))
        except InputError as error:
            found["no_metrics"] = str(error)
    return found


def statement(found: dict[str, Any]) -> str:
    """The summary in a few sentences that say no more than is known."""
    lines = [f"{found['patterns']} patterns, {found['photons_per_pattern']:.3g} photons each."]
    if found["engine"] == "network":
        lines += [
            f"Network alone: {found['patterns_per_second']:.0f} patterns per second on {found['device']}.",
            f"Fit {cell(found['fit'])} (1: explained down to shot noise).",
        ]
    else:
        stop = f"{found['seconds']:.1f} s on {found['device']}; stop: {found['stop_reason']}."
        fits = f"Fit {cell(found['fit'])} on fitted pixels, {cell(found['held_out_fit'])} on held-out ones"
        lines += [
            f"Engine {found['engine']}: {found['epochs']} epochs, {stop}",
            f"{fits} (1: explained down to shot noise).",
        ]
    if "start" in found:
        start = found["start"]
        fits = f"held-out fit {cell(start['network_fit'])}, of a flat object {cell(start['flat_fit'])}"
        lines.insert(
            1,
            f"Start: {'the network' if start['object'] == 'network' else 'flat, not the network'}: {start['why']} "
            f"({fits}).",
        )
    if "metrics" in found:
        metrics = found["metrics"]
        lines.append(
            f"Against the truth: complex error {cell(metrics['complex_error'])}, phase SSIM "
            f"{cell(metrics['phase_ssim'])}."
        )
    elif "no_metrics" in found:
        lines.append(f"The result cannot be compared with the truth in the scan: {found['no_metrics']}")
    else:
        lines.append(
            "No truth is known; `diptych evaluate RESULT --scan FILE` measures the resolution from two halves of "
            "the data."
        )
    return "\n".join([*lines, *(f"Flag: {flag}" for flag in found["flags"])])


def report(directory: RunDirectory, found: dict[str, Any], *, interrupted: bool, out: Path | None = None) -> Report:
    """What the command says of a finished or interrupted run."""
    places = {"run": str(directory.path), "result": str(directory.result), "figure": str(directory.path / "result.png")}
    if out is not None:
        places["out"] = str(out)
    again = f"go on with --run {directory.path} --resume"
    note = f"interrupted; the best state so far is saved in {directory.path} ({again})." if interrupted else ""
    data = {**places, "status": "interrupted" if interrupted else "done", **found}
    return Report(data, [statement(found), "", table(places)], code=130 if interrupted else 0, note=note)


def _reconstruct(
    directory: RunDirectory,
    scan: Scan,
    options: ReconstructionOptions,
    execution: ExecutionOptions,
    model: Path | None,
    inference: InferenceOptions | None,
    resume: bool,
) -> Outcome:
    from diptych.ptycho.reconstruct import Interrupted
    from diptych.ptycho.reconstruct import reconstruct as solve_scan

    started = time.perf_counter()
    interrupted = False
    if resume and not directory.checkpoint.exists():
        LOGGER.warning("%s holds no checkpoint, so the run starts from the beginning", directory.path)
    with progress_bars() as bars:
        try:
            result = solve_scan(
                scan,
                model,
                options,
                logged(bars),
                execution=execution,
                checkpoint=directory.checkpoint,
                resume=resume,
                inference=inference,
                folder=directory.path,
            )
        except Interrupted as stop:
            result, interrupted = stop.result, True
    return Outcome(result, interrupted, time.perf_counter() - started)
