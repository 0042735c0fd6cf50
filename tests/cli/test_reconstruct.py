"""``diptych reconstruct``: what lies in the run directory, and what is said."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from diptych.errors import InputError, UnavailableError
from diptych.ptycho.io import load, save
from diptych.ptycho.scan import Reconstruction

Cli = Callable[..., Any]


def record(path: Path) -> Any:
    return json.loads((path / "provenance.json").read_text())


def test_a_run_leaves_all_that_a_reader_needs(cli: Cli, scan_file: Path, tmp_path: Path) -> None:
    done = cli("reconstruct", scan_file, "--run", "run", "--out", "again.npz", "--epochs", 12, "--seed", 5)
    run = tmp_path / "run"
    assert done.code == 0, done.err
    assert {entry.name for entry in run.iterdir()} == {
        *("options.yaml", "provenance.json", "log.txt", "metrics.csv", "summary.json"),
        *("result.h5", "checkpoint.npz", "result.png", "scan.png"),
    }
    told = record(run)
    assert told["status"] == "done"
    assert told["inputs"][0]["sha256"] == hashlib.sha256(scan_file.read_bytes()).hexdigest()
    assert told["seeds"] == {"ReconstructionOptions.seed": 5}
    assert {"python", "torch", "numpy", "diptych"} <= set(told["versions"])
    options = yaml.safe_load((run / "options.yaml").read_text())
    assert (options["epochs"], options["seed"], options["engine"], options["domain"]) == (12, 5, "auto", "auto")
    rows = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    assert [float(row["epoch"]) for row in rows] == list(range(1, 13))
    result, again = load(run / "result.h5"), load("again.npz")
    assert isinstance(result, Reconstruction)
    assert result.provenance["run"]["inputs"] == told["inputs"]
    np.testing.assert_array_equal(result.object.values, again.object.values)
    for figure in ("result.png", "scan.png"):
        assert (run / figure).read_bytes().startswith(b"\x89PNG")
    assert "INFO done after" in (run / "log.txt").read_text()


def test_the_statement_gives_fit_stop_photons_flags_and_error(cli: Cli, scan_file: Path, solver: Any) -> None:
    done = cli("reconstruct", scan_file, "--run", "run")
    text = " ".join(done.out.split())
    assert "36 patterns, 1e+05 photons each" in text
    assert "stop: it was told to" in text
    assert "Fit 1.25 on fitted pixels, 1.5 on held-out" in text
    assert "Both are of the result" in text
    assert "metrics.csv follows each epoch on a sample of them" in text
    assert "Against the truth: complex error" in text
    assert "Flag: a flag" in text
    assert "run/result.h5" in text
    done = cli("reconstruct", scan_file, "--run", "other", "--json")
    assert done.json["metrics"]["complex_error"] < 1e-6
    assert done.json["fit"] == 1.25
    assert done.json["flags"] == ["a flag"]
    assert json.loads(Path("other/summary.json").read_text())["held_out_fit"] == 1.5


def test_runs_are_numbered_by_scan(cli: Cli, scan_file: Path, solver: Any) -> None:
    places = [cli("reconstruct", scan_file, "--json").json["run"] for _ in range(2)]
    assert places == ["runs/small-1", "runs/small-2"]


def test_an_earlier_run_is_safe(cli: Cli, scan_file: Path, solver: Any, tmp_path: Path) -> None:
    assert cli("reconstruct", scan_file, "--run", "run").code == 0
    before = (tmp_path / "run" / "result.h5").read_bytes()
    again = cli("reconstruct", scan_file, "--run", "run", "--seed", 9)
    assert again.code == 2
    assert "--overwrite" in again.err
    assert (tmp_path / "run" / "result.h5").read_bytes() == before
    assert cli("reconstruct", scan_file, "--run", "run", "--seed", 9, "--overwrite").code == 0
    assert record(tmp_path / "run")["seeds"] == {"ReconstructionOptions.seed": 9}


def test_wrong_input_leaves_no_run_directory(cli: Cli, scan_file: Path, solver: Any, tmp_path: Path) -> None:
    solver.fails = InputError("the start does not fit")
    assert cli("reconstruct", scan_file, "--run", "run").code == 2
    assert cli("reconstruct", scan_file).code == 2
    assert not (tmp_path / "run").exists()
    assert not list((tmp_path / "runs").iterdir())


def test_a_failure_is_recorded(cli: Cli, scan_file: Path, solver: Any, tmp_path: Path) -> None:
    solver.fails = ZeroDivisionError("division by zero")
    assert cli("reconstruct", scan_file, "--run", "run").code == 1
    told = record(tmp_path / "run")
    assert (told["status"], told["error"]) == ("failed", "ZeroDivisionError('division by zero')")


def test_resume_takes_the_runs_options_and_flags_win_over_them(
    cli: Cli, scan_file: Path, solver: Any, tmp_path: Path
) -> None:
    solver.interrupts = True
    done = cli("reconstruct", scan_file, "--run", "run", "--engine", "dm", "--seed", 4, "--json")
    assert (done.code, done.json["status"]) == (130, "interrupted")
    solver.interrupts = False
    assert cli("reconstruct", scan_file, "--run", "run", "--resume", "--epochs", 9).code == 0
    first, second = solver.calls
    assert (first["resume"], second["resume"]) == (False, True)
    assert first["checkpoint"] == second["checkpoint"] == Path("run/checkpoint.npz")
    assert (second["options"].engine, second["options"].seed, second["options"].epochs) == ("dm", 4, 9)
    assert [earlier["status"] for earlier in record(tmp_path / "run")["earlier"]] == ["interrupted"]


def test_a_disk_that_fills_up_after_hours_of_work_costs_no_state(
    cli: Cli, scan_file: Path, solver: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(item: Any, path: Path) -> Path:
        raise UnavailableError(f"{path}: could not be written (No space left on device).")

    monkeypatch.setattr("diptych.ptycho.io.save", full)
    done = cli("reconstruct", scan_file, "--run", "run")
    refused = "error: run/result.h5: could not be written (No space left on device)."
    remedy = "Free some space and continue with --run run --resume."
    assert (done.code, done.err) == (1, f"{refused} {remedy}\n")
    assert (tmp_path / "run" / "checkpoint.npz").exists()
    assert record(tmp_path / "run")["status"] == "failed"


def test_a_result_that_is_refused_in_the_space_of_the_state_costs_no_state(
    cli: Cli, scan_file: Path, solver: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    state, there = tmp_path / "run" / "checkpoint.npz", []

    def full(item: Any, path: Path) -> Path:
        there.append(state.exists())
        raise UnavailableError(f"{path}: could not be written (No space left on device).")

    monkeypatch.setattr("diptych.ptycho.io.save", full)
    monkeypatch.setattr("diptych.ptycho.io.bytes_of", lambda item: 0)
    monkeypatch.setattr("diptych.ptycho.jobs.reconstruction.RESERVE", 1)
    monkeypatch.setattr("diptych.ptycho.jobs.reconstruction.shutil.disk_usage", lambda path: SimpleNamespace(free=0))
    assert cli("reconstruct", scan_file, "--run", "run").code == 1
    assert there == [True, False]
    assert state.exists()
    assert record(tmp_path / "run")["status"] == "failed"


def test_ctrl_c_while_results_are_written_says_that_the_state_is_kept(
    cli: Cli, scan_file: Path, solver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(item: Any, path: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr("diptych.ptycho.io.save", interrupted)
    done = cli("reconstruct", scan_file, "--run", "run")
    assert done.code == 130
    assert "its state is kept (continue with --run run --resume)" in done.err


def test_a_truth_that_does_not_fit_costs_no_result(
    cli: Cli, scan_file: Path, solver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def misfit(result: Any, truth: Any) -> Any:
        raise InputError("the images do not overlap")

    monkeypatch.setattr("diptych.ptycho.evaluate.evaluate", misfit)
    done = cli("reconstruct", scan_file, "--run", "run")
    assert done.code == 0
    assert "cannot be compared with the truth in the scan: the images do not overlap" in " ".join(done.out.split())


def test_a_measured_scan_is_not_compared_with_anything(cli: Cli, scan: Any, solver: Any) -> None:
    save(replace(scan, truth=None, true_probe=None), Path("measured.npz"))
    done = cli("reconstruct", "measured.npz", "--run", "run")
    assert done.code == 0
    assert "No truth is known" in done.out
    assert "metrics" not in json.loads(Path("run/summary.json").read_text())


def test_a_resumed_run_that_is_refused_is_left_as_it_was(
    cli: Cli, scan_file: Path, solver: Any, tmp_path: Path
) -> None:
    assert cli("reconstruct", scan_file, "--run", "run", "--modes", 3).code == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.name != "log.txt"}
    solver.fails = InputError("other options")
    assert cli("reconstruct", scan_file, "--run", "run", "--resume", "--modes", 2).code == 2
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.name != "log.txt"} == before
    solver.fails = None
    assert cli("reconstruct", scan_file, "--run", "run", "--resume").code == 0
    assert solver.calls[-1]["options"].modes == 3


def test_a_resumed_run_that_fails_later_says_so(cli: Cli, scan_file: Path, solver: Any, tmp_path: Path) -> None:
    assert cli("reconstruct", scan_file, "--run", "run").code == 0
    solver.fails = UnavailableError("the disk is full")
    assert cli("reconstruct", scan_file, "--run", "run", "--resume").code == 1
    assert (tmp_path / "run" / "result.h5").exists()
    assert record(tmp_path / "run")["status"] == "failed"


def test_resuming_with_another_scan_is_refused(cli: Cli, scan_file: Path, solver: Any) -> None:
    assert cli("reconstruct", scan_file, "--run", "run").code == 0
    assert cli("simulate", "--out", "other.npz", "--size", 16, "--patterns", 9).code == 0
    done = cli("reconstruct", "other.npz", "--run", "run", "--resume")
    assert done.code == 2
    assert "used other data" in done.err


def test_resuming_without_a_checkpoint_says_that_it_starts_again(cli: Cli, scan_file: Path, solver: Any) -> None:
    assert cli("reconstruct", scan_file, "--run", "run").code == 0
    Path("run/checkpoint.npz").unlink()
    done = cli("reconstruct", scan_file, "--run", "run", "--resume")
    assert done.code == 0
    assert "warning: run holds no checkpoint" in done.err


def test_files_that_options_name_are_recorded(cli: Cli, scan_file: Path, solver: Any, tmp_path: Path) -> None:
    (tmp_path / "start.h5").write_bytes(b"start")
    (tmp_path / "options.yaml").write_text("start: start.h5\n")
    assert cli("reconstruct", scan_file, "--run", "run", "--config", "options.yaml").code == 0
    assert [Path(entry["path"]).name for entry in record(tmp_path / "run")["inputs"]] == [
        "small.npz",
        "options.yaml",
        "start.h5",
    ]


@pytest.mark.parametrize("gpus", [0, 1])
def test_the_device_is_recorded_and_an_absent_one_makes_no_run(
    cli: Cli, scan_file: Path, solver: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gpus: int
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *a: "Test GPU")
    assert cli("reconstruct", scan_file, "--run", "auto").code == 0
    assert record(tmp_path / "auto")["device"]["device"] == ("cuda" if gpus else "cpu")
    done = cli("reconstruct", scan_file, "--run", "cuda", "--device", "cuda")
    if gpus:
        assert record(tmp_path / "cuda")["device"]["gpu"] == "Test GPU"
    else:
        assert (done.code, done.err.strip()) == (
            1,
            "error: device 'cuda': torch finds 0 CUDA devices. Use --device cpu.",
        )
        assert not (tmp_path / "cuda").exists()
