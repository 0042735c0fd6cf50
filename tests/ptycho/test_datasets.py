"""Measured scans by name: verified, cached whole or not at all, and honest when there is no network."""

from __future__ import annotations

import bz2
import hashlib
import io
import os
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diptych.errors import InputError, UnavailableError
from diptych.ptycho import datasets
from diptych.ptycho.datasets import dataset_info, fetch
from diptych.runtime.progress import Progress

M, N = 5, 16


def _member() -> bytes:
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    np.savez(
        buffer,
        data=rng.poisson(9.0, (1, M, N, N)).astype(np.float32),
        scan=rng.uniform(0, 30, (1, M, 2)).astype(np.float32),
        probe=np.ones((1, 1, 1, 1, N, N), np.complex64),
    )
    return bz2.compress(buffer.getvalue())


class Pip:
    """Stands in for the pip process: leaves a source distribution where the real one would."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.calls: list[list[str]] = []
        self.failure = ""

    def __call__(self, command: list[str], *, cwd: Path, **_: Any) -> subprocess.CompletedProcess[str]:
        self.calls.append(command)
        if not self.failure:
            with tarfile.open(Path(cwd) / "tike-0.0.0.tar.gz", "w:gz") as tar:
                for name, data in (
                    ("tike-0.0.0/../../escaped", b"x"),
                    ("tike-0.0.0/tests/data/siemens-star-small.npz.bz2", self.content),
                ):
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
        return subprocess.CompletedProcess(command, 1 if self.failure else 0, "", self.failure)


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pip:
    content = _member()
    known = replace(datasets._DATASETS["siemens-star"], sha256=hashlib.sha256(content).hexdigest())
    stand_in = Pip(content)
    monkeypatch.setattr(datasets, "_DATASETS", {"siemens-star": known})
    monkeypatch.setattr(datasets.subprocess, "run", stand_in)
    monkeypatch.setenv("DIPTYCH_DATA", str(tmp_path / "cache"))
    return stand_in


def cached(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "siemens-star-small.npz.bz2"


def test_fetch_obtains_once_then_reads_the_cache(tmp_path: Path, pip: Pip) -> None:
    reports: list[Progress] = []
    first = fetch("siemens-star", reports.append)
    second = fetch()
    assert len(pip.calls) == 1
    assert np.array_equal(first.counts, second.counts)
    assert first.counts.shape == (M, N, N)
    assert first.name == "siemens-star"
    assert "BSD-3" in first.metadata["licence"]
    assert "tike" in first.metadata["origin"]
    assert [(r.stage, r.done) for r in reports] == [("download", 0), ("download", 1), ("read", 0), ("read", 1)]
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["siemens-star-small.npz.bz2"]
    assert not list(tmp_path.rglob("escaped"))


def test_the_command_is_the_users_own_pip_and_names_no_host(pip: Pip) -> None:
    fetch()
    assert pip.calls == [
        [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--no-binary",
            ":all:",
            "--no-build-isolation",
            "tike==0.0.0",
        ]
    ]


@pytest.mark.parametrize("damage", [b"", b"BZh9 nothing", None])
def test_a_damaged_cache_is_noticed_and_fetched_again(tmp_path: Path, pip: Pip, damage: bytes | None) -> None:
    good = fetch()
    content = bytearray(cached(tmp_path).read_bytes())
    content[len(content) // 2] ^= 1
    cached(tmp_path).write_bytes(content if damage is None else damage)
    assert np.array_equal(fetch().counts, good.counts)
    assert len(pip.calls) == 2
    assert cached(tmp_path).read_bytes() == pip.content


def test_a_file_with_another_checksum_is_not_kept(tmp_path: Path, pip: Pip) -> None:
    pip.content = bz2.compress(b"something else")
    with pytest.raises(UnavailableError, match="SHA-256"):
        fetch()
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("/usr/bin/python: No module named pip", "ensurepip"),
        ("pip._vendor.BackendUnavailable: Cannot import 'setuptools.build_meta'", "pip install setuptools"),
        ("WARNING: NewConnectionError\nERROR: No matching distribution found for tike==0.0.0", "is there a network"),
        ("ERROR: disk on fire", "disk on fire"),
    ],
)
def test_what_is_missing_is_said_and_simulation_offered(tmp_path: Path, pip: Pip, said: str, message: str) -> None:
    pip.failure = said
    with pytest.raises(UnavailableError, match=message) as caught:
        fetch()
    assert "diptych simulate" in str(caught.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_package_without_the_member_is_said(pip: Pip, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = replace(datasets._DATASETS["siemens-star"], member="tests/data/other.npz.bz2")
    monkeypatch.setattr(datasets, "_DATASETS", {"siemens-star": changed})
    with pytest.raises(UnavailableError, match="holds no tests/data/other"):
        fetch()


def test_leftovers_of_killed_fetches_are_swept_but_nothing_of_the_users(tmp_path: Path, pip: Pip) -> None:
    cache = tmp_path / "cache"
    for name in (".diptych-fetch-old", ".diptych-fetch-new", "fetch-mine"):
        (cache / name).mkdir(parents=True)
        (cache / name / "file").touch()
    for name in (".diptych-fetch-old", "fetch-mine"):
        os.utime(cache / name, (1e9, 1e9))
    fetch()
    assert sorted(path.name for path in cache.iterdir()) == [
        ".diptych-fetch-new",
        "fetch-mine",
        "siemens-star-small.npz.bz2",
    ]


def test_a_cache_that_cannot_be_written(tmp_path: Path, pip: Pip, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DIPTYCH_DATA", str(tmp_path / "file" / "below"))
    with pytest.raises(UnavailableError, match="DIPTYCH_DATA"):
        fetch()


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match="siemens-star"):
        fetch("mona-lisa")


def test_info_states_origin_licence_and_place(tmp_path: Path, pip: Pip) -> None:
    assert dataset_info("siemens-star")["cached"] is False
    fetch()
    info = dataset_info("siemens-star")
    assert info["cached"] is True
    assert info["path"] == str(cached(tmp_path))
    assert "Argonne" in info["licence"]


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/diptych"),
        ("linux", {}, "~/.cache/diptych"),
        ("darwin", {}, "~/Library/Caches/diptych"),
        ("darwin", {"DIPTYCH_DATA": "/data/here"}, "/data/here"),
    ],
)
def test_cache_folder_follows_the_platform(
    monkeypatch: pytest.MonkeyPatch, platform: str, environment: dict[str, str], expected: str
) -> None:
    for name in ("DIPTYCH_DATA", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(datasets.sys, "platform", platform)
    assert datasets.cache_folder() == Path(expected).expanduser()


@pytest.mark.slow
def test_the_real_file_is_the_measured_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured_data: Path
) -> None:
    from diptych.ptycho.io import load_scan

    monkeypatch.setenv("DIPTYCH_DATA", str(tmp_path))
    try:
        scan = fetch()
    except UnavailableError as error:
        pytest.skip(str(error))
    here = load_scan(measured_data / "siemens_star.npz")
    assert np.array_equal(scan.counts, here.counts)
    assert np.array_equal(scan.positions, here.positions)
