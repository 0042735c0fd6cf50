"""``diptych demo``: the measured scan where it can be had, an honest stand-in where not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diptych.errors import InputError, UnavailableError
from diptych.ptycho.evaluate import evaluate
from diptych.ptycho.scan import Scan

Cli = Callable[..., Any]


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch, scan: Scan) -> list[str]:
    """The small scan in the place of the measured one; the names asked for."""
    names: list[str] = []

    def fetch(name: str, progress: Any) -> Scan:
        names.append(name)
        return scan

    monkeypatch.setattr("diptych.ptycho.datasets.fetch", fetch)
    monkeypatch.setattr("diptych.ptycho.datasets.dataset_info", lambda name: ABOUT)
    monkeypatch.setattr("diptych.ptycho.simulate.simulate", lambda options, progress: scan)
    return names


ABOUT = {"title": "A star", "origin": "a synchrotron", "licence": "BSD-3-Clause", "cached": False}


def test_the_measured_scan_is_reconstructed_and_its_origin_told(cli: Cli, solver: Any, fetched: list[str]) -> None:
    done = cli("demo")
    assert done.code == 0, done.err
    assert fetched == ["siemens-star"]
    assert "A star, measured; a synchrotron (BSD-3-Clause)" in done.out
    assert "Fit 1.25" in done.out
    assert {"result.png", "result.h5", "summary.json", "provenance.json"} <= {
        entry.name for entry in Path("demo").iterdir()
    }
    assert json.loads(Path("demo/provenance.json").read_text())["source"]["origin"] == "a synchrotron"


def test_without_a_network_it_says_so_and_simulates(
    cli: Cli, solver: Any, fetched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(name: str, progress: Any) -> Scan:
        raise UnavailableError("no network here")

    monkeypatch.setattr("diptych.ptycho.datasets.fetch", fetch)
    done = cli("demo")
    assert done.code == 0
    assert "no network here" in done.err
    assert "a simulated Siemens star, not a measured one" in done.out
    assert "Against the truth" in done.out


@pytest.mark.parametrize("cached", [False, True])
def test_offline_uses_the_kept_copy_or_simulates(
    cli: Cli, solver: Any, fetched: list[str], monkeypatch: pytest.MonkeyPatch, cached: bool
) -> None:
    monkeypatch.setattr("diptych.ptycho.datasets.dataset_info", lambda name: {**ABOUT, "cached": cached})
    done = cli("demo", "--offline", "--json")
    assert fetched == (["siemens-star"] if cached else [])
    assert ("measured;" in done.json["source"]["scan"]) == cached


def test_a_demo_replaces_a_demo_but_nothing_else(cli: Cli, solver: Any, fetched: list[str], scan_file: Path) -> None:
    assert cli("demo").code == 0
    assert cli("demo").code == 0
    assert cli("reconstruct", scan_file, "--run", "mine").code == 0
    done = cli("demo", "--run", "mine")
    assert done.code == 2
    assert "earlier run" in done.err


def test_a_demo_that_cannot_start_leaves_nothing(cli: Cli, fetched: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(name: str, progress: Any) -> Scan:
        raise InputError("the cache is a file")

    monkeypatch.setattr("diptych.ptycho.datasets.fetch", fetch)
    assert cli("demo").code == 2
    assert not Path("demo").exists()


def test_frc_is_measured_when_asked_for(
    cli: Cli, solver: Any, fetched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "diptych.ptycho.evaluate.evaluate_without_truth", lambda scan, result, progress: evaluate(result, scan.truth)
    )
    done = cli("demo", "--frc", "--json")
    assert done.code == 0, done.err
    assert "frc1over7" in done.json["frc"]["metrics"]
    assert "frc" not in cli("demo", "--json").json
