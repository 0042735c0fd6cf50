"""Files made to harm: each is one clear refusal, quickly, in bounded memory, and nothing outside the named file is
read."""

from __future__ import annotations

import io
import os
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from diptych.errors import InputError
from diptych.ptycho.describe import describe_file
from diptych.ptycho.io import load, load_object, load_scan, read_probe, save
from diptych.ptycho.scan import Canvas, Reconstruction
from diptych.ptycho.simulate import simulate

HUGE = (4_000_000, 512, 512)


def refused(path: Path, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value)) < 1000


def test_a_small_archive_that_declares_a_huge_array(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<u2", "fortran_order": False, "shape": HUGE})
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("diff3d.npy", header.getvalue() + bytes(1000))
        for key in ("xcoords", "ycoords"):
            with archive.open(f"{key}.npy", "w") as file:
                np.lib.format.write_array(file, np.arange(3.0))
    refused(path, "'diff3d': is cut short")
    # The archive's own directory can lie too (a real bomb need not: zeros shrink a thousandfold).
    metadata = io.BytesIO()
    np.lib.format.write_array(metadata, np.asarray("{}"))
    with zipfile.ZipFile(path, "a") as archive:
        archive.getinfo("diff3d.npy").file_size = 2 * int(np.prod(HUGE)) + 128
        archive.writestr("_metadata.npy", metadata.getvalue())
    refused(path, r"'diff3d': declares \(4000000, 512, 512\) uint16, 2.1e\+03 GB; expected no more than")


def test_a_sparse_file_that_declares_a_huge_array(tmp_path: Path) -> None:
    path = tmp_path / "sparse.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("diff3d", shape=HUGE, dtype="u2", chunks=(64, 512, 512))
        file["xcoords"] = file["ycoords"] = np.arange(3.0)
    refused(path, "'diff3d': declares .* GB of memory that are available")


def test_what_fits_is_read_and_what_does_not_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(simulate(size=32, patterns=9), tmp_path / "scan.npz")
    for available, fits in ((9 * 32 * 32 * 2, True), (9 * 32 * 32 * 2 - 1, False)):
        monkeypatch.setattr("diptych.ptycho.io.source.base.available_memory", lambda available=available: available)
        if fits:
            load(path, use_truth=False)
        else:
            refused(path, "'diff3d': declares")
    monkeypatch.setattr("diptych.ptycho.io.source.base.available_memory", lambda: None)
    load(path)


@pytest.mark.parametrize("shape", ["(4000000, 4000)", "(4, 4", "(-4, 4)", "(4.5,)"])
def test_a_single_array_whose_header_lies(tmp_path: Path, shape: str) -> None:
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    path = tmp_path / "probe.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(128))
    with pytest.raises(InputError, match=r"probe\.npy: the NPY file is damaged"):
        read_probe(path)


def linked(path: Path, other: Path, how: str) -> None:
    """A scan whose patterns lie in ``other``, or as raw bytes beside it."""
    with h5py.File(other, "w") as file:
        file["group/patterns"] = np.ones((9, 8, 8), np.uint16)
    secret = other.with_name("secret.bin")
    secret.write_bytes(bytes(range(1, 10)) * 64)
    with h5py.File(path, "w") as file:
        file["xcoords"] = file["ycoords"] = np.arange(9.0)
        file["_metadata"] = '{"domain": "counts"}'
        if how == "link":
            file["diff3d"] = h5py.ExternalLink(str(other), "group/patterns")
        elif how == "link by way of a link":
            file.create_group("inside")["there"] = h5py.ExternalLink(str(other), "group")
            file["diff3d"] = h5py.SoftLink("/inside/there/patterns")
        elif how == "raw storage":
            file.create_dataset("diff3d", (9, 8, 8), "u1", external=[(str(secret), 0, 576)])
        else:
            layout = h5py.VirtualLayout((9, 8, 8), "u2")
            layout[:] = h5py.VirtualSource(str(other), "group/patterns", (9, 8, 8))
            file.create_virtual_dataset("diff3d", layout)


@pytest.mark.parametrize("how", ["link", "link by way of a link", "raw storage", "virtual"])
@pytest.mark.parametrize("symbolic", [False, True], ids=["outside", "outside by way of a symbolic link"])
def test_nothing_outside_the_folder_is_read(tmp_path: Path, how: str, symbolic: bool) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    if symbolic:
        (inside / "door").symlink_to(outside)
    path = inside / "scan.h5"
    linked(path, (inside / "door" if symbolic else outside) / "other.h5", how)
    refused(path, "'diff3d'.* not followed. Copy")
    with pytest.raises(InputError, match="not followed"):
        load_scan(path)
    assert any("not followed" in line["dtype"] for line in describe_file(path)["arrays"]) or how in (
        "raw storage",
        "virtual",
    )


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "scan.npz"
    os.mkfifo(path)
    refused(path, "no regular file")


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, '{"format": "diptych scan", "metadata": [1]}', "[]", "\x00"]
)
def test_metadata_made_to_confuse(tmp_path: Path, text: str) -> None:
    path = tmp_path / "scan.npz"
    line = np.linspace(10, 30, 9)
    np.savez(path, diff3d=np.ones((9, 8, 8), np.uint16), xcoords=line, ycoords=line, _metadata=np.asarray(text))
    refused(path, "'?_metadata'?")


def test_thousands_of_names_do_not_make_a_message_of_pages(tmp_path: Path) -> None:
    path = tmp_path / "many.npz"
    np.savez(path, **{f"array{i}": np.zeros(1) for i in range(500)})
    refused(path, r"array0, array1, .*\.\.\. \(500 in all\)")


def test_a_long_text_in_the_place_of_a_number_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "scan.npz"
    scan = simulate(size=8, patterns=9, step=2.0, background=1.0)
    arrays = dict(np.load(save(scan, path)))
    for key in ("background", "diff3d", "xcoords", "probeGuess"):
        np.savez(path, **{**arrays, key: np.asarray("x" * 5000)})
        refused(path, "expected")


UNUSUAL: dict[str, Any] = {
    "text": np.asarray("text"),
    "texts": np.asarray(["a", "b"]),
    "date": np.asarray(np.datetime64("2020-01-01")),
    "record": np.zeros(9, [("a", "f4")]),
    "empty": np.zeros((0, 3)),
    "NaN": np.asarray(np.nan),
    "complex": np.full(9, 1j),
    "huge": np.asarray(1e300),
    "many axes": np.ones((2, 2, 2, 2, 2)),
    "truth value": np.asarray(True),
    "void": np.ones(9, "V4"),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    "name",
    [
        name if name in ("text", "NaN", "void") else pytest.param(name, marks=pytest.mark.integration)
        for name in UNUSUAL
    ],
)
def test_any_key_may_hold_anything(tmp_path: Path, name: str) -> None:
    """Whatever stands under a key: a scan, a result or one clear error comes of it, never another exception."""
    scan = simulate(
        size=8, patterns=9, step=2.0, background=1.0, dead=0.05, energy_eV=8e3, distance_m=1.0, detector_pixel_m=1e-4
    )
    result = Reconstruction(
        Canvas(np.ones((30, 30))),
        np.ones((1, 8, 8)),
        scan.positions,
        {"epoch": [1.0], "loss": [2.0]},
        error=np.ones((30, 30)),
    )
    tike = {"data": scan.counts[None], "scan": scan.positions[None] - 4, "probe": np.ones((1, 1, 8, 8))}
    path = tmp_path / "file.npz"
    for base in (dict(np.load(save(scan, path))), dict(np.load(save(result, path))), tike):
        for key in base:
            np.savez(path, **{**base, key: UNUSUAL[name]})
            for read in (
                load,
                describe_file,
                load_object,
                read_probe,
                lambda p: load(p, mask_invalid=True, orientation=5, flip_y=True),
            ):
                with suppress(InputError):
                    read(path)
