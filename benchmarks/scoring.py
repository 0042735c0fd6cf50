"""Compute the error of the images that a run recorded, and the times at which it fell below given levels."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import diptych

LEVELS = (0.2, 0.1, 0.05, 0.02)
"""Levels of the relative error of the complex object after removing scale, phase ramp and shift."""

Scorer = Callable[[NDArray[Any], tuple[float, float]], tuple[float, float]]
"""From an image (H, W) and the coordinate (y, x) of its pixel [0, 0] to complex error and phase SSIM."""


def own_scorer(scan: diptych.Scan) -> Scorer:
    """``diptych.evaluate`` on the box of the positions, full gauge."""
    assert scan.probe is not None
    probe = scan.probe

    def score(image: NDArray[Any], origin: tuple[float, float]) -> tuple[float, float]:
        canvas = diptych.Canvas(image, (round(origin[0]), round(origin[1])))
        result = diptych.Reconstruction(canvas, probe, scan.positions)
        metrics = diptych.evaluate(result, truth=scan, gauge="full")
        return metrics["complex_error"], metrics["phase_ssim"]

    return score


def scorer_from(path: Path, scan: diptych.Scan) -> Scorer:
    """``score(image, truth, y, x, origin)`` of a Python file, which returns a mapping with ``err`` and ``ssim_ph``."""
    spec = importlib.util.spec_from_file_location("scorer", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise SystemExit(f"--scorer {path}: cannot be read; expected a Python file that defines score().")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert scan.truth is not None
    truth, (y, x) = scan.truth.values, scan.positions.T

    def score(image: NDArray[Any], origin: tuple[float, float]) -> tuple[float, float]:
        found = module.score(image, truth, y, x, origin)
        return float(found["err"]), float(found["ssim_ph"])

    return score


def scored(folder: Path, scorer: Scorer, last_only: bool = False) -> dict[str, Any]:
    """Add to a run's record a ``curve``: epoch, seconds, error and phase SSIM of each image (or the last); NaN where it
    diverged.
    """
    record: dict[str, Any] = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    curve = []
    images = record.pop("images")
    for entry in images[-1:] if last_only else images:
        image = np.load(folder / entry["file"], allow_pickle=False)
        error, ssim = scorer(image, tuple(entry["origin"])) if np.isfinite(image).all() else (math.nan, math.nan)
        curve.append({"epoch": entry["epoch"], "seconds": entry["seconds"], "error": error, "phase_ssim": ssim})
    reached = {str(level): None if last_only else seconds_to(curve, level) for level in LEVELS}
    return {**record, "curve": curve, "seconds_to": reached}


def seconds_to(curve: list[dict[str, Any]], level: float) -> float | None:
    """Seconds at which the error first fell to ``level``, interpolated in its logarithm; None if it did not."""
    before: dict[str, Any] | None = None
    for point in curve:
        if point["error"] <= level:
            if before is None or not before["error"] > point["error"]:
                return float(point["seconds"])
            share = math.log(before["error"] / level) / math.log(before["error"] / point["error"])
            return float(before["seconds"] + share * (point["seconds"] - before["seconds"]))
        before = point
    return None
