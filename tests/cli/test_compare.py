"""``diptych compare``: arms by name, a run directory, and every flag where it belongs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import diptych.ptycho.evaluate.compare as door
import diptych.ptycho.io
import diptych.runtime.provenance
from diptych.cli.output import Report
from diptych.errors import InputError, UnavailableError
from diptych.ptycho.evaluate.compare import CompareOptions
from diptych.ptycho.evaluate.comparison import Comparison
from diptych.ptycho.io import LoadOptions, save
from diptych.ptycho.scan import Reconstruction, Scan
from diptych.runtime.device import ExecutionOptions
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


ARMS = ["--arm", "engine=auto", "--arm", "other=other.npz", "--crop", "all"]


def test_a_comparison_leaves_a_run_directory(cli: Cli, scan_file: Path, other: Any, solver: Any) -> None:
    done = cli("compare", scan_file, *ARMS, "--run", "run")
    assert done.code == 0, done.err
    assert {path.name for path in Path("run").iterdir()} == {*WRITTEN, "options.yaml", "provenance.json", "log.txt"}
    assert set(FILES) >= WRITTEN
    told = json.loads(Path("run/provenance.json").read_text())
    assert (told["status"], told["arms"]) == ("done", {"engine": "auto", "other": "other.npz"})
    assert [Path(entry["path"]).name for entry in told["inputs"]] == ["small.npz", "other.npz"]
    assert "arm engine" in Path("run/log.txt").read_text()
    assert yaml.safe_load(Path("run/options.yaml").read_text())["crop"] == "all"
    assert "reference: truth" in done.out
    assert "run/comparison.png" in done.out
    assert cli("compare", scan_file, "--arm", "a=auto", "--config", "run/options.yaml", "--run", "again").code == 0


def test_json_is_the_comparison(cli: Cli, scan_file: Path, other: Any, solver: Any) -> None:
    done = cli("compare", scan_file, *ARMS, "--json")
    assert done.code == 0, done.err
    assert done.json["run"] == "runs/small-compare-1"
    assert [row["arm"] for row in done.json["rows"]] == ["engine", "other"]
    assert done.json["rows"][0]["complex_error"] < 1e-6 < done.json["rows"][1]["complex_error"]
    assert done.json["rows"] == json.loads(Path(done.json["run"], "comparison.json").read_text())["rows"]


def test_a_truth_in_a_file_is_the_reference(cli: Cli, scan: Scan, other: Any, solver: Any) -> None:
    save(replace(scan, truth=None, true_probe=None), Path("measured.npz"))
    save(scan, Path("small.npz"))
    done = cli("compare", "measured.npz", "--arm", "other=other.npz", "--crop", "all", "--truth", "small.npz", "--json")
    assert done.code == 0, done.err
    assert done.json["reference"] == "truth"
    inputs = json.loads(Path(done.json["run"], "provenance.json").read_text())["inputs"]
    assert [Path(entry["path"]).name for entry in inputs] == ["measured.npz", "small.npz", "other.npz"]


def test_an_earlier_run_is_safe_and_survives_a_wrong_arm(cli: Cli, scan_file: Path, other: Any, solver: Any) -> None:
    assert cli("compare", scan_file, *ARMS, "--run", "run").code == 0
    assert "--overwrite" in cli("compare", scan_file, *ARMS, "--run", "run").err
    before = {path.name: path.read_bytes() for path in Path("run").iterdir()}
    assert cli("compare", scan_file, "--arm", "a=absent.npz", "--run", "run", "--overwrite").code == 2
    assert {path.name: path.read_bytes() for path in Path("run").iterdir()} == before
    assert cli("compare", scan_file, "--arm", "a=auto", "--crop", "all", "--run", "run", "--overwrite").code == 0
    assert json.loads(Path("run/provenance.json").read_text())["arms"] == {"a": "auto"}


@pytest.mark.parametrize(
    ("argv", "phrase"),
    [
        ([], "--arm"),
        (["--arm", "auto"], "--arm auto: expected NAME=WHAT"),
        (["--arm", "a=auto", "--arm", "a=ml"], "the name 'a' is given twice"),
        (["--arm", "a=magic"], "no engine and no file; expected one of auto, ml"),
        (["--arm", "a=small.npz"], "small.npz: holds a scan"),
        (["--arm", "a=auto", "--truth", "absent.npz"], "absent.npz: there is no such file"),
        (["--arm", "a=auto", "--reference", "b"], "reference is 'b', which is no arm"),
        (["--arm", "a=auto", "--chunk", "0"], "chunk = 0"),
    ],
)
def test_wrong_arms_are_exit_code_2_before_any_work(cli: Cli, scan_file: Path, solver: Any, argv: list[str], phrase: str) -> None:
    done = cli("compare", scan_file, *argv)
    assert done.code == 2
    assert phrase in done.err
    assert len(done.err.splitlines()) == 1
    assert solver.calls == []
    assert list(Path().iterdir()) == [Path(scan_file.name)]


def test_a_failed_arm_is_a_note_and_all_failed_is_exit_code_2(cli: Cli, scan_file: Path, other: Any, solver: Any) -> None:
    solver.fails = InputError("too few patterns")
    done = cli("compare", scan_file, *ARMS, "--run", "run")
    assert (done.code, done.err) == (0, "1 of 2 arms failed (engine); the others are compared.\n")
    assert "engine failed: too few patterns" in done.out
    done = cli("compare", scan_file, "--arm", "engine=auto", "--run", "all")
    assert done.code == 2
    assert "no arm could be compared: engine: too few patterns" in done.err
    assert not Path("all").exists()


def test_ctrl_c_keeps_what_was_finished(cli: Cli, scan_file: Path, other: Any, solver: Any) -> None:
    solver.interrupts = True
    done = cli("compare", scan_file, "--arm", "other=other.npz", "--arm", "engine=auto", "--crop", "all", "--run", "run", "--json")
    assert (done.code, done.json["status"]) == (130, "interrupted")
    assert done.err == "interrupted; the arms that were finished are compared in run.\n"
    assert done.json["rows"][0]["complex_error"] > 0
    assert json.loads(Path("run/provenance.json").read_text())["status"] == "interrupted"
    assert {path.name for path in Path("run").iterdir()} >= WRITTEN
    done = cli("compare", scan_file, "--arm", "engine=auto", "--run", "none")
    assert (done.code, done.err) == (130, "interrupted before an arm could be compared; the log is in none.\n")


def test_a_disk_that_fills_up_is_recorded(cli: Cli, scan_file: Path, other: Any, solver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Comparison, directory: Path) -> Path:
        raise UnavailableError("no space left")

    monkeypatch.setattr(Comparison, "save", full)
    done = cli("compare", scan_file, *ARMS, "--run", "run")
    assert (done.code, done.err) == (1, "error: no space left\n")
    told = json.loads(Path("run/provenance.json").read_text())
    assert (told["status"], told["error"]) == ("failed", "no space left")


VALUES: dict[type[Any], dict[str, tuple[Any, Any]]] = {
    CompareOptions: {
        "gauge": ("full", "none"),
        "convention": ("both", "ptychopinn"),
        "crop": ("all", "scan"),
        "max_shift": (3, 5),
        "reference": ("engine", "other"),
        "chunk": (2, 9),
    },
    ExecutionOptions: {"device": ("cpu", "cuda:7"), "precision": ("double", "single"), "threads": (1, 2)},
    LoadOptions: {"domain": ("counts", "amplitude"), "swap_xy": (True, False), "energy_eV": (8000.0, 9000.0)},
}
"""Two values per option; of LoadOptions, which one function takes whole, some."""


class Reached(BaseException):
    """Raised by the consumer with the options that it was given."""

    def __init__(self, options: Any) -> None:
        self.options = options


@pytest.mark.parametrize(("model", "name"), [(model, name) for model, fields in VALUES.items() for name in fields])
def test_every_flag_reaches_its_consumer(
    cli: Cli, scan: Scan, scan_file: Path, monkeypatch: pytest.MonkeyPatch, model: type[Any], name: str
) -> None:
    caught: list[Any] = []

    def trap(position: int) -> Callable[..., Any]:
        def consume(*arguments: Any) -> Any:
            raise Reached(arguments[position])

        return consume

    monkeypatch.setattr(diptych.runtime.provenance, "device", lambda execution: {})
    monkeypatch.setattr("diptych.cli._failure", lambda error, code: caught.append(error) or Report({}))
    monkeypatch.setattr(diptych.ptycho.io, "load_scan", trap(1) if model is LoadOptions else lambda *a: scan)
    if model is CompareOptions:
        monkeypatch.setattr(door.Plan, "of", trap(3))
    monkeypatch.setattr(door.Plan, "carry_out", trap(2))
    first, second = VALUES[model][name]
    flag = "--" + name.replace("_", "-")

    def given(value: Any) -> list[Any]:
        return [flag if value else flag.replace("--", "--no-")] if isinstance(value, bool) else [flag, value]

    def reached(*argv: Any) -> Any:
        caught.clear()
        cli("compare", scan_file, "--arm", "engine=auto", "--run", "run", "--overwrite", *argv)
        assert isinstance(caught[0], Reached), caught
        return getattr(caught[0].options, name)

    scan_file.with_name("options.yaml").write_text(yaml.safe_dump({name: first}))
    assert reached() == model.model_fields[name].default
    assert reached("--config", "options.yaml") == first
    assert reached("--config", "options.yaml", *given(second)) == second


def test_all_options_of_the_judge_and_of_the_machine_are_tested_above() -> None:
    for model in (CompareOptions, ExecutionOptions):
        assert VALUES[model].keys() == model.model_fields.keys()
