"""The report of a run: one HTML file that says what was chosen, on what evidence, and how good the result is."""

from __future__ import annotations

import math
from pathlib import Path

from diptych.errors import InputError
from diptych.ptycho.evaluate.report import Metrics
from diptych.ptycho.figures.overview import plot_frc, plot_reconstruction, plot_scan
from diptych.ptycho.figures.report import content, page
from diptych.ptycho.figures.slices import plot_slices
from diptych.ptycho.repeat import command_line, python
from diptych.ptycho.scan import Reconstruction, Scan
from diptych.runtime.files import write_text

__all__ = ["report"]

CHOICES = ("", "chosen", "evidence")


def report(
    result: Reconstruction, path: str | Path, *, scan: Scan | None = None, metrics: Metrics | None = None
) -> Path:
    """Write a page on a result: choices and their evidence, flags, quality, what to try next, and how to repeat it.

    One file with its pictures inside, without scripts; it opens without a network, and every text in it is escaped.

    Parameters
    ----------
    result : Reconstruction
        The result; what its provenance does not state is called not known.
    path : path
        The .html file; replaced where it exists.
    scan : Scan, optional
        Adds its picture.
    metrics : Metrics, optional
        Of :func:`diptych.evaluate` (against a truth) or
        :func:`~diptych.ptycho.evaluate.evaluate_without_truth` (two halves); adds values and the ring correlation.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If the suffix is not .html, or ``result`` is no Reconstruction.

    Examples
    --------
    >>> import diptych
    >>> scan = diptych.simulate(object="blocks", size=16, patterns=25, step=2.0, seed=0)
    >>> result = diptych.reconstruct(scan, engine="rpie", epochs=5)
    >>> diptych.report(result, "report.html", scan=scan).name
    'report.html'
    """
    path = Path(path)
    if not isinstance(result, Reconstruction):
        raise InputError("report", f"got a {type(result).__name__}", "a Reconstruction")
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(path, f"the suffix is {path.suffix!r}", ".html")
    steps = content.next_steps(result, resolution=bool(metrics and metrics.curves))
    parts = [
        *_summary(result),
        page.picture(plot_reconstruction(result), "Object, probe and history"),
        *([] if result.slices is None else [page.picture(plot_slices(result), "Slices along the beam")]),
        *_flags(result),
        *_quality(result, metrics),
        page.heading("What was chosen, and why"),
        page.table(CHOICES, content.chosen(result)),
        *_reading(result),
        *([] if scan is None else [page.picture(plot_scan(scan), "The scan: mean pattern, positions, initial probe")]),
        page.heading("What to try next"),
        page.listing(steps or ["Nothing stands out."]),
        *_repeat(result),
    ]
    write_text(path, page.page(f"Reconstruction of {result.provenance.get('scan', result.name)}", parts))
    return path


def _summary(result: Reconstruction) -> list[str]:
    about, count = result.provenance, len(result.flags)
    held = about.get("held_out_fit")
    said = f"{len(result.positions)} patterns of {result.probe.shape[-1]} x {result.probe.shape[-1]} pixels"
    flags = "no flags" if not count else "1 flag" if count == 1 else f"{count} flags"
    said += f", held-out fit {content.number(held)} (1: explained down to photon noise), {flags}."
    return [page.paragraph(said), page.paragraph(content.judgement(held).capitalize() + ".", "note")]


def _flags(result: Reconstruction) -> list[str]:
    if not result.flags:
        return []
    return [page.heading("Flags, with remedies"), *(page.paragraph(flag, "flag") for flag in result.flags)]


def _quality(result: Reconstruction, metrics: Metrics | None) -> list[str]:
    parts = [page.heading("How good it is"), page.table(("", "value", "meaning"), content.quality(result))]
    if metrics is None:
        return parts
    rows = [
        (
            name,
            "undefined" if math.isnan(value) else f"{value:.4g} {metrics.details[name].unit}",
            metrics.details[name].reason or metrics.details[name].note or "",
        )
        for name, value in metrics.items()
    ]
    parts.append(page.table(("metric", "value", "remark"), rows))
    gauges = dict.fromkeys(detail.gauge for detail in metrics.details.values())
    parts += [page.paragraph(f"Compared after: {gauge}", "note") for gauge in gauges]
    if metrics.curves:
        parts.append(page.picture(plot_frc(metrics), "Fourier ring correlation"))
    return parts


def _reading(result: Reconstruction) -> list[str]:
    parts = [page.heading("How the file was read")]
    rows = content.readings(result)
    parts.append(page.table(("", "read as", "from"), rows) if rows else page.paragraph("Not from a file.", "note"))
    if out := content.left_out(result):
        parts += [page.paragraph("Looked for and left out:"), page.table(("", "found"), out)]
    return parts


def _repeat(result: Reconstruction) -> list[str]:
    arguments, origin = content.arguments(result), content.origin(result)
    parts = [page.heading("Repeat it")]
    if arguments["file"] == "SCAN":
        parts.append(page.paragraph("The file of the scan is not recorded: put its name in the place of SCAN.", "note"))
    parts += [page.code(command_line(arguments)), page.code(python(arguments))]
    return [*parts, page.heading("Provenance"), page.table(("", ""), origin)] if origin else parts
