"""``reconstruct``: from a scan to a run directory."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from diptych.cli.console import progress_bars
from diptych.cli.generate import verb
from diptych.cli.output import Report, Verbatim, cell, steps, table
from diptych.cli.scans import Overwrite
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.ptycho.io import LoadOptions
from diptych.ptycho.neural.options import InferenceOptions
from diptych.runtime.device import ExecutionOptions
from diptych.runtime.jobs.context import Finished, JobContext
from diptych.runtime.option_fields import Choices

PATHS = ("run", "result", "figure", "report", "out")


@verb(LoadOptions, ReconstructionOptions, InferenceOptions, ExecutionOptions)
def reconstruct(
    file: Annotated[Path, Parameter(help="A scan.")],
    /,
    *,
    run: Annotated[Path | None, Parameter(help="Run directory; without it runs/<name of the scan>-<number>.")] = None,
    out: Annotated[Path | None, Parameter(help="Also write the result to this .h5 or .npz file.")] = None,
    model: Annotated[
        Path | None, Parameter(help="A trained network (.safetensors); its image is the initial guess if it fits.")
    ] = None,
    resume: Annotated[
        bool, Parameter(help="Continue the run in --run from its checkpoint, with its options.", negative=())
    ] = False,
    overwrite: Overwrite = False,
    with_report: Annotated[
        bool,
        Parameter(
            name="--report",
            help="Also write report.html into the run directory: choices, evidence, quality.",
            negative=(),
        ),
    ] = False,
    choices: Choices,
) -> Report:
    """Reconstruct a scan and write a run directory."""
    from diptych.ptycho.jobs import run_reconstruction

    with progress_bars() as bars:
        finished = run_reconstruction(
            file,
            run=run,
            out=out,
            model=model,
            resume=resume,
            overwrite=overwrite,
            report=with_report,
            config=choices.config,
            context=JobContext(bars),
            **options_of(choices, run, resume),
        )
    return report(finished)


def options_of(choices: Choices, run: Path | None, resume: bool) -> dict[str, Any]:
    """The options, over those of the run that is resumed."""
    if resume and run is not None and (run / "options.yaml").exists():
        choices = choices.above(run / "options.yaml")
    return {
        "load": choices[LoadOptions],
        "options": choices[ReconstructionOptions],
        "inference": choices[InferenceOptions],
        "execution": choices[ExecutionOptions],
    }


def statement(found: dict[str, Any]) -> str:
    """The summary in a few sentences."""
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
            f"Both are of the result{_epoch(found)}, on all pixels; metrics.csv follows each epoch on a sample of "
            "them, and can differ.",
        ]
    if "start" in found:
        start = found["start"]
        fits = f"held-out fit {cell(start['network_fit'])}, of a flat object {cell(start['flat_fit'])}"
        lines.insert(
            1,
            f"Start: {'the network' if start['object'] == 'network' else 'flat, not the network'}: {start['why']} "
            f"({fits}).",
        )
    if "network_result" in found:
        evidence = found["network_result"]
        which = "the network's image" if evidence["kept"] == "network" else "the engine's image, not the network's"
        lines.append(f"Result: {which}: {evidence['why']}.")
    if "metrics" in found:
        metrics = found["metrics"]
        lines.append(
            f"Against the truth: complex error {cell(metrics['complex_error'])}, phase SSIM "
            f"{cell(metrics['phase_ssim'])}."
        )
    elif "no_metrics" in found:
        lines.append(f"The result cannot be compared with the truth in the scan: {found['no_metrics']}")
    else:
        lines.append("No truth is known.")
    return "\n".join([*lines, *(f"Flag: {flag}" for flag in found["flags"])])


def _epoch(found: dict[str, Any]) -> str:
    """Which state the result is."""
    return "" if found.get("best_epoch") is None else f" (the state after epoch {found['best_epoch']})"


def _resolution(found: dict[str, Any]) -> Verbatim:
    """How to measure the resolution where no truth is known; otherwise nothing."""
    if "metrics" in found or "no_metrics" in found:
        return Verbatim("")
    command = f"diptych evaluate {shlex.quote(str(found.get('result', 'RESULT')))} --scan SCAN"
    return steps(("\nTo measure the resolution from two halves of the data", command))


def report(finished: Finished) -> Report:
    """The report on a finished or interrupted run."""
    found = finished.data
    paths = {name: found[name] for name in PATHS if name in found}
    interrupted = finished.status == "interrupted"
    note = (
        f"interrupted; the best state so far is saved in {found['run']} (continue with --run {found['run']} --resume)."
    )
    return Report(
        found,
        [statement(found), "", table(paths), _resolution(found)],
        code=130 if interrupted else 0,
        note=note if interrupted else "",
    )
