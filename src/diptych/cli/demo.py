"""``demo``: reconstruct a measured scan, for a first look."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from diptych.cli.console import progress_bars
from diptych.cli.generate import verb
from diptych.cli.output import Report
from diptych.cli.reconstruction import report
from diptych.errors import UnavailableError
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.ptycho.simulate import SimulationOptions
from diptych.runtime.device import ExecutionOptions
from diptych.runtime.jobs.context import Finished, JobContext
from diptych.runtime.logging import LOGGER
from diptych.runtime.option_fields import Choices
from diptych.runtime.provenance import provenance
from diptych.runtime.run_directory import MARK, RunDirectory

if TYPE_CHECKING:
    from diptych.ptycho.scan import Reconstruction, Scan

DATASET = "siemens-star"
STAND_IN = SimulationOptions(object="siemens-star", probe_error=1.0)
"""Simulated when the measured scan could not be downloaded."""


@verb(ExecutionOptions)
def demo(
    *,
    run: Annotated[Path, Parameter(help="Folder to write; an earlier demo in it is replaced.")] = Path("demo"),
    offline: Annotated[
        bool, Parameter(help="Do not use the network: take the cached copy, or a simulated scan.", negative=())
    ] = False,
    frc: Annotated[
        bool, Parameter(help="Also measure the resolution, by two more reconstructions.", negative=())
    ] = False,
    choices: Choices,
) -> Report:
    """Reconstruct the measured Siemens star, or a simulated one where there is no network."""
    # By default more modes and positions are tried, which takes minutes with this scan.
    execution, options = choices[ExecutionOptions], ReconstructionOptions(modes=1, correct_positions="off")
    record = provenance("demo", execution, [], [options])
    directory = RunDirectory.create(run, record, overwrite=is_demo(run))
    try:
        scan, source = obtain(offline)
    except BaseException:
        directory.discard()
        raise
    directory.set_status("running", source=source)
    directory.write_options([options, execution])
    from diptych.ptycho.jobs.reconstruction import paths_of, solve_in

    with progress_bars() as bars:
        solved, summary = solve_in(directory, scan, options, execution, JobContext(bars))
    status: Literal["done", "interrupted"] = "interrupted" if solved.interrupted else "done"
    shown = report(Finished({**paths_of(directory), "status": status, **summary}, status))
    text, data = [f"Scan: {source['scan']}", *shown.text], {**shown.data, "source": source}
    if frc and not solved.interrupted:
        data["frc"], lines = resolution(directory, scan, solved.result)
        text.append(lines)
    return Report(data, text, shown.code, shown.note)


def is_demo(run: Path) -> bool:
    """Whether the folder holds an earlier demo, which a new one may replace."""
    try:
        return bool(json.loads((run / MARK).read_text(encoding="utf-8")).get("command") == "demo")
    except (OSError, ValueError, AttributeError):
        return False


def obtain(offline: bool) -> tuple[Scan, dict[str, Any]]:
    """The measured scan and its source, or a simulated one and the reason."""
    from diptych.ptycho.datasets import dataset_info, fetch
    from diptych.ptycho.simulate import simulate

    with progress_bars() as progress:
        about = dataset_info(DATASET)
        reason = "--offline was given and there is no cached copy"
        if about["cached"] or not offline:
            try:
                scan = fetch(DATASET, progress=progress)
            except UnavailableError as error:
                reason = str(error)
                LOGGER.warning("the measured scan could not be obtained, so a simulated one is used: %s", reason)
            else:
                return scan, {"scan": f"{about['title']}, measured; {about['origin']} ({about['licence']})", **about}
        return simulate(STAND_IN, progress=progress), {
            "scan": "a simulated Siemens star, not a measured one",
            "reason": reason,
        }


def resolution(directory: RunDirectory, scan: Scan, result: Reconstruction) -> tuple[dict[str, Any], str]:
    """Half-scan resolution, its figure ``frc.png``, and its table."""
    from diptych.ptycho.evaluate import evaluate_without_truth
    from diptych.ptycho.figures.overview import plot_frc, save_figure

    with progress_bars() as progress:
        metrics = evaluate_without_truth(scan, result, progress=progress)
    if metrics.curves:
        save_figure(plot_frc(metrics), directory.path / "frc.png")
    return metrics.to_dict(), metrics.table()
