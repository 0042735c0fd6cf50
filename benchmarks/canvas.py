"""Networks of a finished grid-lines study, without and with passes on the whole canvas, and the engine from a flat
object (PIE, then maximum likelihood) for as many epochs.

    diptych study grid-lines --standard --pattern-sizes 128 --gridsizes 2 --networks cnn --epochs 8 --run studies/lines
    python benchmarks/canvas.py studies/lines

Metrics are means over the test objects of each seed, then mean and standard deviation over the seeds.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

import diptych
from diptych.ptycho.neural.model import load_model
from diptych.ptycho.studies.base import Cell
from diptych.ptycho.studies.grid_lines import GridLinesOptions, scans_of
from diptych.ptycho.studies.training.scoring import measure

COLUMNS = {
    "complex_error": "complex error",
    "amplitude_ssim_ptychopinn": "amplitude SSIM",
    "phase_ssim_ptychopinn": "phase SSIM",
    "amplitude_mae_ptychopinn": "amplitude MAE",
    "phase_mae_ptychopinn": "phase MAE (rad)",
}


def main() -> None:
    """Evaluate every trained network of the study and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="folder of a grid-lines study")
    parser.add_argument("--passes", type=int, nargs="+", default=(0, 8, 32))
    given = parser.parse_args()
    manifest = json.loads((given.study / "manifest.json").read_text(encoding="utf-8"))
    options = GridLinesOptions.build(manifest["options"])
    found: dict[tuple[str, int, int, int], list[list[float]]] = defaultdict(list)
    for path in sorted(given.study.glob("cells/*/train/model.safetensors")):
        record = json.loads((given.study / "cells" / f"{path.parent.parent.name}.json").read_text(encoding="utf-8"))
        cell = Cell(record["key"], record["parameters"])
        _, tests = scans_of(cell, options, test_only=True)
        model = load_model(path)
        size, gridsize = cell.parameters["N"], cell.parameters["gridsize"]
        for passes in given.passes:
            results = [model.reconstruct(test, canvas_passes=passes) for test in tests]
            found[cell.parameters["network"], size, gridsize, passes].append(scores(results, tests))
            if passes:
                flat = [diptych.reconstruct(test, engine="ml", epochs=passes, probe="fixed") for test in tests]
                found["engine", size, gridsize, passes].append(scores(flat, tests))
    print("| method | N | g | passes or epochs | seeds | " + " | ".join(COLUMNS.values()) + " |")
    print("|---|---|---|---|---|" + "---|" * len(COLUMNS))
    for (name, size, gridsize, passes), rows in sorted(found.items(), key=lambda item: item[0][1:] + item[0][:1]):
        values = [f"{mean:.4f} ± {spread:.4f}" for mean, spread in zip(np.mean(rows, 0), np.std(rows, 0), strict=True)]
        print(f"| {name} | {size} | {gridsize} | {passes} | {len(rows)} | " + " | ".join(values) + " |")


def scores(results: list[diptych.Reconstruction], tests: list[diptych.Scan]) -> list[float]:
    """Mean of each metric over the test objects."""
    each = [measure(result, test) for result, test in zip(results, tests, strict=True)]
    return [float(np.mean([score[name] for score in each])) for name in COLUMNS]


if __name__ == "__main__":
    main()
