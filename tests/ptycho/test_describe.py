"""What is said of scans, results and files: known numbers, and notes exactly where something is unusual."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from diptych.errors import InputError
from diptych.ptycho.describe import describe_file, describe_result, describe_scan
from diptych.ptycho.io import save
from diptych.ptycho.scan import Canvas, Geometry, Reconstruction, Scan

N, STEP, SIDE = 32, 4.0, 6


def disk(radius: float, size: int = N) -> np.ndarray[Any, Any]:
    y, x = np.indices((size, size)) - size // 2
    return (np.hypot(y, x) <= radius).astype(np.complex64)


def scan(**changes: Any) -> Scan:
    """A raster of 6 x 6 patterns with a disk probe; 200 photons within 6 px of zero frequency."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij"), axis=-1).reshape(-1, 2) * STEP + 20
    bright = np.abs(disk(6)) * 200 / np.abs(disk(6)).sum()
    counts = rng.poisson(bright, (SIDE**2, N, N)).astype(np.uint16)
    return Scan(**{"counts": counts, "positions": grid, "probe": disk(9)[None], **changes})


def test_numbers_of_a_known_scan() -> None:
    about = describe_scan(scan(geometry=Geometry(8000.0, 2.0, (75e-6, 75e-6))))
    pixel = 1.239841984332003e-6 / 8000 * 2 / (N * 75e-6)
    assert about["patterns"] == SIDE**2
    assert about["size"] == N
    assert about["dtype"] == "uint16"
    assert about["photons_per_pattern"]["mean"] == pytest.approx(200, rel=0.02)
    assert about["position_span_px"] == [20.0, 20.0]
    assert about["position_span_m"] == pytest.approx([20 * pixel, 20 * pixel])
    assert about["step_px"] == STEP
    assert about["positions"] == "whole pixels"
    assert about["probe_diameter_px"] == pytest.approx(2 * 9 * np.sqrt(0.9), abs=1.2)
    assert about["overlap"] == pytest.approx(1 - STEP / about["probe_diameter_px"])
    assert [note[:31] for note in about["notes"]] == ["the positions are an exact rast"]


def test_masked_pixels_enter_no_number() -> None:
    plain = scan()
    counts = plain.counts.astype(np.float32)
    counts[:, 0, 0], counts[3, 5, 5] = np.nan, 1e9
    mask = np.ones(counts.shape, bool)
    mask[:, 0, 0] = mask[3, 5, 5] = False
    about, clean = describe_scan(scan(counts=counts, mask=mask)), describe_scan(plain)
    assert about["max_count"] == clean["max_count"]
    assert about["photons_per_pattern"] == clean["photons_per_pattern"]
    assert about["masked_fraction"] == pytest.approx((SIDE**2 + 1) / counts.size)
    zeros = int((plain.counts == 0).sum()) - SIDE**2 - 1
    assert about["zero_fraction"] == pytest.approx(zeros / (counts.size - SIDE**2 - 1))


def _corner(old: Scan) -> Scan:
    return replace(old, counts=np.fft.ifftshift(old.counts, (1, 2)))


def _dead(old: Scan) -> Scan:
    counts = old.counts.copy()
    counts[7] = 0
    return replace(old, counts=counts)


def _outlier(old: Scan) -> Scan:
    counts = old.counts.copy()
    counts[9] *= 5
    return replace(old, counts=counts)


def _inverted(old: Scan) -> Scan:
    counts = old.counts.copy()
    counts[:, 0, 0] = 1
    return replace(old, counts=counts, mask=np.abs(disk(14)) == 0)


def _saturated(old: Scan) -> Scan:
    return replace(old, counts=np.minimum(old.counts.astype(np.uint32) * 1000, 1500))


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (_corner, "corner_centred"),
        (lambda s: replace(s, counts=np.roll(s.counts, 4, axis=1)), r"centre of mass lies 4\.0"),
        (_dead, r"1 frames without photons .*: 7"),
        (_outlier, r"1 frames with far more photons .*: 9"),
        (_saturated, "saturates there"),
        (lambda s: replace(s, counts=np.sqrt(s.counts, dtype=np.float32)), "are they amplitudes"),
        (lambda s: replace(s, counts=(s.counts * 0.37).astype(np.float32)), "not whole numbers"),
        (
            lambda s: replace(s, positions=np.where(np.arange(SIDE**2)[:, None] == 1, s.positions[0], s.positions)),
            "1 positions repeat",
        ),
        (lambda s: replace(s, probe=None), "--probe estimate"),
        (lambda s: replace(s, probe=disk(2)[None]), "linear overlap is only"),
        (lambda s: replace(s, probe=np.fft.ifftshift(s.probe, (1, 2))), "corners of its array"),
        (_inverted, "is the mask inverted"),
        (lambda s: replace(s, truth=Canvas(np.ones((90, 90), complex))), "true object is flat"),
    ],
)
def test_one_note_for_one_oddity(change: Any, note: str) -> None:
    notes = [note for note in describe_scan(change(scan()))["notes"] if "exact raster" not in note]
    assert len(notes) == 1, notes
    assert re.search(note, notes[0]), notes


def test_everything_said_is_json(tmp_path: Path) -> None:
    full = scan(truth=Canvas(np.exp(1j * np.random.default_rng(1).normal(size=(90, 90)))), background=np.ones((N, N)))
    assert json.loads(json.dumps(describe_scan(full), allow_nan=False))["truth"] == [90, 90]
    single = Scan(full.counts[:1], full.positions[:1])
    assert describe_scan(single)["step_px"] is None
    about = describe_file(save(full, tmp_path / "scan.npz"))
    assert json.loads(json.dumps(about, allow_nan=False))["kind"] == "scan"


def test_results_are_described(tmp_path: Path) -> None:
    result = Reconstruction(
        Canvas(np.full((40, 50), 2.0 + 0j), (3, -4)),
        np.stack([3 * disk(5), disk(5)]),
        np.array([[20.0, 20], [25, 28]]),
        history={"epoch": [1.0, 2.0], "fit": [5.0, 1.25]},
        flags=("look here",),
    )
    about = describe_result(result)
    assert about["object"] == [40, 50]
    assert about["origin"] == [3, -4]
    assert about["mode_power"] == pytest.approx([0.9, 0.1])
    assert about["last"] == {"epoch": 2.0, "fit": 1.25}
    assert about["median_amplitude"] == 2.0
    assert about["position_span_px"] == [5.0, 8.0]
    for suffix in (".h5", ".npz"):
        found = describe_file(save(result, tmp_path / f"r{suffix}"))
        assert found["kind"] == "result"
        assert found["flags"] == ["look here"]


def test_an_undeclared_scan_is_explained(tmp_path: Path) -> None:
    plain = scan()
    path = tmp_path / "scan.npz"
    np.savez(path, diffraction=plain.counts, xcoords=plain.positions[:, 1], ycoords=plain.positions[:, 0])
    about = describe_file(path)
    assert about["kind"] == "incomplete"
    assert about["problem"] is None
    assert "--domain counts" in about["needs"]
    assert {"name": "diffraction", "shape": [36, N, N], "dtype": "uint16"} in about["arrays"]
    assert describe_file(path, domain="counts")["kind"] == "scan"


def test_a_layout_is_proposed_where_arrays_are_not_found_not_where_positions_are_wrong(tmp_path: Path) -> None:
    path = save(scan(truth=Canvas(np.ones((90, 90)))), tmp_path / "scan.npz")
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(tmp_path / "far.npz", **arrays | {name: 100 * arrays[name] for name in ("xcoords", "ycoords")})
    np.savez(tmp_path / "other.npz", frames=arrays["diff3d"], where=np.zeros((3, 2)))
    far, other = describe_file(tmp_path / "far.npz"), describe_file(tmp_path / "other.npz")
    assert "which unit" in far["problem"]
    assert far["notes"] == []
    assert "--layout-template" in " ".join([other["problem"], *other["notes"]])


def test_unknown_layouts_are_listed(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", frames=np.ones((2, 3)), notes=np.array([None], dtype=object))
    about = describe_file(tmp_path / "a.npz")
    assert about["kind"] == "unknown"
    assert "diff3d" in about["problem"]
    assert "never read" in about["arrays"][1]["dtype"]
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["entry/data"] = np.ones((2, 3), np.int32)
        file["title"] = "a title"
        file["entry/loop"] = h5py.SoftLink("/entry")
    about = describe_file(tmp_path / "b.h5")
    assert about["arrays"] == [
        {"name": "entry/data", "shape": [2, 3], "dtype": "int32"},
        {"name": "title", "shape": [], "dtype": "text"},
    ]


def test_files_that_cannot_be_read_are_errors(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 and nothing more")
    with pytest.raises(InputError, match="truncated or damaged"):
        describe_file(tmp_path / "a.npz")
    np.save(tmp_path / "b.npy", np.ones(3))
    assert "single NPY array" in describe_file(tmp_path / "b.npy")["problem"]


def test_a_cxi_file_is_explained(measured_data: Path) -> None:
    about = describe_file(measured_data / "petra3_p25_near_field.cxi")
    assert (about["kind"], about["problem"], about["patterns"]) == ("scan", None, 200)
    assert {"name": "entry_1/instrument_1/detector_1/data", "shape": [200, 100, 100], "dtype": "int32"} in about[
        "arrays"
    ]
