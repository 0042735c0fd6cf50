"""The record of a run says what ran, on what, with what."""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy
import pytest
import torch

from diptych.errors import UnavailableError
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.runtime import provenance as module
from diptych.runtime.device import ExecutionOptions
from diptych.runtime.provenance import commit, provenance, versions


def test_the_record_names_versions_device_seeds_hashes_and_time(tmp_path: Path) -> None:
    data = tmp_path / "scan.npz"
    data.write_bytes(b"counts")
    record = provenance(
        "reconstruct",
        ExecutionOptions(device="cpu", threads=3),
        [data],
        [ReconstructionOptions(seed=11), ExecutionOptions()],
    )
    assert record["program"] == "diptych"
    assert record["command"] == "reconstruct"
    assert record["versions"]["numpy"] == numpy.__version__
    assert {"python", "diptych", "torch"} <= set(record["versions"])
    assert record["device"]["device"] == "cpu"
    assert record["device"]["threads"] == 3
    assert record["seeds"] == {"ReconstructionOptions.seed": 11}
    assert record["inputs"] == [{"path": "scan.npz", "bytes": 6, "sha256": hashlib.sha256(b"counts").hexdigest()}]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", record["started"])


def test_versions_are_those_of_the_installed_packages_and_import_none(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"numpy": "1.2.3", "safetensors": "0.4.5"}

    def version(name: str) -> str:
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.delitem(sys.modules, "safetensors", raising=False)
    found = versions()
    assert found == {"python": platform.python_version(), **installed}
    assert "safetensors" not in sys.modules
    installed["lightning"] = "2.0"
    assert versions()["lightning"] == "2.0"


def test_a_device_that_is_not_here_is_said_before_anything_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UnavailableError, match="--device cpu"):
        provenance("reconstruct", ExecutionOptions(device="cuda"), [], [])


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commit_is_that_of_the_checkout_and_says_when_files_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        return subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True, text=True
        ).stdout.strip()

    source = tmp_path / "provenance.py"
    source.write_text("a = 1\n")
    monkeypatch.setattr(module, "__file__", str(source))
    git("init", "-q")
    assert commit() is None
    git("add", "provenance.py")
    git("commit", "-q", "-m", "a")
    assert commit() == git("rev-parse", "HEAD")
    source.write_text("a = 2\n")
    assert commit() == git("rev-parse", "HEAD") + "-dirty"


def test_a_wheel_inside_somebody_elses_repository_has_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "__file__", str(tmp_path / "provenance.py"))
    assert commit() is None
