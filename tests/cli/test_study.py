"""``diptych study`` and ``diptych networks``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]
GRID = ("--objects", "blocks", "--doses", "1e4", "--repeats", 1, "--patterns", 16)
SMALL = ("--size", "quick", *GRID, "--training", "off")


def test_studies_and_networks_are_listed(cli: Cli) -> None:
    done = cli("study", "--json")
    assert (done.code, "dose-response" in [row["name"] for row in done.json["studies"]]) == (0, True)
    assert "dose-response" in cli("study").out
    found = cli("networks", "--json").json["networks"]
    cnn = next(each for each in found if each["name"] == "cnn")
    width = next(each for each in cnn["options"] if each["name"] == "width")
    assert width["kind"] == "whole number"
    assert width["help"]
    text = cli("networks").out
    assert "cnn: " in text
    assert "--width" in text


def test_networks_have_a_cost_for_the_size_that_is_asked_for(cli: Cli) -> None:
    found = cli("networks", "--size", 20, "--gridsize", 1, "--json").json
    by_name = {each["name"]: each for each in found["networks"]}
    assert (found["size"], found["gridsize"]) == (20, 1)
    assert not by_name["cnn"]["allowed"]
    assert by_name["cnn"]["parameters"] is None
    assert by_name["fno"]["allowed"]
    assert by_name["fno"]["receptive_field_px"] == 20
    assert by_name["fno"]["flops_per_pattern"] > 1e6
    assert by_name["fno"]["gridsizes"] == [1, 2, 3]
    assert cli("networks", "--gridsize", 4).code == 2


def test_a_size_is_a_flag_of_its_own(cli: Cli) -> None:
    plans = [cli("study", "frontier", flag, "--dry-run", "--json").json for flag in ("--quick", "--standard", "--full")]
    assert [plan["evidence"] for plan in plans] == [False, True, True]
    assert plans[0]["cells"] < plans[1]["cells"]
    wrong = cli("study", "frontier", "--quick", "--full")
    assert (wrong.code, "one size" in wrong.err) == (2, True)


def test_a_dry_run_writes_nothing_and_a_run_is_resumed(cli: Cli) -> None:
    plan = cli("study", "dose-response", "--run", "dose", *SMALL, "--dry-run", "--json")
    assert plan.code == 0, plan.err
    assert (plan.json["status"], plan.json["cells"]) == ("planned", 1)
    assert not Path("dose").exists()
    done = cli("study", "dose-response", "--run", "dose", *SMALL, "--json")
    assert done.code == 0, done.err
    assert (done.json["status"], done.json["done"]) == ("done", 1)
    assert json.loads(Path("dose/manifest.json").read_text())["study"] == "dose-response"
    again = cli("study", "dose-response", "--run", "dose", *SMALL)
    assert again.code == 0
    assert "1 of 1 cells done" in again.out
    other = cli("study", "dose-response", "--run", "dose", *SMALL, "--seed", 3)
    assert (other.code, "dose" in other.err) == (2, True)


@pytest.mark.parametrize(
    ("argv", "phrase"),
    [
        (("magic",), "study 'magic': is not known; expected one of dose-response"),
        (("dose-response", "--repeats", 0), "repeats = 0"),
        (("--repeats", 2), "repeats is not an option of"),
    ],
)
def test_wrong_studies_are_exit_code_2(cli: Cli, argv: tuple[Any, ...], phrase: str) -> None:
    done = cli("study", *argv)
    assert done.code == 2
    assert phrase in done.err
    assert list(Path().iterdir()) == []
