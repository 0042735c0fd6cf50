"""Typed paths stay in the data folders, and what lies there is listed."""

from __future__ import annotations

from pathlib import Path

import pytest

from diptych.errors import InputError
from diptych.studio.data import DataFolders
from diptych.studio.options import StudioOptions


@pytest.fixture
def folders(tmp_path: Path) -> DataFolders:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "outside.npz").write_bytes(b"secret")
    (tmp_path / "inside-too").mkdir()
    return DataFolders((inside,))


def test_paths_inside_are_taken(folders: DataFolders) -> None:
    root = folders.roots[0]
    (root / "a.npz").write_bytes(b"")
    assert folders.resolve("a.npz") == root / "a.npz"
    assert folders.resolve(root / "b" / ".." / "a.npz") == root / "a.npz"
    assert folders.shown(root / "b" / "a.npz") == "b/a.npz"


@pytest.mark.parametrize(
    "given", ["../outside.npz", "/etc/passwd", "a/../../outside.npz", "../inside-too", "~/x", "a\0b", "~nobody-here/x"]
)
def test_paths_outside_are_refused(folders: DataFolders, given: str) -> None:
    with pytest.raises(InputError):
        folders.resolve(given)


def test_links_that_lead_out_are_refused_and_not_listed(folders: DataFolders, tmp_path: Path) -> None:
    root = folders.roots[0]
    (root / "link.npz").symlink_to(tmp_path / "outside.npz")
    (root / "folder").symlink_to(tmp_path)
    for given in ("link.npz", "folder/outside.npz"):
        with pytest.raises(InputError, match="outside the data folders"):
            folders.resolve(given)
    assert folders.items() == []


def test_files_are_listed_with_the_last_changed_first(folders: DataFolders) -> None:
    import os

    root = folders.roots[0]
    (root / "sub").mkdir()
    for name, time in (("old.npz", 100), ("sub/new.h5", 200), ("notes.txt", 300), (".hidden.npz", 400)):
        (root / name).write_bytes(b"x")
        os.utime(root / name, (time, time))
    assert [folders.shown(item.path) for item in folders.items("file")] == ["sub/new.h5", "old.npz"]


def test_a_data_folder_must_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a folder"):
        DataFolders((tmp_path / "missing",))


def test_the_working_directory_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert StudioOptions().folders == (tmp_path.resolve(),)
