"""``diptych evaluate``: numbers with their conventions, as a table, JSON and CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diptych.ptycho.evaluate import evaluate
from diptych.ptycho.io import save
from diptych.ptycho.scan import Reconstruction, Scan

Cli = Callable[..., Any]


@pytest.fixture
def result(scan: Scan, tmp_path: Path) -> Reconstruction:
    """The truth with 1 % of noise, as ``result.h5``."""
    rng = np.random.default_rng(0)
    values = scan.truth.values + 0.01 * (
        rng.normal(size=scan.truth.shape) + 1j * rng.normal(size=scan.truth.shape)
    ).astype(np.complex64)
    made = Reconstruction(replace(scan.truth, values=values), scan.probe, scan.positions)
    save(made, tmp_path / "result.h5")
    return made


def test_the_numbers_are_those_of_python(cli: Cli, scan: Scan, scan_file: Path, result: Reconstruction) -> None:
    done = cli("evaluate", "result.h5", "--truth", scan_file, "--json")
    assert done.code == 0, done.err
    expected = evaluate(result, scan)
    assert done.json["metrics"]["complex_error"] == pytest.approx(expected["complex_error"], rel=1e-6)
    assert done.json["metrics"]["phase_ms_ssim"] is None
    assert "176" in done.json["details"]["phase_ms_ssim"]["reason"]
    assert "complex_error" in cli("evaluate", "result.h5", "--truth", scan_file).out


def test_csv_and_json_files_hold_each_value_with_its_conventions(
    cli: Cli, scan_file: Path, result: Reconstruction
) -> None:
    told = cli("evaluate", "result.h5", "--truth", scan_file, "--out", "m.csv", "--figure", "m.png", "--json").json
    rows = {row["metric"]: row for row in csv.DictReader(Path("m.csv").read_text().splitlines())}
    assert float(rows["complex_error"]["value"]) == told["metrics"]["complex_error"]
    assert rows["phase_ms_ssim"]["value"] == "nan"
    assert "176" in rows["phase_ms_ssim"]["reason"]
    assert rows["phase_rms_rad"]["unit"] == "rad"
    assert Path("m.png").read_bytes().startswith(b"\x89PNG")
    assert cli("evaluate", "result.h5", "--truth", scan_file, "--out", "m.json").code == 0
    assert json.loads(Path("m.json").read_text())["metrics"] == told["metrics"]


def test_a_figure_needs_aligned_images(cli: Cli, scan_file: Path, result: Reconstruction) -> None:
    done = cli("evaluate", "result.h5", "--truth", scan_file, "--convention", "ptychopinn", "--figure", "m.png")
    assert done.code == 2
    assert "Pass --convention both" in done.err


def test_without_a_truth_the_scan_is_halved(
    cli: Cli, scan_file: Path, result: Reconstruction, monkeypatch: pytest.MonkeyPatch, scan: Scan
) -> None:
    seen: dict[str, Any] = {}

    def halves(scan: Scan, result: Reconstruction, options: Any, progress: Any) -> Any:
        seen.update(patterns=len(scan), result=result, split=options.split)
        return evaluate(result, truth)

    truth = scan
    monkeypatch.setattr("diptych.ptycho.evaluate.evaluate_without_truth", halves)
    assert cli("evaluate", "result.h5", "--scan", scan_file, "--split", "thinning").code == 0
    assert (seen["patterns"], seen["split"]) == (36, "thinning")
    assert isinstance(seen["result"], Reconstruction)


@pytest.mark.parametrize(
    ("argv", "phrase"),
    [
        (["small.npz", "--truth", "small.npz"], "expected a result"),
        (["result.h5", "--scan", "result.h5"], "expected a scan"),
        (["result.h5", "--truth", "small.npz", "--scan", "small.npz"], "either --truth FILE"),
        (["result.h5", "--truth", "small.npz", "--out", "m.txt"], ".csv or .json"),
    ],
)
def test_wrong_files_are_named(cli: Cli, scan_file: Path, result: Reconstruction, argv: list[str], phrase: str) -> None:
    done = cli("evaluate", *argv)
    assert done.code == 2
    assert phrase in done.err
