"""Evaluate several results against one reference, on the area that all of them cover."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from diptych.errors import InputError
from diptych.ptycho.evaluate.align import Alignment, common_box, displacement
from diptych.ptycho.evaluate.comparison import Comparison
from diptych.ptycho.evaluate.evaluation import evaluate_images
from diptych.ptycho.evaluate.options import EvaluationOptions
from diptych.ptycho.evaluate.report import Metrics
from diptych.ptycho.physics.measured import Box, Light, light_of, scanned_box
from diptych.ptycho.scan import Canvas, Reconstruction, Scan

_LEAST_COVER = 0.5
"""Share of the scanned area that a result must cover; a smaller one would shrink the area of all."""

_GAUGES_DIFFER = (
    "the gauges differ, so more was removed from some methods than from others; gauge= (--gauge) makes them equal"
)


@dataclass(frozen=True)
class MethodResult:
    """The result of one method, with its time, or the reason why there is none.

    Parameters
    ----------
    result : Reconstruction, optional
        None when it failed.
    kind : str
        Kind of method, for instance ``"engine auto"``.
    seconds : float, optional
        Wall-clock time of the reconstruction.
    timed : str, optional
        ``"measured"`` here, or ``"recorded"`` in the result.
    patterns : int
        Patterns reconstructed in that time.
    error : str, optional
        Why it failed.
    """

    result: Reconstruction | None = None
    kind: str = ""
    seconds: float | None = None
    timed: str | None = None
    patterns: int = 0
    error: str | None = None


def score(
    scan: Scan, methods: Mapping[str, MethodResult], reference: str, truth: Canvas | None, options: EvaluationOptions
) -> Comparison:
    """Align every result with the reference and compute its metrics, all on one area.

    Parameters
    ----------
    scan : Scan
        Its positions bound the area.
    methods : mapping of str to MethodResult
        By name, in the order of the rows.
    reference : str
        ``"truth"``, or the name of the method that is the reference.
    truth : Canvas, optional
        (H, W) true object; None when a method is the reference.
    options : EvaluationOptions
        How to evaluate.

    Raises
    ------
    InputError
        If no method can be compared.
    """
    results = {name: method.result for name, method in methods.items() if method.result is not None}
    errors = {name: method.error for name, method in methods.items() if method.error is not None}
    canvas = truth if truth is not None else results[reference].object
    subjects = {
        name: replace(result, positions=scan.positions) for name, result in results.items() if name != reference
    }
    subjects, moves = _in_place(canvas, subjects, scan)
    canvas, notes = _covered(canvas, subjects, scan, errors)
    notes += [
        f"the object of {name!r} lies at ({dy}, {dx}) px (y, x) from its stated origin; it is compared where it agrees"
        for name, (dy, dx) in moves.items()
    ]
    known = None if truth is not None else light_of(results[reference])
    metrics, alignments = _measured(canvas, subjects, options, errors, known)
    if not alignments:
        reasons = "; ".join(f"{name}: {why}" for name, why in errors.items())
        raise InputError("compare", f"no method could be compared ({reasons})")
    if truth is None:
        notes.append(
            f"no truth was given: the method {reference!r} is the reference, so its errors are attributed to the others"
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
            _row(
                name,
                method,
                alignments.get(name),
                moves.get(name, (0, 0)),
                {**empty, **metrics.get(name, {})},
                errors.get(name),
            )
            for name, method in methods.items()
        ],
        details={name: each.details for name, each in metrics.items()},
        curves={name: replace(curve, label=name) for name, each in metrics.items() for curve in each.curves.values()},
        aligned={reference: common.values.astype(np.complex64), **aligned},
        mask=next(iter(alignments.values())).mask,
        pixel_m=next((pixel for pixel in pixels if pixel is not None), scan.pixel_m),
        notes=tuple(notes),
    )


def _in_place(
    reference: Canvas, subjects: Mapping[str, Reconstruction], scan: Scan
) -> tuple[dict[str, Reconstruction], dict[str, tuple[int, int]]]:
    """The results, those that cover too little moved to where they agree with the reference; and by how much (y, x)."""
    wanted = _wanted(reference, scan)
    placed, moves = dict(subjects), {}
    for name, subject in subjects.items():
        extent, (y, x) = subject.object.extent, subject.object.origin
        if _area(_overlap(extent, wanted)) >= _LEAST_COVER * _area(wanted):
            continue
        dy, dx = displacement(subject.object, reference, light=light_of(subject))
        if (dy, dx) != (0, 0):
            placed[name], moves[name] = (
                replace(subject, object=replace(subject.object, origin=(y - dy, x - dx))),
                (dy, dx),
            )
    return placed, moves


def _wanted(reference: Canvas, scan: Scan) -> Box:
    """The area to compare: what was scanned of the reference."""
    scanned = scanned_box(scan.positions)
    # A scan along a line bounds no area; then the reference does.
    return common_box(reference, reference, scanned if min(_sides(scanned)) > 1 else None)


def _covered(
    reference: Canvas, subjects: Mapping[str, Reconstruction], scan: Scan, errors: dict[str, str]
) -> tuple[Canvas, list[str]]:
    """The part of the reference that all results cover, and notes on results that limit it.

    A result that covers too little is added to ``errors``.
    """
    wanted = _wanted(reference, scan)
    box, notes = reference.extent, []
    for name, subject in subjects.items():
        share = _area(_overlap(subject.object.extent, wanted)) / _area(wanted)
        if share < _LEAST_COVER:
            y0, y1, x0, x1 = subject.object.extent
            errors[name] = (
                f"covers {100 * share:.0f} % of the area to compare (y {wanted[0]}..{wanted[1]}, x "
                f"{wanted[2]}..{wanted[3]}): its extent is "
                f"y {y0}..{y1}, x {x0}..{x1}; expected at least {100 * _LEAST_COVER:.0f} %. Check the origin of its "
                f"object."
            )
            continue
        if share < 1:
            notes.append(
                f"the result of {name!r} covers {100 * share:.0f} % of the scanned area, which limits the compared area"
            )
        box = _overlap(box, subject.object.extent)
    # Results that each cover half of the area may still have no part in common.
    if _area(box) == 0:
        raise InputError(
            "compare",
            "there is no area that all results cover",
            "results that overlap",
            "Compare fewer of them at a time, or check the origins of their objects.",
        )
    return reference.crop(*box), notes


def _measured(
    reference: Canvas,
    subjects: Mapping[str, Reconstruction],
    options: EvaluationOptions,
    errors: dict[str, str],
    counted: Light | None,
) -> tuple[dict[str, Metrics], dict[str, Alignment]]:
    """Metrics and alignments by method, on one box and the same pixels of it. A result that cannot be evaluated is
    added to ``errors``.

    Where alignment shifts a result, the box loses the edge that the shifted result does not cover, and pixels that are
    unlit in one result count in none. All are then evaluated again on the smaller area, until the areas are equal; they
    only shrink, so this terminates.
    """
    # Images are aligned by the textbook convention, whichever metrics are requested.
    both = options if options.convention != "ptychopinn" else options.with_changes(convention="both")
    while True:
        found: dict[str, Metrics] = {}
        alignments: dict[str, Alignment] = {}
        for name in (name for name in subjects if name not in errors):
            try:
                subject = subjects[name]
                found[name] = evaluate_images(subject, reference, subject.positions, both, light_of(subject), counted)
            except InputError as error:
                errors[name] = str(error)
                continue
            alignment = found[name].alignment
            assert alignment is not None
            alignments[name] = alignment
        boxes = {alignment.truth.extent for alignment in alignments.values()}
        if len(boxes) <= 1:
            masks = [alignment.counted for alignment in alignments.values()]
            common = np.logical_and.reduce(masks) if masks else np.ones(reference.shape, bool)
            if all(np.array_equal(mask, common) for mask in masks):
                return {name: _requested(metrics, options) for name, metrics in found.items()}, alignments
            ((y0, _, x0, _),) = boxes
            counted = Light(common.astype(np.float32), (y0, x0))
            continue
        first, *rest = boxes
        for box in rest:
            first = _overlap(first, box)
        reference = reference.crop(*first)


def _requested(metrics: Metrics, options: EvaluationOptions) -> Metrics:
    """The metrics of the conventions that were requested."""
    kept = [name for name in metrics if options.convention in ("both", metrics.details[name].convention)]
    return Metrics(
        {name: metrics[name] for name in kept}, {name: metrics.details[name] for name in kept}, curves=metrics.curves
    )


def _row(
    name: str,
    method: MethodResult,
    alignment: Alignment | None,
    moved: tuple[int, int],
    metrics: Mapping[str, float | None],
    error: str | None,
) -> dict[str, Any]:
    """The row of one method, whose object was ``moved`` before alignment; None where a value is unknown."""
    # Only the full gauge estimates a shift; with another gauge, 0 would be a value that was not measured.
    down, across = (None, None)
    if alignment is not None and (alignment.gauge == "full" or any(moved)):
        down, across = (shift + step for shift, step in zip(alignment.shift, moved, strict=True))
    return {
        "method": name,
        "kind": method.kind,
        "seconds": method.seconds,
        "timed": method.timed,
        "patterns_per_second": method.patterns / method.seconds if method.seconds and method.patterns else None,
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
