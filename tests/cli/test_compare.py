"""``diptych compare``: methods by name, a run directory, and an exit code for everything that can go wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from diptych.errors import InputError, UnavailableError
from diptych.ptycho.evaluate.comparison import Comparison
from diptych.ptycho.io import save
from diptych.ptycho.scan import Reconstruction, Scan
from diptych.runtime.run_directory import FILES

Cli = Callable[..., Any]
WRITTEN = {"comparison.csv", "comparison.json", "frc.csv", "aligned.npz", "comparison.png"}


@pytest.fixture
def other(scan: Scan, tmp_path: Path) -> Reconstruction:
    """The truth with 5 % of noise, as ``other.npz``."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=scan.truth.shape) + 1j * rng.normal(size=scan.truth.shape)
    values = (scan.truth.values + 0.05 * noise).astype(np.complex64)
    made = Reconstruction(replace(scan.truth, values=values), scan.probe, scan.positions)
    save(made, tmp_path / "other.npz")
    return made


METHODS = ["--method", "engine=auto", "--method", "other=other.npz", "--crop", "all"]


def test_a_comparison_leaves_a_run_directory(cli: Cli, scan_file: Path, other: Any, solver: Any) -> None:
    done = cli("compare", scan_file, *METHODS, "--run", "run")
    assert done.code == 0, done.err
    assert {path.name for path in Path("run").iterdir()} == {*WRITTEN, "options.yaml", "provenance.json", "log.txt"}
    assert set(FILES) >= WRITTEN
    told = json.loads(Path("run/provenance.json").read_text())
    assert (told["status"], told["methods"]) == ("done", {"engine": "auto", "other": "other.npz"})
    assert [Path(entry["path"]).name for entry in told["inputs"]] == ["small.npz", "other.npz"]
    assert "method engine" in Path("run/log.txt").read_text()
    assert yaml.safe_load(Path("run/options.yaml").read_text())["crop"] == "all"
    assert "reference: truth" in done.out
    assert "run/comparison.png" in done.out
    assert cli("compare", scan_file, "--method", "a=auto", "--config", "run/options.yaml", "--run", "again").code == 0


def test_json_is_the_comparison(cli: Cli, scan_file: Path, other: Any, solver: Any) -> None:
    done = cli("compare", scan_file, *METHODS, "--json")
    assert done.code == 0, done.err
    assert done.json["run"] == "runs/small-compare-1"
    assert [row["method"] for row in done.json["rows"]] == ["engine", "other"]
    assert done.json["rows"][0]["complex_error"] < 1e-6 < done.json["rows"][1]["complex_error"]
    assert done.json["rows"] == json.loads(Path(done.json["run"], "comparison.json").read_text())["rows"]


def test_a_truth_in_a_file_is_the_reference(cli: Cli, scan: Scan, other: Any, solver: Any) -> None:
    save(replace(scan, truth=None, true_probe=None), Path("measured.npz"))
    save(scan, Path("small.npz"))
    done = cli(
        "compare", "measured.npz", "--method", "other=other.npz", "--crop", "all", "--truth", "small.npz", "--json"
    )
    assert done.code == 0, done.err
    assert done.json["reference"] == "truth"
    inputs = json.loads(Path(done.json["run"], "provenance.json").read_text())["inputs"]
    assert [Path(entry["path"]).name for entry in inputs] == ["measured.npz", "small.npz", "other.npz"]


def test_an_earlier_run_is_safe_and_survives_a_wrong_arm(cli: Cli, scan_file: Path, other: Any, solver: Any) -> None:
    assert cli("compare", scan_file, *METHODS, "--run", "run").code == 0
    assert "--overwrite" in cli("compare", scan_file, *METHODS, "--run", "run").err
    before = {path.name: path.read_bytes() for path in Path("run").iterdir()}
    assert cli("compare", scan_file, "--method", "a=absent.npz", "--run", "run", "--overwrite").code == 2
    assert {path.name: path.read_bytes() for path in Path("run").iterdir()} == before
    assert cli("compare", scan_file, "--method", "a=auto", "--crop", "all", "--run", "run", "--overwrite").code == 0
    assert json.loads(Path("run/provenance.json").read_text())["methods"] == {"a": "auto"}


@pytest.mark.parametrize(
    ("argv", "phrase"),
    [
        ([], "--method"),
        (["--method", "auto"], "--method auto: has no name; expected NAME=WHAT"),
        (["--method", "a=auto", "--method", "a=ml"], "the name 'a' is given twice"),
        (["--method", "a=magic"], "neither an engine nor an existing file; expected one of auto, ml"),
        (["--method", "a=small.npz"], "small.npz: holds a scan"),
        (["--method", "a=auto", "--truth", "absent.npz"], "absent.npz: there is no such file"),
        (["--method", "a=auto", "--reference", "b"], "reference 'b': is not among the methods"),
        (["--method", "a=auto", "--chunk", "0"], "chunk = 0"),
    ],
)
def test_wrong_methods_are_exit_code_2_before_any_work(
    cli: Cli, scan_file: Path, solver: Any, argv: list[str], phrase: str
) -> None:
    done = cli("compare", scan_file, *argv)
    assert done.code == 2
    assert phrase in done.err
    assert len(done.err.splitlines()) == 1
    assert solver.calls == []
    assert list(Path().iterdir()) == [Path(scan_file.name)]


def test_a_failed_method_is_a_note_and_all_failed_is_exit_code_2(
    cli: Cli, scan_file: Path, other: Any, solver: Any
) -> None:
    solver.fails = InputError("too few patterns")
    done = cli("compare", scan_file, *METHODS, "--run", "run")
    assert (done.code, done.err) == (0, "1 of 2 methods failed (engine); the others are compared.\n")
    assert "engine failed: too few patterns" in done.out
    done = cli("compare", scan_file, "--method", "engine=auto", "--run", "all")
    assert done.code == 2
    assert "no method could be compared (engine: too few patterns)" in done.err
    assert not Path("all").exists()


def test_ctrl_c_keeps_what_was_finished(cli: Cli, scan_file: Path, other: Any, solver: Any) -> None:
    solver.interrupts = True
    done = cli(
        "compare",
        scan_file,
        "--method",
        "other=other.npz",
        "--method",
        "engine=auto",
        "--crop",
        "all",
        "--run",
        "run",
        "--json",
    )
    assert (done.code, done.json["status"]) == (130, "interrupted")
    assert done.err == "interrupted; the methods that had finished are compared in run.\n"
    assert done.json["rows"][0]["complex_error"] > 0
    assert json.loads(Path("run/provenance.json").read_text())["status"] == "interrupted"
    assert {path.name for path in Path("run").iterdir()} >= WRITTEN
    done = cli("compare", scan_file, "--method", "engine=auto", "--run", "none")
    assert (done.code, done.err) == (130, "interrupted; no method had finished; the log is in none.\n")


def test_a_disk_that_fills_up_is_recorded(
    cli: Cli, scan_file: Path, other: Any, solver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Comparison, directory: Path) -> Path:
        raise UnavailableError("no space left")

    monkeypatch.setattr(Comparison, "save", full)
    done = cli("compare", scan_file, *METHODS, "--run", "run")
    assert (done.code, done.err) == (1, "error: no space left\n")
    told = json.loads(Path("run/provenance.json").read_text())
    assert (told["status"], told["error"]) == ("failed", "no space left")
