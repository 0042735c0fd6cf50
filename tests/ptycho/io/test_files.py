"""Files as such: the kind by content, whole or not at all, and nothing unpickled."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from diptych.errors import InputError, UnavailableError
from diptych.ptycho.io import load, read_probe, save
from diptych.ptycho.io.files import file_kind, writing
from diptych.ptycho.io.source import open_npz, write_npz
from diptych.ptycho.scan import Canvas, Reconstruction, Scan


@pytest.fixture
def scan() -> Scan:
    rng = np.random.default_rng(0)
    return Scan(rng.poisson(9.0, (3, 8, 8)).astype(np.uint16), rng.uniform(0, 30, (3, 2)), np.ones((8, 8), complex))


def test_kind_by_content(tmp_path: Path) -> None:
    with (tmp_path / "a.h5").open("wb") as file:
        np.savez(file, a=1)
    np.save(tmp_path / "a.npy", np.ones(2))
    with h5py.File(tmp_path / "a.npz", "w"):
        pass
    with h5py.File(tmp_path / "matlab.mat", "w", userblock_size=512):
        pass
    assert [file_kind(tmp_path / name) for name in ("a.h5", "a.npy", "a.npz", "matlab.mat")] == [
        "npz",
        "npy",
        "hdf5",
        "hdf5",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"BZh91AY", "bunzip2"),
        (b"\x1f\x8b\x08", "gunzip"),
        (b"\x80\x04\x95", "pickle"),
        (b"PK\x05\x06" + bytes(18), "empty zip"),
        (b"hello, world", "begins with b'hello, w'"),
    ],
)
def test_other_contents_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "file.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        file_kind(path)


def test_a_truncated_archive_at_every_length_is_an_input_error(tmp_path: Path, scan: Scan) -> None:
    whole = save(scan, tmp_path / "whole.npz").read_bytes()
    cut = tmp_path / "cut.npz"
    for size in np.linspace(1, len(whole) - 1, 25).astype(int):
        cut.write_bytes(whole[:size])
        with pytest.raises(InputError):
            load(cut)


def test_flipped_bytes_give_an_input_error_or_the_same_scan(tmp_path: Path, scan: Scan) -> None:
    whole = save(scan, tmp_path / "whole.npz").read_bytes()
    broken = tmp_path / "broken.npz"
    refused = 0
    for place in np.random.default_rng(1).integers(0, len(whole), 60):
        data = bytearray(whole)
        data[place] ^= 0x55
        broken.write_bytes(data)
        try:
            loaded = load(broken)
        except InputError:
            refused += 1
        else:
            assert isinstance(loaded, Scan)
            assert np.array_equal(loaded.counts, scan.counts)
    assert refused > 20


def test_flipped_bytes_in_an_hdf5_file_raise_nothing_but_an_input_error(tmp_path: Path) -> None:
    result = Reconstruction(
        Canvas(np.ones((20, 20))), np.ones((1, 8, 8), complex), np.ones((3, 2)), history={"fit": [2.0, 1.0]}
    )
    whole = save(result, tmp_path / "whole.h5").read_bytes()
    broken = tmp_path / "broken.h5"
    rng = np.random.default_rng(2)
    refused = 0
    for _ in range(60):
        data = bytearray(whole)
        for place in rng.integers(0, 4000, 8):
            data[place] ^= 0xA5
        broken.write_bytes(data)
        try:
            load(broken)
        except InputError:
            refused += 1
    assert refused > 10


def test_an_array_shorter_than_its_header_says(tmp_path: Path) -> None:
    header = tmp_path / "long.npy"
    np.save(header, np.ones((100, 100)))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("diff3d.npy", header.read_bytes()[:1000])
    with pytest.raises(InputError, match="cut short"):
        load(tmp_path / "a.npz")


def test_object_arrays_are_never_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    np.savez(tmp_path / "a.npz", diff3d=np.array([Trap()], dtype=object), xcoords=[0.0], ycoords=[0.0])
    with pytest.raises(InputError, match="pickles are never opened"):
        load(tmp_path / "a.npz")
    with pytest.raises(ValueError, match="allow_pickle"):
        write_npz(tmp_path / "b.npz", {"a": np.array([Trap()], dtype=object)})
    assert not (tmp_path / "sprung").exists()


def write_then_fail(path: Path, error: Exception) -> None:
    with writing(path) as temporary:
        temporary.write_text("new")
        raise error


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "out.npz"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="half way"):
        write_then_fail(path, RuntimeError("half way"))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_the_system_refuses(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="could not be written"):
        write_then_fail(tmp_path / "out", OSError(28, "No space left on device"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("out.csv", "found .csv"),
        ("out", "no suffix"),
        ("nowhere/out.npz", "does not exist"),
        ("folder.npz", "is a folder"),
    ],
)
def test_where_a_scan_cannot_be_written(tmp_path: Path, scan: Scan, name: str, message: str) -> None:
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(InputError, match=message):
        save(scan, tmp_path / name)


def test_a_written_file_has_the_permissions_of_any_other(tmp_path: Path, scan: Scan) -> None:
    (tmp_path / "plain").touch()
    path = save(scan, tmp_path / "scan.npz")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_what_is_neither_a_scan_nor_a_result_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="got a ndarray"):
        save(np.ones(3), tmp_path / "out.npz")  # type: ignore[arg-type]


@pytest.mark.parametrize("damage", ["no magic", "short"])
def test_damaged_members_are_named(tmp_path: Path, damage: str) -> None:
    np.save(tmp_path / "a.npy", np.ones(3))
    whole = (tmp_path / "a.npy").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("diff3d.npy", b"not an array" if damage == "no magic" else whole[:40])
    with pytest.raises(InputError, match="'diff3d': has no readable header"):
        load(tmp_path / "a.npz")
    (tmp_path / "b.npy").write_bytes(whole[:-5])
    with pytest.raises(InputError, match="cut short"):
        read_probe(tmp_path / "b.npy")


def test_members_are_deflated(tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", {"zeros": np.zeros(100_000)})
    assert (tmp_path / "a.npz").stat().st_size < 10_000
    with open_npz(tmp_path / "a.npz") as source:
        assert source.headers()["zeros"].shape == (100_000,)
        assert not source.read("zeros").any()
