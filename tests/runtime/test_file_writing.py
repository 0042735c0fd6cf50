"""Files appear whole or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from diptych.errors import InputError
from diptych.runtime.files import check_output, replacing, sha256, write_text


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "numbers.csv"
    write_text(path, "old")

    def killed() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half of the n")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        killed()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_good_write_replaces_and_keeps_the_suffix_for_writers_that_need_it(tmp_path: Path) -> None:
    path = tmp_path / "figure.png"
    with replacing(path) as temporary:
        assert temporary.suffix == ".png"
        temporary.write_bytes(b"x")
    assert path.read_bytes() == b"x"
    assert list(tmp_path.iterdir()) == [path]


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "a")
    (tmp_path / "b.txt").write_text("b")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "b.txt").stat().st_mode


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"photons" * 100_000)
    assert sha256(tmp_path / "x") == hashlib.sha256(b"photons" * 100_000).hexdigest()


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("a.txt", "expected .h5 or .npz"),
        ("absent/a.h5", "does not exist"),
        ("there.h5", "--overwrite"),
        ("folder.h5", "is a folder"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path, name: str, phrase: str) -> None:
    (tmp_path / "there.h5").write_text("")
    (tmp_path / "folder.h5").mkdir()
    with pytest.raises(InputError, match=phrase):
        check_output(tmp_path / name, (".h5", ".npz"))


def test_overwrite_allows_a_file_but_never_a_folder(tmp_path: Path) -> None:
    (tmp_path / "there.h5").write_text("")
    (tmp_path / "folder.h5").mkdir()
    assert check_output(tmp_path / "there.h5", (".h5",), overwrite=True) == tmp_path / "there.h5"
    with pytest.raises(InputError, match="is a folder"):
        check_output(tmp_path / "folder.h5", (".h5",), overwrite=True)
