"""HDF5 by path: links, loops, virtual datasets, filters and locks."""

from __future__ import annotations

import errno
import sys
import types
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from diptych.errors import InputError, UnavailableError
from diptych.ptycho.describe import describe_file
from diptych.ptycho.io.source import Hdf5Source, TreeSource, open_hdf5
from diptych.ptycho.io.source.base import Header

FRAMES = np.arange(4 * 3 * 3, dtype=np.uint16).reshape(4, 3, 3)


def made(path: Path, **datasets: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name.replace("__", "/")] = values
    return path


def test_datasets_groups_and_attributes_by_path(tmp_path: Path) -> None:
    path = made(tmp_path / "a.h5", entry__data__frames=FRAMES, title="a text")
    with h5py.File(path, "r+") as file:
        file["entry"].attrs["NX_class"] = np.bytes_("NXentry")
        file["entry/data/frames"].attrs["units"] = "counts"
    with open_hdf5(path) as source:
        tree: TreeSource = source
        assert set(tree.names()) == {"entry", "title"}
        assert tree.header("entry/data/frames") == Header((4, 3, 3), np.dtype("u2"))
        assert tree.header("/entry/data/frames") == tree.header("entry/data/frames")
        assert tree.header("entry") is None
        assert tree.header("entry/absent/frames") is None
        assert tree.attributes("entry")["NX_class"] == "NXentry"
        assert tree.attributes("entry/data/frames")["units"] == "counts"
        group = tree.group("entry/data")
        assert group is not None
        assert np.array_equal(group.read("frames"), FRAMES)
        assert np.array_equal(tree.read_part("entry/data/frames", np.array([0, 2, 3]), 0), FRAMES[[0, 2, 3]])
        assert str(tree.read("title")) == "a text"
        assert dict(tree.walk()) == {"entry/data/frames": ((4, 3, 3), np.dtype("u2")), "title": tree.header("title")}
        with pytest.raises(InputError, match=r"'entry/nothing': is not there; expected a dataset"):
            tree.read("entry/nothing")


def test_soft_and_hard_links_are_followed(tmp_path: Path) -> None:
    path = made(tmp_path / "a.h5", entry__frames=FRAMES)
    with h5py.File(path, "r+") as file:
        file["hard"] = file["entry/frames"]
        file["soft"] = h5py.SoftLink("/entry/frames")
        file["entry/near"] = h5py.SoftLink("frames")
        file["twice"] = h5py.SoftLink("/entry/near")
    with open_hdf5(path) as source:
        for name in ("hard", "soft", "entry/near", "twice"):
            assert np.array_equal(source.read(name), FRAMES)


def test_external_links_inside_the_folder_are_followed(tmp_path: Path) -> None:
    made(tmp_path / "below" / "data_1.h5", frames=FRAMES)
    path = made(tmp_path / "master.h5")
    with h5py.File(path, "r+") as file:
        file["relative"] = h5py.ExternalLink("below/data_1.h5", "frames")
        file["absolute"] = h5py.ExternalLink(str(tmp_path / "below" / "data_1.h5"), "frames")
        # The folder was moved since the link was written: HDF5 looks for the same name beside the file.
        file["moved"] = h5py.ExternalLink("/formerly/here/other.h5", "frames")
    made(tmp_path / "other.h5", frames=FRAMES + 1)
    with open_hdf5(path) as source:
        assert np.array_equal(source.read("relative"), FRAMES)
        assert np.array_equal(source.read("absolute"), FRAMES)
        assert np.array_equal(source.read("moved"), FRAMES + 1)


def test_loops_of_links_end(tmp_path: Path) -> None:
    path = made(tmp_path / "a.h5", entry__frames=FRAMES)
    with h5py.File(path, "r+") as file:
        file["entry/self"] = file["entry"]
        file["entry/up"] = h5py.SoftLink("/")
        file["one"], file["two"] = h5py.SoftLink("/two"), h5py.SoftLink("/one")
    with open_hdf5(path) as source:
        found = dict(source.walk())
        assert isinstance(found.pop("entry/frames"), Header)
        assert all("loop" in str(found[name]) for name in ("one", "two"))
        assert len(found) == 2
        with pytest.raises(InputError, match="'one': leads through more than 32 links: they form a loop"):
            source.read("one")


def test_a_link_to_nothing_is_an_error_where_the_group_is_listed(tmp_path: Path) -> None:
    """A mask behind a broken link must not be left out silently."""
    path = made(tmp_path / "a.h5", frames=FRAMES)
    with h5py.File(path, "r+") as file:
        file["mask"] = h5py.SoftLink("/nowhere")
        file["far"] = h5py.ExternalLink("absent.h5", "frames")
    with open_hdf5(path) as source:
        assert set(source.names()) == {"frames", "mask", "far"}
        assert np.array_equal(source.read("frames"), FRAMES)
        with pytest.raises(InputError, match=r"is a link"):
            source.headers()
        with pytest.raises(InputError, match=r"'mask': is a link to /nowhere, which is not there"):
            source.read("mask")
        with pytest.raises(InputError, match=r"'far': is a link into another file, absent\.h5, which is missing"):
            source.read("far")
    lines = {line["name"]: line["dtype"] for line in describe_file(path)["arrays"]}
    assert lines["frames"] == "uint16"
    assert "absent.h5" in lines["far"]


def virtual(path: Path, *sources: tuple[str, str], shape: tuple[int, ...] = (2, 3, 3)) -> Path:
    """A virtual dataset of two frames from each source (file, dataset), which are said to have ``shape``."""
    layout = h5py.VirtualLayout((2 * len(sources), 3, 3), "u2")
    for i, (file, name) in enumerate(sources):
        layout[2 * i : 2 * i + 2] = h5py.VirtualSource(file, name, shape)[:2]
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset("frames", layout)
    return path


def test_virtual_datasets_inside_the_file_and_its_folder(tmp_path: Path) -> None:
    made(tmp_path / "below" / "second.h5", part=FRAMES[2:])
    path = made(tmp_path / "a.h5", first=FRAMES[:2])
    virtual(path, (".", "first"), ("below/second.h5", "part"))
    with open_hdf5(path) as source:
        assert np.array_equal(source.read("frames"), FRAMES)
        assert np.array_equal(source.read_part("frames", np.array([1, 2]), 0), FRAMES[1:3])
        assert source.header("frames") == Header((4, 3, 3), np.dtype("u2"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (("absent.h5", "part"), r"absent\.h5, which is missing"),
        (("second.h5", "other"), r"its source other of second\.h5 is missing"),
        ((".", "other"), "its source other of the same file is missing"),
        (("../outside.h5", "part"), "outside the folder of this one: not followed"),
        (("linked.h5", "part"), "outside the folder of this one: not followed"),
        (("short.h5", "part"), r"has shape \(1, 3, 3\), less than is mapped; expected at least \(2, 3, 3\)"),
        ((".", "frames"), "contains itself"),
    ],
)
def test_virtual_datasets_whose_source_would_read_as_empty(
    tmp_path: Path, source: tuple[str, str], message: str
) -> None:
    folder = tmp_path / "folder"
    made(tmp_path / "outside.h5", part=FRAMES[:2])
    path = made(folder / "a.h5", first=FRAMES[:2])
    made(folder / "second.h5", part=FRAMES[2:])
    made(folder / "short.h5", part=FRAMES[:1])
    with h5py.File(folder / "linked.h5", "w") as file:
        file["part"] = h5py.ExternalLink("../outside.h5", "part")
    virtual(path, (".", "first"), source, shape=(4, 3, 3) if source == (".", "frames") else (2, 3, 3))
    with open_hdf5(path) as opened, pytest.raises(InputError, match=message) as caught:
        opened.read("frames")
    assert caught.value.where == f"{path}: 'frames'"


class NoFilter:
    """Stands for h5py.h5z without the filter 32008, until a module ``hdf5plugin`` is imported."""

    @staticmethod
    def filter_avail(number: int) -> bool:
        return number != 32008 or "hdf5plugin" in sys.modules


class Compressed:
    """A dataset handle that states the filter bitshuffle."""

    @property
    def id(self) -> Any:
        filters = types.SimpleNamespace(get_nfilters=lambda: 1, get_filter=lambda i: (32008, 0, (), b"bitshuffle"))
        return types.SimpleNamespace(get_create_plist=lambda: filters)


def test_a_missing_filter_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    from diptych.ptycho.io.source.hdf5_storage import check_filters

    monkeypatch.setattr(h5py, "h5z", NoFilter)
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    monkeypatch.setattr(NoFilter, "filter_avail", staticmethod(lambda number: number != 32008))
    with pytest.raises(UnavailableError, match=r"filter 32008 \(bitshuffle\).* pip install 'diptych\[formats\]'"):
        check_filters(Compressed(), "a.h5: 'frames'")


def test_an_installed_filter_package_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diptych.ptycho.io.source.hdf5_storage import check_filters

    monkeypatch.setattr(h5py, "h5z", NoFilter)
    (tmp_path / "hdf5plugin.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    # Set and deleted, so that nothing of the import is left after the test.
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    monkeypatch.delitem(sys.modules, "hdf5plugin")
    check_filters(Compressed(), "a.h5: 'frames'")
    assert str(sys.modules["hdf5plugin"].__file__).startswith(str(tmp_path))


@pytest.fixture
def locks(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What h5py.File is called with; it fails with the error number in the first entry unless it need not lock."""
    calls: list[Any] = [errno.ENOLCK]
    open_ = h5py.File

    def refusing(path: Any, mode: str = "r", locking: bool | None = None) -> Any:
        calls.append(locking)
        if locking is not False:
            raise OSError(calls[0], "unable to lock file")
        return open_(path, mode)

    monkeypatch.setattr(h5py, "File", refusing)
    return calls


def test_without_locks_the_file_is_read_without_locking(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    path = made(tmp_path / "a.h5", frames=FRAMES)
    locks = request.getfixturevalue("locks")
    with open_hdf5(path) as source:
        assert isinstance(source, Hdf5Source)
        assert np.array_equal(source.read("frames"), FRAMES)
    assert locks[1:] == [None, False]


@pytest.mark.parametrize(
    ("number", "error", "message"),
    [
        (errno.EAGAIN, InputError, "another program holds the HDF5 file open for writing"),
        (errno.EACCES, UnavailableError, "cannot be opened"),
        (0, InputError, "truncated, damaged"),
    ],
)
def test_locks_held_refusal_and_damage_are_told_apart(
    tmp_path: Path, request: pytest.FixtureRequest, number: int, error: type[Exception], message: str
) -> None:
    path = made(tmp_path / "a.h5", frames=FRAMES)
    request.getfixturevalue("locks")[0] = number
    with pytest.raises(error, match=message), open_hdf5(path):
        pass


def test_a_large_dataset_that_was_never_written_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("huge", (65536, 8192), "u2", chunks=(64, 64))
        file.create_dataset("dark", (40, 1024, 1024), "u2", chunks=(1, 1024, 1024), compression="gzip")[:] = 0
    with open_hdf5(tmp_path / "a.h5") as source:
        with pytest.raises(InputError, match="and holds 0 bytes of them"):
            source.read("huge")
        assert source.read_part("huge", np.arange(2), 0).shape == (2, 8192)
        assert not source.read("dark").any()


def test_a_broken_heap_of_texts_is_found_before_the_library_hangs_on_it(tmp_path: Path) -> None:
    """An object of free space that states no size: the library reads it without end."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["title"] = "a text of varying length"
        file.attrs["note"] = ["one", "three"]
    with open_hdf5(path) as source:
        assert str(source.read("title")) == "a text of varying length"
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    place = heap + 16
    while number := int.from_bytes(content[place : place + 2], "little"):
        assert number < 9
        place += 16 + -(-int.from_bytes(content[place + 8 : place + 16], "little") // 8) * 8
    content[place + 8 : place + 16] = bytes(8)
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"heap of texts at byte {heap} is broken"), open_hdf5(path):
        pass
