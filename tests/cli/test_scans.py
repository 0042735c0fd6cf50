"""Verbs of files and scans before reconstruction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diptych.ptycho.check import Check
from diptych.ptycho.io import load, save
from diptych.ptycho.io.convert import turn
from diptych.ptycho.scan import Scan
from diptych.ptycho.simulate import simulate

Cli = Callable[..., Any]


def test_info_explains_a_scan_for_people_and_for_programs(cli: Cli, scan_file: Path) -> None:
    text = cli("info", scan_file).out
    assert "scan (NPZ" in text.splitlines()[0]
    assert "diff3d" in text
    assert "36 x 16 x 16" in text
    told = cli("info", scan_file, "--json").json
    assert (told["kind"], told["patterns"], told["size"]) == ("scan", 36, 16)


def test_info_says_why_a_file_cannot_be_used(cli: Cli, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", some=np.zeros(3))
    done = cli("info", "x.npz")
    assert done.code == 2
    assert done.err.startswith("error: x.npz: holds some; expected a scan")
    assert done.err.splitlines()[1:] == [
        "  diptych info FILE",
        "To write a description to fill in:",
        "  diptych info FILE --layout-template L.yaml",
    ]
    # What was found is still shown: it is needed to fix the file.
    assert "some" in done.out
    assert "float64" in done.out
    assert cli("info", "x.npz", "--figure", "x.png").code == 2
    assert not Path("x.png").exists()
    told = cli("info", "x.npz", "--json").json
    assert (told["kind"], told["exit_code"]) == ("unknown", 2)
    assert told["error"] == told["problem"] == done.err.removeprefix("error: ").strip()
    assert told["arrays"] == [{"name": "some", "shape": [3], "dtype": "float64"}]


def test_info_draws(cli: Cli, scan_file: Path) -> None:
    assert cli("info", scan_file, "--figure", "scan.png").code == 0
    assert Path("scan.png").read_bytes().startswith(b"\x89PNG")
    assert cli("info", scan_file, "--figure", "scan.png").code == 2
    assert cli("info", scan_file, "--figure", "scan.png", "--overwrite").code == 0


def test_simulate_writes_what_python_would_make(cli: Cli) -> None:
    done = cli(
        "simulate",
        "--out",
        "new.npz",
        "--size",
        16,
        "--patterns",
        9,
        "--phase",
        -0.5,
        0.5,
        "--seed",
        3,
        "--figure",
        "new.png",
        "--json",
    )
    assert done.code == 0, done.err
    written, expected = load("new.npz"), simulate(size=16, patterns=9, phase=(-0.5, 0.5), seed=3)
    assert isinstance(written, Scan)
    np.testing.assert_array_equal(written.counts, expected.counts)
    np.testing.assert_array_equal(written.truth.values, expected.truth.values)
    assert done.json["summary"]["patterns"] == 9
    assert done.json["file"] == "new.npz"
    assert Path("new.png").exists()


def test_fetch_says_where_the_scan_comes_from_and_writes_it(
    cli: Cli, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diptych.ptycho.datasets.fetch", lambda name, progress: scan)
    done = cli("fetch", "siemens-star", "--out", "star.npz")
    assert done.code == 0, done.err
    assert "BSD-3-Clause" in done.out
    assert "Argonne" in done.out
    np.testing.assert_array_equal(load("star.npz").counts, scan.counts)


def test_check_prints_the_ranking_and_the_advice(cli: Cli, scan_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Check([{"reading": "as given", "fit": 1.5}, {"reading": "transposed", "fit": 40.25}], "Nothing to change.")
    monkeypatch.setattr("diptych.ptycho.check.check", lambda scan, progress, **search: found)
    done = cli("check", scan_file)
    assert done.code == 0, done.err
    assert done.out.index("as given") < done.out.index("transposed") < done.out.index("Nothing to change.")
    assert "40.25" in done.out
    assert cli("check", scan_file, "--json").json["ranking"] == found.rows
    told = cli("check", scan_file, "--orientation", 3, "--flip-y", "--json").json
    assert told["advice"].startswith("Nothing to change. These changes are relative to --orientation --flip-y")


def test_names_from_a_file_cannot_command_the_terminal(cli: Cli, tmp_path: Path) -> None:
    red, title = "\x1b[31mred", "\x1b]0;title\x07"
    np.savez(tmp_path / "x.npz", **{red: np.zeros(1), title: np.zeros(2)})
    done = cli("info", "x.npz")
    assert done.code == 2
    assert "\x1b" not in done.out + done.err
    assert "\x07" not in done.out + done.err
    assert r"\x1b[31mred" in done.out
    assert r"\x1b[31mred" in done.err


@pytest.mark.integration
def test_the_flags_that_check_names_fix_the_scan(cli: Cli, tmp_path: Path) -> None:
    scan = simulate(size=32, patterns=64, step=4.0, dose=1e5, seed=2)
    turned = replace(scan, counts=turn(scan.counts, 5), truth=None)
    save(turned, tmp_path / "turned.npz")
    told = cli("check", "turned.npz", "--json").json
    assert told["ranking"][0]["change"] == "--orientation 6"
    assert "--orientation 6, in Python load(FILE, orientation=6)" in told["advice"]
    # The twin that no data can exclude is named, whichever reading is best.
    assert "complex conjugate" in told["advice"]
    np.testing.assert_array_equal(load(tmp_path / "turned.npz", orientation=6).counts, scan.counts)


def test_validate_exits_with_1_where_a_file_deviates(cli: Any, tmp_path: Path) -> None:
    scan = simulate(size=16, patterns=25, step=2.0, energy_eV=8e3, distance_m=1.0, detector_pixel_m=1e-4)
    path = save(scan, tmp_path / "scan.cxi")
    assert cli("validate", path, "--as", "cxi").code == 0
    done = cli("validate", path, "--as", "product")
    assert done.code == 1
    assert "deviates from product" in done.out


def test_prepare_and_convert(cli: Any, scan_file: Path) -> None:
    done = cli("prepare", scan_file, "new.npz", "--crop", 12, "--omit", "0")
    assert (done.code, "35 of 36" in done.out, "cropped from 16 to 12" in done.out) == (0, True, True)
    assert load(scan_file.with_name("new.npz")).size == 12
    done = cli("convert", "new.npz", "new.cxi")
    assert done.code == 0
    assert "Lost: metadata" in done.out
    assert cli("convert", "new.npz", "new.cxi").code == 2
