"""An installed package adds one extension of each kind by entry points; each is used from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import diptych

pytestmark = pytest.mark.integration

KINDS = {
    "diptych.formats": "FORMAT",
    "diptych.layouts": "LAYOUT",
    "diptych.networks": "NETWORK",
    "diptych.engines": "ENGINE",
    "diptych.studies": "STUDY",
    "diptych.decoders": "DECODER",
    "diptych.utilities": "UTILITY",
    "diptych.proposals": "PROPOSAL",
}
MODULE = "dummy_diptych_plugin"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like ``site-packages`` with the package and its metadata."""
    folder = tmp_path_factory.mktemp("site")
    (folder / f"{MODULE}.py").write_text(Path(__file__).with_name(f"{MODULE}.py").read_text(encoding="utf-8"))
    about = folder / f"{MODULE}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {MODULE}\nVersion: 1.0\n")
    points = "".join(f"[{group}]\ndummy = {MODULE}:{name}\n" for group, name in KINDS.items())
    (about / "entry_points.txt").write_text(points)
    return folder


@pytest.fixture
def scan_file(tmp_path: Path) -> Path:
    """A scan in the layout of the dummy format."""
    scan = diptych.simulate(object="lines", size=16, patterns=36, step=3.0, dose=1e5, seed=0)
    assert scan.probe is not None
    path = tmp_path / "scan.npz"
    np.savez(path, dummy_counts=scan.counts, dummy_positions=scan.positions, dummy_probe=scan.probe)
    return path


def run(site: Path, folder: Path, *arguments: object, code: int = 0) -> str:
    """A command in a process of its own that sees the package; its standard output, or error where it fails."""
    paths = [str(site), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-c", "from diptych.cli import main; main()", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def record(text: str) -> Any:
    return json.loads(text)


def test_format(site: Path, scan_file: Path, tmp_path: Path) -> None:
    found = record(run(site, tmp_path, "info", scan_file, "--json"))
    assert found["kind"] == "scan"
    assert "36" in json.dumps(found)
    with pytest.raises(diptych.InputError):
        diptych.load(scan_file)


def test_layout(site: Path, tmp_path: Path) -> None:
    scan = diptych.simulate(object="lines", size=16, patterns=36, step=3.0, dose=1e5, seed=0)
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["raw/frames"], file["raw/stage"] = scan.counts, scan.positions
    found = record(run(site, tmp_path, "info", "scan.h5", "--json"))
    assert "dummy-beamline" in json.dumps(found)
    with pytest.raises(diptych.InputError):
        diptych.load(tmp_path / "scan.h5")
    assert record(run(site, tmp_path, "info", "scan.h5", "--layout", "dummy-beamline", "--json"))["kind"] == "scan"


def test_engine(site: Path, scan_file: Path, tmp_path: Path) -> None:
    options = ("--engine", "dummy", "--epochs", 2)
    page = "".join(run(site, tmp_path, "reconstruct", "--help").split())
    assert "--dummy-alpha" in page
    assert "Optionsoftheenginedummy" in page
    found = record(
        run(site, tmp_path, "reconstruct", scan_file, *options, "--dummy-alpha", 0.4, "--run", "run", "--json")
    )
    assert (found["engine"], found["epochs"]) == ("dummy", 2)
    assert "dummy_alpha: 0.4" in (tmp_path / "run" / "options.yaml").read_text()
    wrong = run(site, tmp_path, "reconstruct", scan_file, "--engine", "rpie", "--dummy-alpha", 0.4, code=2)
    assert "dummy_alpha is not an option of engine rpie; it belongs to engine dummy" in wrong
    assert "dummy_alpha = 3" in run(site, tmp_path, "reconstruct", scan_file, *options, "--dummy-alpha", 3, code=2)


def test_network(site: Path, scan_file: Path, tmp_path: Path) -> None:
    listed = record(run(site, tmp_path, "networks", "--json"))["networks"]
    assert [each["options"][0]["name"] for each in listed if each["name"] == "dummy"] == ["dummy_start"]
    options = ("--network", "dummy", "--dummy-start", 0.75, "--epochs", 1, "--no-pictures", "--validation", 0)
    found = record(run(site, tmp_path, "train", scan_file, *options, "--run", "run", "--json"))
    assert (found["network"], found["parameters"]) == ("dummy", 2)
    alone = ("--model", found["model"], "--engine", "network", "--run", "alone")
    assert record(run(site, tmp_path, "reconstruct", scan_file, *alone, "--json"))["engine"] == "network"


def test_study(site: Path, tmp_path: Path) -> None:
    found = record(run(site, tmp_path, "study", "dummy", "--dummy-cells", 3, "--run", "study", "--json"))
    assert (found["status"], found["cells"], found["tables"]["sum"]) == ("done", 3, [{"sum": 5}])
    assert "dummy_cells" in run(site, tmp_path, "study", "dose-response", "--dummy-cells", 3, code=2)


def test_decoder_utility_and_proposal(site: Path, tmp_path: Path) -> None:
    parts = ("--decoder", "dummy", "--utility", "dummy", "--proposal", "dummy")
    options = ("--dummy-dimension", 256, "--dummy-note", "built", "--labels", 6, "--batch", 2)
    run(site, tmp_path, "prefer", "simulate", "session", *parts, *options, "--json")
    assert (tmp_path / "built").exists()
    stored = json.loads((tmp_path / "session" / "session.json").read_text())
    assert "dummy" in json.dumps(stored)
    rows = record(run(site, tmp_path, "prefer", "rows", "session", "--seconds", 0, "--json"))
    assert rows["rows"] == 6


def test_a_package_that_cannot_be_imported_harms_nothing_else(site: Path, scan_file: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    about = broken / "broken_plugin-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-plugin\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("".join(f"[{group}]\nbroken = absent_module:THING\n" for group in KINDS))
    both = Path(f"{site}{os.pathsep}{broken}")
    found = record(run(both, tmp_path, "reconstruct", scan_file, "--epochs", 2, "--run", "run", "--json"))
    assert found["epochs"] == 2
    wrong = run(both, tmp_path, "reconstruct", scan_file, "--engine", "broken", "--run", "other", code=1)
    assert "engine 'broken' of broken-plugin: cannot be loaded" in wrong
