"""What a comparison found, as the page shows it; from results alone, or from a run of ``diptych compare``."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import DiptychError, InputError
from diptych.ptycho.evaluate import Metrics, evaluate
from diptych.ptycho.evaluate.comparison import COLUMNS, TRUTH
from diptych.ptycho.evaluate.options import EvaluationOptions
from diptych.ptycho.physics.measured import Box, light_of
from diptych.ptycho.scan import Reconstruction

Curve = tuple[list[float], list[float]]
"""Frequencies (fraction of Nyquist) and correlations."""

MAIN = ("complex_error", "phase_rms_rad", "amplitude_ssim", "phase_ssim", "frc50")
"""Metrics of the short table, in its order."""


@dataclass(frozen=True, eq=False)
class Compared:
    """Several results against one reference.

    Parameters
    ----------
    reference : str
        Name of the result the others are compared with, or ``truth``.
    values : dict of str to dict of str to float
        By result and metric; NaN where undefined.
    details : dict of str to dict of str to dict
        By result and metric: ``unit``, ``convention``, ``gauge``, ``reason``, ``note``, ``box``.
    curves : dict of str to Curve
        Fourier ring correlation of each result with the reference.
    aligned : dict of str to (H, W) complex64
        The reference and the results aligned with it, on one box.
    mask : (H, W) bool, optional
        Pixels that count.
    origin : (int, int)
        Coordinate (y, x) of pixel [0, 0] of the aligned images.
    pixel_m : (float, float), optional
        Pixel (y, x) in metres.
    notes : tuple of str
        Remarks.
    errors : dict of str to str
        Why a result could not be compared.
    """

    reference: str
    values: dict[str, dict[str, float]]
    details: dict[str, dict[str, dict[str, Any]]]
    curves: dict[str, Curve]
    aligned: dict[str, NDArray[np.complex64]]
    mask: NDArray[np.bool_] | None = None
    origin: tuple[int, int] = (0, 0)
    pixel_m: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def others(self) -> list[str]:
        """The aligned results but for the reference."""
        return [name for name in self.aligned if name != self.reference]

    @property
    def metrics(self) -> list[str]:
        """Names of all metrics, the main ones first."""
        found = list(dict.fromkeys(name for each in self.values.values() for name in each))
        return [name for name in MAIN if name in found] + [name for name in found if name not in MAIN]

    @property
    def gauges(self) -> dict[str, str]:
        """What was removed before comparing, by result."""
        return {
            name: "; ".join(dict.fromkeys(str(detail.get("gauge", "")) for detail in details.values()))
            for name, details in self.details.items()
        }

    def rows(self) -> list[dict[str, str]]:
        """The table: one row per metric, one column per result, the reason where a value is undefined."""
        out = []
        for metric in self.metrics:
            unit = next((str(d[metric].get("unit", "")) for d in self.details.values() if metric in d), "")
            row = {"metric": f"{metric} ({unit})" if unit else metric}
            for name, values in self.values.items():
                detail = self.details.get(name, {}).get(metric, {})
                row[name] = _shown(values.get(metric), detail)
            out.append(row)
        return out

    def to_csv(self) -> str:
        """One line per result and metric, with the columns of ``comparison.csv``."""
        stream = io.StringIO(newline="")
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for name, values in self.values.items():
            for metric, value in values.items():
                about = self.details.get(name, {}).get(metric, {})
                more = (str(about.get(key) or "") for key in ("unit", "convention", "gauge", "reason", "note"))
                writer.writerow((name, metric, repr(float(value)), *more))
        for name, why in self.errors.items():
            writer.writerow((name, "error", "nan", "", "", "", why, ""))
        return stream.getvalue()

    def curves_csv(self) -> str:
        """The ring correlations: result, frequency as a fraction of Nyquist, correlation."""
        stream = io.StringIO(newline="")
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("model", "frequency", "correlation"))
        for name, (frequency, correlation) in self.curves.items():
            writer.writerows((name, repr(f), repr(c)) for f, c in zip(frequency, correlation, strict=True))
        return stream.getvalue()


def compare_results(
    results: Mapping[str, Reconstruction], reference: str, options: EvaluationOptions | None = None
) -> Compared:
    """Compare results with one of them, by :func:`diptych.evaluate`; no scan is needed.

    Parameters
    ----------
    results : mapping of str to Reconstruction
        By the name that tables show.
    reference : str
        One of the names.
    options : EvaluationOptions, optional
        Gauge, convention, area.

    Raises
    ------
    InputError
        If there is nothing to compare, or no result can be compared with the reference.
    """
    if reference not in results or len(results) < 2:
        raise InputError("compare", f"found {len(results)} results", "at least two, one of them the reference")
    base = results[reference]
    values: dict[str, dict[str, float]] = {}
    details: dict[str, dict[str, dict[str, Any]]] = {}
    curves: dict[str, Curve] = {}
    found: dict[str, Metrics] = {}
    errors: dict[str, str] = {}
    for name, result in results.items():
        if name == reference:
            continue
        try:
            metrics = evaluate(result, truth=base, options=options)
        except DiptychError as error:
            errors[name] = str(error)
            continue
        found[name] = metrics
        values[name] = dict(metrics)
        details[name] = {key: asdict(detail) for key, detail in metrics.details.items()}
        if metrics.curves:
            curve = next(iter(metrics.curves.values()))
            curves[name] = _curve(curve.frequency, curve.correlation)
    if not found:
        reasons = "; ".join(f"{name}: {why}" for name, why in errors.items())
        raise InputError("compare", f"no result can be compared with {reference}: {reasons}")
    aligned, mask, origin = _on_one_box(reference, base, found)
    notes = ("Each result is compared on the area it shares with the reference.",)
    return Compared(reference, values, details, curves, aligned, mask, origin, base.object.pixel_m, notes, errors)


def read_comparison(folder: Path) -> Compared:
    """The comparison in a run directory of ``diptych compare``. Raises InputError where its files do not hold one."""
    try:
        about = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
        with np.load(folder / "aligned.npz", allow_pickle=False) as arrays:
            aligned = {name: arrays[name] for name in arrays.files if name not in ("origin", "pixel_m")}
            origin = (int(arrays["origin"][0]), int(arrays["origin"][1]))
        rows = {row["method"]: row for row in about["rows"]}
        details = about["details"]
        values = {name: {metric: _number(rows[name].get(metric)) for metric in each} for name, each in details.items()}
        pixel = about["pixel_m"]
        return Compared(
            about["reference"],
            values,
            details,
            _read_curves(folder / "frc.csv"),
            aligned,
            None,
            origin,
            None if pixel is None else (float(pixel[0]), float(pixel[1])),
            tuple(about["notes"]),
            {name: str(row["error"]) for name, row in rows.items() if row.get("error")},
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        why = f"holds no comparison that can be read ({type(error).__name__}: {error})"
        raise InputError(folder, why, "a run directory of diptych compare") from None


def display_name(reference: str) -> str:
    """What a reference is called on the page."""
    return "the true object" if reference == TRUTH else reference


def _on_one_box(
    reference: str, base: Reconstruction, found: Mapping[str, Metrics]
) -> tuple[dict[str, NDArray[np.complex64]], NDArray[np.bool_] | None, tuple[int, int]]:
    """Reference and aligned results on the box that all of them cover, with its lit pixels and its origin."""
    alignments = {name: metrics.alignment for name, metrics in found.items() if metrics.alignment is not None}
    if not alignments:
        return {}, None, (0, 0)
    boxes = [alignment.truth.extent for alignment in alignments.values()]
    box: Box = (
        max(each[0] for each in boxes),
        min(each[1] for each in boxes),
        max(each[2] for each in boxes),
        min(each[3] for each in boxes),
    )
    if box[0] >= box[1] or box[2] >= box[3]:
        return {}, None, (0, 0)
    images = {name: np.asarray(each.result.crop(*box).values, np.complex64) for name, each in alignments.items()}
    images = {reference: np.asarray(base.object.crop(*box).values, np.complex64), **images}
    light = light_of(base)
    return images, None if light is None else light.mask(box), (box[0], box[2])


def _read_curves(path: Path) -> dict[str, Curve]:
    curves: dict[str, Curve] = {}
    with path.open(encoding="utf-8", newline="") as stream:
        for line in csv.DictReader(stream):
            frequency, correlation = curves.setdefault(line["model"], ([], []))
            frequency.append(float(line["frequency"]))
            correlation.append(float(line["correlation"]))
    return curves


def _curve(frequency: NDArray[Any], correlation: NDArray[Any]) -> Curve:
    return [float(f) for f in frequency], [float(c) for c in correlation]


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _shown(value: float | None, detail: Mapping[str, Any]) -> str:
    if value is None:
        return "-"
    if not math.isfinite(value):
        return f"undefined: {detail.get('reason') or 'not a number'}"
    return f"{value:.4g}"
