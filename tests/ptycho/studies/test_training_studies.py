"""The studies of trained networks, at the smallest size that runs every branch, and their reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import diptych
from diptych.errors import InputError
from diptych.ptycho.studies import STUDIES, StudyRun, run_study
from diptych.ptycho.studies.frontier import photon_limit
from diptych.ptycho.studies.generalisation import medians
from diptych.ptycho.studies.report import Table
from diptych.ptycho.studies.report_files import deltas, inventory, ssim_grid
from diptych.ptycho.studies.shootout import crash_table
from diptych.runtime.device import ExecutionOptions

pytest.importorskip("lightning")

CPU = ExecutionOptions(device="cpu", threads=1)
TINY: dict[str, Any] = {
    "size": "quick",
    "networks": ("cnn",),
    "network_options": ("cnn.width=4", "cnn.passes=1"),
    "epochs": 2,
}


def checked(run: StudyRun) -> StudyRun:
    """The run, after what holds of every finished study."""
    assert run.errors == {}
    # Whether a loss falls in a few updates on a few patterns is chance; the other checks must hold.
    wrong = [(check.name, check.found) for check in run.checks if not check.held]
    assert [each for each in wrong if not each[0].startswith("the loss of every training fell")] == []
    assert run.figure_errors == {}
    record = json.loads((run.folder / "verification.json").read_text())
    assert (record["all_valid"], record["evidence"]) == (not wrong, False)
    assert record["n_valid"] == len(run.checks) - len(wrong)
    listed = (run.folder / "inventory.txt").read_text().split()
    assert all((run.folder / name).is_file() for name in listed)
    assert {"summary.md", "results.csv", "figure.png"} <= set(listed)
    assert "no evidence" in (run.folder / "summary.md").read_text()
    return run


@pytest.mark.slow
def test_overlap_compares_all_methods_on_both_halves(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for view in ("dense", "sparse"):
            folder = tmp_path / "given" / "dose_10000" / view / split
            folder.mkdir(parents=True)
            true = diptych.simulate(object="natural", size=16, patterns=400, step=3.0, seed=42).truth
            assert true is not None
            np.savez(folder / "ptychi_reconstruction.npz", reconstructed_object=true.values, algorithm="pty-chi")
    run = checked(
        run_study(
            "overlap",
            tmp_path / "s",
            execution=CPU,
            **TINY,
            pattern_size=16,
            patterns=400,
            step=3.0,
            groups=40,
            doses=(1e4,),
            ptychi=str(tmp_path / "given"),
        )
    )
    tables = {table.name: table.rows for table in run.tables}
    assert {row["method"] for row in tables["metrics"]} == {"PtychoPINN", "Baseline", "Engine", "PtyChi"}
    assert {row["setting"] for row in tables["metrics"]} == {"scaled"}
    assert len(tables["metrics"]) == 2 * 2 * 4
    # What was given as the result of Pty-Chi is the truth.
    assert all(row["complex_error"] < 1e-3 for row in tables["metrics"] if row["method"] == "PtyChi")
    assert {row["minus"] for row in tables["deltas"]} == {"Baseline", "Engine", "PtyChi"}
    dense, sparse = (
        next(r for r in tables["overlap"] if (r["view"], r["split"]) == (v, "train")) for v in ("dense", "sparse")
    )
    assert dense["overlap_image"] > sparse["overlap_image"]
    assert (dense["n_groups_actual"], sparse["n_groups_actual"]) == (40, 11)


@pytest.mark.slow
def test_generalisation_has_medians_by_training_size(tmp_path: Path) -> None:
    run = checked(
        run_study(
            "generalisation",
            tmp_path,
            execution=CPU,
            **TINY | {"epochs": 8},
            object="blocks",
            pattern_size=16,
            step=3.0,
            test_patterns=100,
            train_sizes=(32, 64),
            repeats=2,
        )
    )
    rows = run.tables[1].rows
    assert [(row["method"], row["train_size"], row["n"]) for row in rows] == [
        ("PtychoPINN", 32, 2),
        ("PtychoPINN", 64, 2),
        ("Baseline", 32, 2),
        ("Baseline", 64, 2),
        ("Engine", 0, 2),
    ]
    assert all(row["complex_error_q25"] <= row["complex_error"] <= row["complex_error_q75"] for row in rows)
    assert {(row["method"], row["minus"]) for row in run.tables[2].rows} == {
        ("PtychoPINN", "Baseline"),
        ("PtychoPINN", "Engine"),
    }


def test_shootout_counts_endings(tmp_path: Path) -> None:
    run = checked(
        run_study(
            "shootout", tmp_path, execution=CPU, **TINY, pattern_size=16, patterns=49, clippings=("none", "agc:0.01")
        )
    )
    assert [(row["clipping"], row["trained"]) for row in run.tables[1].rows] == [("none", 1), ("agc:0.01", 1)]
    assert all(row["gradient_norm_max"] > 0 for row in run.tables[0].rows)
    ends = [
        {"method": "a", "clipping": "none", "learning_rate": 1.0, "ending": end}
        for end in ("diverged", "trained", "diverged")
    ]
    (line,) = crash_table(ends)
    assert (line["seeds"], line["trained"], line["collapsed"], line["diverged"]) == (3, 1, 0, 2)


@pytest.mark.slow
def test_frontier_has_the_photon_limit_and_the_started_engine(tmp_path: Path) -> None:
    run = checked(
        run_study(
            "frontier",
            tmp_path,
            execution=CPU,
            **TINY | {"epochs": 8},
            objects=("blocks",),
            pattern_size=16,
            patterns=144,
            doses=(1e5,),
        )
    )
    rows = {row["method"]: row for row in run.tables[1].rows}
    assert set(rows) == {"PtychoPINN", "Engine from PtychoPINN", "Baseline", "Engine"}
    assert rows["Engine"]["complex_error"] > 0.5 * rows["Engine"]["photon_limit"]
    assert rows["PtychoPINN"]["flops_per_pattern"] > 0


@pytest.mark.slow
def test_grid_lines_and_the_trained_dose_response(tmp_path: Path) -> None:
    run = checked(
        run_study("grid-lines", tmp_path / "g", execution=CPU, **TINY, object_size=128, train_step=16.0, test_step=16.0)
    )
    assert {row["method"] for row in run.tables[1].rows} == {"PtychoPINN", "Baseline", "Engine"}
    assert [(row["N"], row["train_patterns"]) for row in run.tables[0].rows][:1] == [(64, 25)]
    dose = checked(
        run_study(
            "dose-response",
            tmp_path / "d",
            execution=CPU,
            size="quick",
            objects=("blocks",),
            doses=(1e4,),
            repeats=1,
            patterns=36,
            training="grid",
            train_epochs=2,
        )
    )
    assert (tmp_path / "d" / "figures" / "dose_comparison.png").stat().st_size > 10_000
    photons = {(row["dose"], row["loss"]): row["photons"] for row in dose.tables[2].rows}
    assert photons[1e9, "mae"] == pytest.approx(1e9, rel=0.02)
    assert photons[1e4, "poisson"] == pytest.approx(1e4, rel=0.02)


def test_the_photon_limit_falls_with_the_root_of_the_dose() -> None:
    scans = [diptych.simulate(size=16, patterns=64, step=2.0, dose=dose, seed=0) for dose in (1e3, 1e5)]
    first, second = map(photon_limit, scans)
    assert first / second == pytest.approx(10, rel=1e-6)


def test_medians_and_deltas_leave_undefined_values_out_of_nothing() -> None:
    rows = [{"method": "a", "train_size": 8, "complex_error": value} for value in (1.0, 2.0, None)]
    assert medians(rows)[0]["complex_error"] is None
    known = [
        {"case": 1, "method": "Baseline", "x": 1.0},
        {"case": 1, "method": "a", "x": 0.25},
        {"case": 1, "method": "b", "x": None},
        {"case": 2, "method": "a", "x": 3.0},
    ]
    assert deltas(known, ("case",), ("Baseline",), ("x",)) == [
        {"case": 1, "method": "a", "minus": "Baseline", "x": -0.75},
        {"case": 1, "method": "b", "minus": "Baseline", "x": None},
    ]
    assert ssim_grid(known, ("case",), ("x",))[0] == {"case": 1, "Baseline x": 1.0, "a x": 0.25, "b x": None}


def test_ssim_has_three_decimals_and_mae_six() -> None:
    table = Table("t", "t", [{"amplitude_ssim": 0.98765, "phase_mae": 0.1234567, "other": 1234.56, "x_sd": None}])
    assert table.to_markdown().splitlines()[-1] == "| 0.988 | 0.123457 | 1235 |"


def test_what_was_changed_by_hand_fails_the_verification_and_a_bad_figure_fails_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call: dict[str, Any] = {"size": "quick", "objects": ("blocks",), "doses": (1e4,), "repeats": 1, "training": "off"}
    run = run_study("dose-response", tmp_path, execution=CPU, patterns=36, **call)
    assert run.verified
    (cell,) = (tmp_path / "cells").glob("*.json")
    record = json.loads(cell.read_text())
    cell.write_text(json.dumps({**record, "values": {**record["values"], "photons": 99.0}}))

    def broken(*args: Any, **kwargs: Any) -> None:
        raise ValueError("no such colour")

    monkeypatch.setattr("diptych.ptycho.figures.studies.plot_curves", broken)
    again = run_study("dose-response", tmp_path, execution=CPU, patterns=36, **call)
    assert again.status == "done"
    assert again.figure_errors == {"figure.png": "ValueError: no such colour"}
    assert [check.name for check in again.checks if not check.held] == [
        "measured photons per pattern are the dose within 5 %"
    ]
    assert "no such colour" in (tmp_path / "summary.md").read_text()
    assert inventory(tmp_path) == sorted(inventory(tmp_path))


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        ({"networks": ("magic",)}, "network 'magic' is not known"),
        ({"network_options": ("cnn.magic=1",)}, "names no option of a network"),
        ({"network_options": ("cnn",)}, "NETWORK.OPTION=VALUE"),
        ({"network_options": ("cnn.width=0",)}, "width"),
        ({"clippings": ("hard:1",)}, "clipping 'hard:1' is not known"),
    ],
)
def test_wrong_options_are_input_errors(options: dict[str, Any], phrase: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=phrase):
        run_study("shootout", tmp_path, dry_run=True, **options)


@pytest.mark.parametrize("name", STUDIES.names())
@pytest.mark.parametrize("size", ["quick", "standard", "full"])
def test_every_study_has_a_plan_of_every_size(name: str, size: str, tmp_path: Path) -> None:
    plan = run_study(name, tmp_path, size=size, dry_run=True)
    assert plan.cells
    assert plan.hours > 0
    assert 2**28 < plan.memory_bytes < 2**34


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("shootout", 15),
        ("grid-lines", 20),
        ("generalisation", 34),
        ("overlap", 46),
        ("dose-response", 82),
        ("frontier", 116),
    ],
)
def test_the_predicted_time_of_a_quick_study_is_the_measured_one(name: str, seconds: float, tmp_path: Path) -> None:
    """CPU seconds of one core, of the table in docs/studies.md."""
    plan = run_study(name, tmp_path / "s", size="quick", dry_run=True)
    assert seconds / 1.5 < plan.hours * 3600 < 1.5 * seconds
