"""``evaluate`` and ``bound``: metrics of a result, and the photon limit of a scan."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from diptych.cli.console import progress_bars
from diptych.cli.generate import verb
from diptych.cli.output import Report, to_json
from diptych.cli.scans import Overwrite
from diptych.errors import InputError
from diptych.ptycho.evaluate.limit.options import BoundOptions
from diptych.ptycho.evaluate.options import EvaluationOptions
from diptych.ptycho.io import LoadOptions
from diptych.runtime.files import check_output, replacing, write_text
from diptych.runtime.option_fields import Choices

if TYPE_CHECKING:
    from diptych.ptycho.evaluate import Metrics
    from diptych.ptycho.scan import Reconstruction


@verb(EvaluationOptions, LoadOptions)
def evaluate(
    file: Annotated[Path, Parameter(help="A result (.h5, .npz).")],
    /,
    *,
    truth: Annotated[Path | None, Parameter(help="The truth: a simulated scan, or a reference result.")] = None,
    scan: Annotated[
        Path | None, Parameter(help="Without a truth: the scan, for the resolution from its halves.")
    ] = None,
    out: Annotated[Path | None, Parameter(help="Also write the numbers to this .csv or .json file.")] = None,
    figure: Annotated[
        Path | None, Parameter(help="Also draw the comparison, or the resolution curve, to this PNG.")
    ] = None,
    overwrite: Overwrite = False,
    choices: Choices,
) -> Report:
    """Compare a result with the truth, or reconstructions of the two halves of its scan with each other."""
    if (truth is None) == (scan is None):
        raise InputError(
            "evaluate",
            "needs exactly one reference",
            "either --truth FILE (a simulated scan or a reference result) or --scan FILE (measured data)",
        )
    from diptych.ptycho.io import load_result

    if out is not None:
        check_output(out, (".csv", ".json"), overwrite=overwrite)
    if figure is not None:
        check_output(figure, (".png",), overwrite=overwrite, option="--figure")
    result = load_result(file)
    metrics = against_truth(result, truth, choices) if truth is not None else against_itself(result, scan, choices)
    if out is not None:
        write_metrics(metrics, out)
    if figure is not None:
        draw(metrics, figure, compared=truth is not None)
    written = {name: str(path) for name, path in (("file", out), ("figure", figure)) if path is not None}
    return Report({"result": str(file), **metrics.to_dict(), **written}, [metrics.table()])


def against_truth(result: Reconstruction, truth: Path, choices: Choices) -> Metrics:
    """Metrics against the truth in a file."""
    from diptych.ptycho.evaluate import evaluate as measure
    from diptych.ptycho.io import load

    return measure(result, load(truth, choices[LoadOptions]), choices[EvaluationOptions])


def against_itself(result: Reconstruction, scan: Path | None, choices: Choices) -> Metrics:
    """Half-scan resolution, each half reconstructed with the options that made the result."""
    from diptych.ptycho.evaluate import evaluate_without_truth
    from diptych.ptycho.io import load_scan

    assert scan is not None
    with progress_bars() as progress:
        return evaluate_without_truth(
            load_scan(scan, choices[LoadOptions]), result, choices[EvaluationOptions], progress=progress
        )


def write_metrics(metrics: Metrics, path: Path) -> None:
    """Write metrics as JSON, or as CSV with the columns metric, value, unit, convention, gauge, reason, note."""
    if path.suffix.lower() == ".json":
        write_text(path, json.dumps(metrics.to_dict(), indent=2, allow_nan=False) + "\n")
        return
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["metric", "value", "unit", "convention", "gauge", "reason", "note"])
        for key, value in metrics.items():
            detail = metrics.details[key]
            writer.writerow(
                [key, repr(value), detail.unit, detail.convention, detail.gauge, detail.reason or "", detail.note or ""]
            )


def draw(metrics: Metrics, path: Path, *, compared: bool) -> None:
    """Draw result and truth side by side, or the resolution curve of the halves."""
    from diptych.ptycho.figures.overview import plot_comparison, plot_frc, save_figure

    if compared and metrics.alignment is None:
        raise InputError(
            "--figure", "images are aligned in the textbook convention only", remedy="Pass --convention both."
        )
    save_figure(
        plot_comparison(metrics.alignment) if compared and metrics.alignment is not None else plot_frc(metrics), path
    )


@verb(BoundOptions, LoadOptions)
def bound(
    file: Annotated[Path, Parameter(help="A scan.")],
    /,
    *,
    result: Annotated[
        Path | None, Parameter(help="A result of this scan; without it the truth of a simulated scan is used.")
    ] = None,
    out: Annotated[Path | None, Parameter(help="Also write the numbers to this .json file.")] = None,
    figure: Annotated[Path | None, Parameter(help="Also draw maps and spectrum to this PNG.")] = None,
    overwrite: Overwrite = False,
    choices: Choices,
) -> Report:
    """Compute the least error and the resolution that the photons of a scan allow."""
    from diptych.ptycho.evaluate import limit
    from diptych.ptycho.io import load_result, load_scan

    if out is not None:
        check_output(out, (".json",), overwrite=overwrite)
    if figure is not None:
        check_output(figure, (".png",), overwrite=overwrite, option="--figure")
    scan = load_scan(file, choices[LoadOptions])
    with progress_bars() as progress:
        found = limit.bound(
            scan, None if result is None else load_result(result), choices[BoundOptions], progress=progress
        )
    numbers = {"scan": str(file), **found.to_dict()}
    if out is not None:
        write_text(out, json.dumps(json.loads(to_json(numbers)), indent=2) + "\n")
    if figure is not None:
        from diptych.ptycho.figures.limit import plot_limit
        from diptych.ptycho.figures.panels import save_figure

        save_figure(plot_limit(found), figure)
    written = {name: str(path) for name, path in (("file", out), ("figure", figure)) if path is not None}
    return Report({**numbers, **written}, [found.statement()])
