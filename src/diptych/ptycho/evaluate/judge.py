"""Judges results alike: one reference, one area, one set of metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from diptych.errors import InputError
from diptych.ptycho.evaluate.align import Alignment, common_box
from diptych.ptycho.evaluate.comparison import Comparison
from diptych.ptycho.evaluate.evaluation import evaluate
from diptych.ptycho.evaluate.halves import scanned_box
from diptych.ptycho.evaluate.options import EvaluationOptions
from diptych.ptycho.evaluate.report import Box, Metrics
from diptych.ptycho.scan import Canvas, Reconstruction, Scan

_LEAST_COVER = 0.5
"""Share of the scanned area that an arm must cover: less would have all arms judged on a corner."""

_GAUGES_DIFFER = (
    "the gauges differ, so more was removed from some arms than from others; gauge= (--gauge) makes them equal"
)


@dataclass(frozen=True)
class Outcome:
    """What became of an arm.

    Parameters
    ----------
    result : Reconstruction, optional
        None when it failed.
    kind : str
        What the arm is, for instance ``"engine auto"``.
    seconds : float, optional
        Time taken.
    timed : str, optional
        ``"measured"`` here, or ``"recorded"`` in the result.
    patterns : int
        Patterns that the time was taken for.
    error : str, optional
        Why it failed.
    """

    result: Reconstruction | None = None
    kind: str = ""
    seconds: float | None = None
    timed: str | None = None
    patterns: int = 0
    error: str | None = None


def judge(
    scan: Scan, outcomes: Mapping[str, Outcome], reference: str, truth: Canvas | None, options: EvaluationOptions
) -> Comparison:
    """Align every result with the reference and measure it, all on one area.

    Parameters
    ----------
    scan : Scan
        Its positions bound the area.
    outcomes : mapping of str to Outcome
        By arm, in the order of the rows.
    reference : str
        ``"truth"``, or the arm that is the reference.
    truth : Canvas, optional
        The true object; None when an arm is the reference.
    options : EvaluationOptions
        How to judge.

    Raises
    ------
    InputError
        If no arm can be compared.
    """
    results = {name: outcome.result for name, outcome in outcomes.items() if outcome.result is not None}
    errors = {name: outcome.error for name, outcome in outcomes.items() if outcome.error is not None}
    canvas = truth if truth is not None else results[reference].object
    subjects = {
        name: replace(result, positions=scan.positions) for name, result in results.items() if name != reference
    }
    canvas, notes = _covered(canvas, subjects, scan, errors)
    metrics, alignments = _measured(canvas, subjects, options, errors)
    if not alignments:
        raise InputError(
            "compare: no arm could be compared: " + "; ".join(f"{name}: {why}" for name, why in errors.items())
        )
    if truth is None:
        notes.append(
            f"no truth was given: the arm {reference!r} is the reference, and its own errors count against the others"
        )
    if len({alignment.gauge for alignment in alignments.values()}) > 1:
        notes.append(_GAUGES_DIFFER)
    empty: dict[str, float | None] = {key: None for each in metrics.values() for key in each}
    common = next(iter(alignments.values())).truth
    pixels = (image.pixel_m for image in (common, *(result.object for result in results.values())))
    aligned = {name: alignment.result.values.astype(np.complex64) for name, alignment in alignments.items()}
    return Comparison(
        scan=scan.name,
        reference=reference,
        box=common.extent,
        rows=[
            _row(name, outcome, alignments.get(name), {**empty, **metrics.get(name, {})}, errors.get(name))
            for name, outcome in outcomes.items()
        ],
        details={name: each.details for name, each in metrics.items()},
        curves={name: replace(curve, label=name) for name, each in metrics.items() for curve in each.curves.values()},
        aligned={reference: common.values.astype(np.complex64), **aligned},
        pixel_m=next((pixel for pixel in pixels if pixel is not None), scan.pixel_m),
        notes=tuple(notes),
    )


def _covered(
    reference: Canvas, subjects: Mapping[str, Reconstruction], scan: Scan, errors: dict[str, str]
) -> tuple[Canvas, list[str]]:
    """The part of the reference that all arms cover, and who limits it. An arm that covers too little goes to
    ``errors``.
    """
    scanned = scanned_box(scan.positions)
    # A scan along a line bounds no area; then the reference does.
    wanted = common_box(reference, reference, scanned if min(_sides(scanned)) > 1 else None)
    box, notes = reference.extent, []
    for name, subject in subjects.items():
        share = _area(_overlap(subject.object.extent, wanted)) / _area(wanted)
        if share < _LEAST_COVER:
            y0, y1, x0, x1 = subject.object.extent
            errors[name] = (
                f"covers {100 * share:.0f} % of the area to compare (y {wanted[0]}..{wanted[1]}, x "
                f"{wanted[2]}..{wanted[3]}): it lies at "
                f"y {y0}..{y1}, x {x0}..{x1}; expected at least {100 * _LEAST_COVER:.0f} %. Check the origin of its "
                f"object."
            )
            continue
        if share < 1:
            notes.append(
                f"the arm {name!r} covers {100 * share:.0f} % of the scanned area, which limits the area for all"
            )
        box = _overlap(box, subject.object.extent)
    # Arms that cover half of the area each may still have no part in common.
    if _area(box) == 0:
        raise InputError(
            "compare: there is no area that all arms cover; compare fewer of them at a time, or check their origins."
        )
    return reference.crop(*box), notes


def _measured(
    reference: Canvas, subjects: Mapping[str, Reconstruction], options: EvaluationOptions, errors: dict[str, str]
) -> tuple[dict[str, Metrics], dict[str, Alignment]]:
    """Metrics and alignments by arm, on one box. An arm that cannot be measured goes to ``errors``.

    A shift takes from an arm the edge that it does not reach. The others are then measured again without that edge,
    until all agree; the area only shrinks, so it ends.
    """
    # The images are aligned by the textbook convention, whichever metrics are asked for.
    both = options if options.convention != "ptychopinn" else options.with_changes(convention="both")
    while True:
        found: dict[str, Metrics] = {}
        alignments: dict[str, Alignment] = {}
        for name in (name for name in subjects if name not in errors):
            try:
                found[name] = evaluate(subjects[name], reference, both)
            except InputError as error:
                errors[name] = str(error)
                continue
            alignment = found[name].alignment
            assert alignment is not None
            alignments[name] = alignment
        boxes = {alignment.truth.extent for alignment in alignments.values()}
        if len(boxes) <= 1:
            return {name: _asked(metrics, options) for name, metrics in found.items()}, alignments
        first, *rest = boxes
        for box in rest:
            first = _overlap(first, box)
        reference = reference.crop(*first)


def _asked(metrics: Metrics, options: EvaluationOptions) -> Metrics:
    """The metrics of the conventions that were asked for."""
    kept = [name for name in metrics if options.convention in ("both", metrics.details[name].convention)]
    return Metrics(
        {name: metrics[name] for name in kept}, {name: metrics.details[name] for name in kept}, curves=metrics.curves
    )


def _row(
    name: str, outcome: Outcome, alignment: Alignment | None, metrics: Mapping[str, float | None], error: str | None
) -> dict[str, Any]:
    """The numbers of one arm; None where there is none."""
    # Only the full gauge looks for a shift; elsewhere 0 would claim what was not measured.
    down, across = alignment.shift if alignment is not None and alignment.gauge == "full" else (None, None)
    return {
        "arm": name,
        "kind": outcome.kind,
        "seconds": outcome.seconds,
        "timed": outcome.timed,
        "patterns_per_second": outcome.patterns / outcome.seconds if outcome.seconds and outcome.patterns else None,
        "shift_y_px": down,
        "shift_x_px": across,
        "gauge": None if alignment is None else alignment.gauge,
        **metrics,
        "error": error,
    }


def _overlap(a: Box, b: Box) -> Box:
    y0, x0 = max(a[0], b[0]), max(a[2], b[2])
    return y0, max(y0, min(a[1], b[1])), x0, max(x0, min(a[3], b[3]))


def _sides(box: Box) -> tuple[int, int]:
    return box[1] - box[0], box[3] - box[2]


def _area(box: Box) -> int:
    return _sides(box)[0] * _sides(box)[1]
