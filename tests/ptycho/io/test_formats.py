"""The registry of formats: built in, registered, and offered by an installed package."""

from __future__ import annotations

import dataclasses
import importlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from diptych.cli import run
from diptych.errors import InputError
from diptych.ptycho.io import FORMATS, LoadOptions, load, load_scan, save
from diptych.ptycho.io.files import DataFile, opened
from diptych.ptycho.io.formats import BUILTIN, Format, recognise, suffixes, writer
from diptych.ptycho.scan import Canvas, Geometry, Reconstruction, Scan
from diptych.runtime.registry import NoOptions

N = 8
GEOMETRY = Geometry(9e3, 1.0, (75e-6, 75e-6))


def scan(geometry: Geometry | None = None) -> Scan:
    rng = np.random.default_rng(0)
    counts, positions = rng.poisson(9.0, (5, N, N)).astype(np.uint16), rng.uniform(10, 30, (5, 2))
    return Scan(counts, positions, np.ones((N, N)), geometry=geometry, truth=Canvas(np.ones((40, 41))), name="small")


def result(geometry: Geometry | None = None) -> Reconstruction:
    return Reconstruction(
        Canvas(np.ones((30, 31))), np.ones((1, N, N)), np.full((3, 2), 12.0), {"fit": [2.0]}, geometry=geometry
    )


def test_every_builtin_format_declares_itself() -> None:
    assert [entry.name for entry in FORMATS.entries()][: len(BUILTIN)] == list(BUILTIN)
    for entry in FORMATS.entries():
        assert entry.help.endswith(".")
        assert (entry.write is None) == (not entry.suffixes)


@pytest.mark.parametrize("name", [name for name in BUILTIN if FORMATS[name].write is not None])
def test_what_a_format_writes_it_recognises(tmp_path: Path, name: str) -> None:
    entry = FORMATS[name]
    item = scan(GEOMETRY) if entry.holds == "scan" else result(GEOMETRY)
    if name == "emd":
        # This one holds rasters alone.
        raster = np.stack(np.mgrid[:2, :2], -1).reshape(-1, 2) * 4.0 + 12
        item = dataclasses.replace(item, counts=item.counts[:4], positions=raster)
    for suffix in entry.suffixes:
        path = save(item, tmp_path / f"file_dp{suffix}", format=name)
        with opened(path) as file:
            assert recognise(file) is entry
        # Some formats have no place for a name.
        assert load(path).name in (item.name, path.stem)
        for what, paths in entry.datasets.items():
            with opened(path) as file:
                assert any(file.arrays.header(path) is not None for path in paths), what


def test_the_content_decides_not_the_suffix(tmp_path: Path) -> None:
    with opened(save(scan(), tmp_path / "a.npz").rename(tmp_path / "a.h5")) as file:
        assert recognise(file) is FORMATS["scan-npz"]
    with opened(save(result(), tmp_path / "b.h5").rename(tmp_path / "b.dat")) as file:
        assert recognise(file) is FORMATS["ptychodus"]
        assert recognise(file, "scan") is None


def test_a_tike_scan_as_hdf5(tmp_path: Path) -> None:
    made = scan()
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["data"] = np.fft.ifftshift(made.counts, (1, 2))[None]
        file["scan"], file["probe"] = made.positions[None] - N // 2, made.probe
    back = load_scan(tmp_path / "t.h5")
    assert np.array_equal(back.counts, made.counts)
    assert np.allclose(back.positions, made.positions)


@pytest.mark.parametrize(
    ("item", "name", "expected"),
    [
        (scan(), "ptychodus", "one of cxi, emd, fold-slice, nxptycho, ptypy, scan-npz"),
        (result(), "scan-npz", "one of cdtools-result, nexus, ptychodus, ptychodus-cxi, ptychodus-npz"),
        (scan(), "raw-data", "one of cxi, emd, fold-slice"),
        (result(), "no-such", "ptychodus"),
    ],
)
def test_a_format_that_cannot_write_the_item(tmp_path: Path, item: Any, name: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        writer(item, tmp_path / "a.npz", name)
    assert name in caught.value.where
    assert expected in caught.value.expected


def test_an_unknown_suffix_lists_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        save(result(), tmp_path / "a.csv")
    assert (caught.value.where, caught.value.found) == (str(tmp_path / "a.csv"), "found .csv")
    assert ".h5 (ptychodus)" in caught.value.expected
    assert ".npz (result-npz)" in caught.value.expected
    assert "cdtools-result" in caught.value.remedy
    assert suffixes("result").count(".npz") == 1


TEXT = '''
"""A format of counts as text, as a package of its own would bring it."""
import numpy as np
from diptych.ptycho.io.formats import Format
from diptych.ptycho.scan import Scan
from diptych.runtime.registry import NoOptions


def matches(file):
    return file.kind == "other" and file.path.is_file() and file.path.read_bytes().startswith(b"# counts as text")


def read(file, options):
    rows = np.loadtxt(file.path)
    size = round(np.sqrt(rows.shape[1] - 2))
    return Scan(rows[:, 2:].reshape(-1, size, size), rows[:, :2], np.ones((size, size)), name=file.path.stem)


def write(scan, path):
    np.savetxt(path, np.hstack([scan.positions, scan.counts.reshape(len(scan), -1)]), header="counts as text")


FORMAT = Format("text-counts", "Counts as text.", NoOptions, "scan", matches, read, write, (".txt",))
'''


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """A function that makes a module (name, source) an installed distribution that offers a format."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))

    def install(name: str, source: str) -> None:
        (folder / f"{name}.py").write_text(source)
        about = folder / f"{name}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[diptych.formats]\n{name.replace('_', '-')} = {name}:FORMAT\n")
        importlib.invalidate_caches()

    yield install
    importlib.invalidate_caches()


def test_a_format_of_an_installed_package_is_read_and_written(
    tmp_path: Path, installed: Callable[[str, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    installed("text_counts", TEXT)
    path = save(scan(), tmp_path / "a.txt")
    back = load_scan(path)
    assert np.array_equal(back.counts, scan().counts)
    assert run(["info", str(path)]) == 0
    assert "a" in capsys.readouterr().out


@pytest.mark.parametrize(
    "source",
    [
        "raise RuntimeError('an old library')",
        "FORMAT = 3",
        TEXT.replace("def matches(file):", "def matches(file):\n    raise KeyError('entry')"),
    ],
    ids=["does not import", "is no format", "fails on a file"],
)
def test_a_broken_package_does_not_stop_others(
    tmp_path: Path, installed: Callable[[str, str], None], caplog: pytest.LogCaptureFixture, source: str
) -> None:
    name = f"broken_{abs(hash(source))}"
    installed(name, source)
    path = tmp_path / "frames.h5"
    with h5py.File(path, "w") as file:
        file["frames"] = np.ones(3)
    with caplog.at_level(logging.WARNING, "diptych"), pytest.raises(InputError, match="holds frames"):
        load(path)
    assert name.replace("_", "-") in caplog.text or "text-counts" in caplog.text
    assert load(save(scan(), tmp_path / "a.npz")).name == "small"


def test_a_failure_of_a_builtin_format_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import diptych.ptycho.io.scans.npz as module

    def fails(file: DataFile) -> bool:
        raise ZeroDivisionError

    monkeypatch.setattr(module, "FORMAT", dataclasses.replace(module.FORMAT, matches=fails))
    with pytest.raises(ZeroDivisionError):
        load(save(result(), tmp_path / "a.npz"))


def test_a_registered_format_of_positions_is_no_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FORMATS, "_registered", {})
    table = Format(
        name="table",
        help="Positions as text.",
        options=NoOptions,
        holds="positions",
        matches=lambda file: file.path.suffix == ".pos",
        read=lambda file, options: np.loadtxt(file.path),
    )
    FORMATS.register(table)
    path = tmp_path / "a.pos"
    path.write_text("1 2\n3 4\n")
    with opened(path) as file:
        found = recognise(file, "positions")
        assert found is table
        assert np.array_equal(found.read(file, LoadOptions()), [[1, 2], [3, 4]])
    with pytest.raises(InputError, match="unknown kind"):
        load(path)
