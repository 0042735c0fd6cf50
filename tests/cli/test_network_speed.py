"""``diptych networks --speed``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import diptych
from diptych.ptycho.jobs import speed
from diptych.ptycho.networks import build_network
from diptych.ptycho.networks.registry import NETWORKS
from diptych.ptycho.neural.model import Model
from diptych.ptycho.neural.options import TrainingOptions

Cli = Callable[..., Any]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    scan = diptych.simulate(size=32, patterns=64, step=4.0, dose=1e5, seed=0)
    diptych.save(scan, tmp_path / "scan.npz")
    options = TrainingOptions.build({"passes": 1, "width": 4}, origin="test")
    torch.manual_seed(0)
    made = Model(build_network(32, 1.0, options), options, 32, 1.0, {}, np.asarray(scan.probe, np.complex64))
    return made.save(tmp_path / "model.safetensors")


def test_a_model_is_measured_on_a_scan_with_its_error(cli: Cli, model: Path) -> None:
    asked = ("networks", "--speed", "--model", model, "--scan", "scan.npz", "--threads", 1)
    done = cli(*asked, "--canvas-passes", 0, 8, "--json")
    assert done.code == 0, done.err
    rows = done.json["rows"]
    assert [row["canvas_passes"] for row in rows] == [0, 8]
    assert all(sum(row["shares"].values()) == pytest.approx(1) for row in rows)
    assert rows[1]["complex_error"] < rows[0]["complex_error"]
    shown = cli(*asked, "--canvas-passes", 0).out
    assert "patterns / s" in shown
    assert "relative error" in shown


def test_without_a_model_each_network_that_accepts_the_size_is_measured(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "SETTING", {**speed.SETTING, "patterns": 16})
    monkeypatch.setattr(type(NETWORKS), "names", lambda self: ("cnn", "hybrid"))
    done = cli("networks", "--speed", "--size", 32, "--threads", 1, "--json")
    assert done.code == 0, done.err
    assert [row["network"] for row in done.json["rows"]] == ["cnn", "hybrid"]
    assert [row["complex_error"] for row in done.json["rows"]] == [None, None]
    done = cli("networks", "--speed", "--size", 50)
    assert (done.code, "no network accepts" in done.err) == (2, True)


def test_what_is_wrong_is_named(cli: Cli, model: Path) -> None:
    for arguments, message in (
        (("--model", model), "used with --speed only"),
        (("--speed", "--model", "absent.safetensors"), "does not exist"),
        (("--speed", "--model", model, "--scan", "scan.npz", "--canvas-passes", "-1"), "from 0 on"),
    ):
        done = cli("networks", *arguments)
        assert (done.code, message in done.err) == (2, True), done.err
