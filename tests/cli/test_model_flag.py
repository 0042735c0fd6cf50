"""``--model``: the network's file reaches the solver, stands in the record, and is remembered for ``--resume``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import diptych.ptycho.reconstruct as door
from diptych.errors import InputError
from diptych.ptycho.networks import build_network
from diptych.ptycho.neural.model import Model
from diptych.ptycho.neural.options import TrainingOptions
from diptych.ptycho.scan import Scan

Cli = Callable[..., Any]


@pytest.fixture
def model_file(scan: Scan, tmp_path: Path) -> Path:
    options = TrainingOptions(width=4, passes=1)
    assert scan.probe is not None
    return Model(build_network(16, 1.0, options), options, 16, 1.0, {}, scan.probe).save(tmp_path / "net.safetensors")


@pytest.fixture
def models(solver: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The models that the solver's stand-in was given."""
    given: list[Any] = []

    def noted(scan: Scan, model: Any = None, *rest: Any, **more: Any) -> Any:
        given.append(model)
        return solver(scan, None, *rest, **more)

    monkeypatch.setattr(door, "reconstruct", noted)
    return given


def test_a_run_with_a_network_says_what_came_of_it(cli: Cli, scan_file: Path, model_file: Path) -> None:
    done = cli("reconstruct", scan_file, "--model", model_file, "--run", "run", "--epochs", 2, "--json")
    assert done.code == 0, done.err
    start = done.json["start"]
    digest = hashlib.sha256(model_file.read_bytes()).hexdigest()
    assert start["object"] in ("network", "flat")
    assert start["model"] == digest
    assert start["flat_fit"] > 0
    evidence = done.json["network_result"]
    assert evidence["kept"] == "engine"
    assert "standard errors" in evidence["why"]
    told = json.loads(Path("run/provenance.json").read_text())
    assert told["inputs"][-1] == {"path": model_file.name, "bytes": model_file.stat().st_size, "sha256": digest}
    done = cli("reconstruct", scan_file, "--model", model_file, "--run", "other", "--epochs", 2)
    assert "Start: " in done.out
    assert "held-out fit" in done.out
    assert "Result: the engine's image, not the network's: held-out deviance" in done.out


def test_the_flag_reaches_the_solver_and_resume_remembers_it(
    cli: Cli, scan_file: Path, model_file: Path, solver: Any, models: list[Any]
) -> None:
    solver.interrupts = True
    assert cli("reconstruct", scan_file, "--model", model_file, "--run", "run").code == 130
    solver.interrupts = False
    assert cli("reconstruct", scan_file, "--run", "run", "--resume").code == 0
    assert cli("reconstruct", scan_file, "--run", "run", "--resume").code == 0
    assert cli("reconstruct", scan_file, "--run", "flat").code == 0
    assert models == [model_file, model_file, model_file, None]


def test_a_file_that_is_no_network_leaves_no_run_directory(cli: Cli, scan_file: Path, tmp_path: Path) -> None:
    done = cli("reconstruct", scan_file, "--model", "none.safetensors", "--run", "run")
    assert done.code == 2
    assert "none.safetensors: there is no such file" in done.err
    done = cli("reconstruct", scan_file, "--model", scan_file, "--run", "run")
    assert done.code == 2
    assert "small.npz: is not a safetensors file" in done.err
    assert not (tmp_path / "run").exists()


def test_a_model_and_a_start_are_one_too_many(cli: Cli, scan_file: Path, model_file: Path) -> None:
    done = cli("reconstruct", scan_file, "--model", model_file, "--start", "first.h5", "--run", "run")
    assert done.code == 2
    assert "only one initial object" in done.err


def test_info_explains_a_network(cli: Cli, model_file: Path) -> None:
    done = cli("info", model_file)
    assert done.code == 0, done.err
    assert "network (safetensors" in done.out
    assert "cnn" in done.out
    told = cli("info", model_file, "--json").json
    assert (told["kind"], told["size"], told["options"]["width"]) == ("network", 16, 4)
    done = cli("info", model_file, "--figure", "x.png")
    assert done.code == 2
    assert "has no figure" in done.err
    done = cli("info", model_file, "--domain", "counts", "--flip-x")
    assert done.code == 2
    assert "--domain, --flip-x" in done.err


def test_the_error_of_a_solver_is_the_commands(
    cli: Cli, scan_file: Path, model_file: Path, solver: Any, models: list[Any]
) -> None:
    solver.fails = InputError("the network does not fit")
    done = cli("reconstruct", scan_file, "--model", model_file, "--run", "run")
    assert (done.code, done.err.strip()) == (2, "error: the network does not fit")
