"""The examples run as scripts in an empty folder."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import diptych

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run(name: str, folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_run_here() -> None:
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {path.stem for path in EXAMPLES.glob("*.py")} <= tested


@pytest.mark.integration
def test_first_reconstruction(tmp_path: Path) -> None:
    output = run("first_reconstruction", tmp_path, "--size", "32", "--patterns", "64", "--out", "here")
    folder = tmp_path / "here"
    assert {path.name for path in folder.iterdir()} == {
        "scan.png",
        "result.h5",
        "result.npz",
        "result.png",
        "comparison.png",
    }
    error = re.search(r"complex error ([\d.]+)", output)
    assert error is not None
    # Fails if metres, sign of the stage, mask or coordinates of the truth are wrong.
    assert float(error[1]) < 0.15
    assert "flag" not in output
    first, second = diptych.load(folder / "result.h5"), diptych.load(folder / "result.npz")
    assert isinstance(first, diptych.Reconstruction)
    assert isinstance(second, diptych.Reconstruction)
    np.testing.assert_array_equal(first.object.values, second.object.values)
    assert first.object.pixel_m is not None


@pytest.mark.integration
def test_dose_and_resolution(tmp_path: Path) -> None:
    run("dose_and_resolution", tmp_path, "--size", "32", "--patterns", "81", "--epochs", "20", "--out", "here")
    with (tmp_path / "here" / "doses.csv").open(newline="", encoding="utf-8") as stream:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)]
    assert [row["photons_per_pattern"] for row in rows] == [1e3, 1e4, 1e5]
    errors = [row["complex_error"] for row in rows]
    # Ten times the photons lower the error of a well-posed problem by about sqrt(10).
    assert errors[0] > 1.5 * errors[1] > 2.25 * errors[2]
    assert (tmp_path / "here" / "frc.png").stat().st_size > 10_000
