"""Positions from another file than the patterns: tables, products, scans and datasets, joined by frame number."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

import diptych
from diptych.errors import InputError
from diptych.ptycho.io.positions.text import read_text

ENERGY_EV, DISTANCE_M, DETECTOR_PIXEL_M, SIZE, PATTERNS = 8000.0, 2.0, 55e-6, 16, 6
GEOMETRY = diptych.Geometry(ENERGY_EV, DISTANCE_M, (DETECTOR_PIXEL_M,) * 2)
PIXEL_M = np.asarray(GEOMETRY.object_pixel_m(SIZE))

rng = np.random.default_rng(8)
COUNTS = rng.poisson(15.0, (PATTERNS, SIZE, SIZE)).astype(np.uint16)
POSITIONS = rng.uniform(0, 40, (PATTERNS, 2))
METRES = POSITIONS * PIXEL_M


def patterns(folder: Path) -> Path:
    with h5py.File(folder / "patterns.cxi", "w") as file:
        detector = file.create_group("entry_1/instrument_1/detector_1")
        detector["data"], detector["distance"] = COUNTS, DISTANCE_M
        detector["x_pixel_size"] = detector["y_pixel_size"] = DETECTOR_PIXEL_M
        file["entry_1/instrument_1/source_1/energy"] = ENERGY_EV
        file["entry_1/data_1/data"] = h5py.SoftLink("/entry_1/instrument_1/detector_1/data")
    return folder / "patterns.cxi"


def said(scan: diptych.Scan) -> str:
    return " ".join(scan.metadata["conversions"])


@pytest.mark.parametrize(
    ("header", "scale", "separator"),
    [
        ("y_um,x_um", 1e6, ","),
        ("Y [mm];X [mm]", 1e3, ";"),
        ("# samy_m samx_m", 1.0, " "),
        ('"PosY (nm)"\t"PosX (nm)"', 1e9, "\t"),
    ],
)
def test_a_table_with_a_header(tmp_path: Path, header: str, scale: float, separator: str) -> None:
    lines = [header, *(separator.join(f"{value:.17g}" for value in row) for row in METRES * scale)]
    (tmp_path / "positions.csv").write_text("\n".join(lines), encoding="utf-8")
    scan = diptych.load(patterns(tmp_path), positions=str(tmp_path / "positions.csv"))
    assert scan.positions == pytest.approx(POSITIONS, abs=1e-6)
    assert "positions.csv" in said(scan)


def test_columns_in_the_other_order_and_the_unit_as_an_option(tmp_path: Path) -> None:
    rows = [f"{x * 1e6:.17g}, {y * 1e6:.17g}" for y, x in METRES]
    (tmp_path / "p.txt").write_text("\n".join(["x, y", *rows]))
    scan = diptych.load(patterns(tmp_path), positions=str(tmp_path / "p.txt"), position_unit="um")
    assert scan.positions == pytest.approx(POSITIONS, abs=1e-6)


def test_frames_are_joined_by_number_and_the_rest_is_listed(tmp_path: Path) -> None:
    order = [4, 2, 0, 5, 2]
    rows = [f"{frame},{METRES[frame, 0]:.17g},{METRES[frame, 1]:.17g}" for frame in order]
    (tmp_path / "p.csv").write_text("\n".join(["frame,y_m,x_m", *rows, "77,0,0"]))
    scan = diptych.load(patterns(tmp_path), positions=str(tmp_path / "p.csv"))
    kept = [0, 2, 4, 5]
    assert np.array_equal(scan.counts, COUNTS[kept])
    assert scan.positions == pytest.approx(POSITIONS[kept], abs=1e-6)
    assert "2 patterns without a position, left out: frame 1, 3" in said(scan)
    assert "1 positions without a pattern, not used: frame 77" in said(scan)
    assert "1 frames have several positions" in said(scan)


@pytest.mark.parametrize("form", ["pair", "stack", "translation"])
def test_datasets_by_their_path(tmp_path: Path, form: str) -> None:
    with h5py.File(tmp_path / "stage.h5", "w") as file:
        file["scan/y"], file["scan/x"], file["stack"] = METRES[:, 0] * 1e6, METRES[:, 1] * 1e6, METRES * 1e6
        file["translation"] = np.stack([METRES[:, 1], METRES[:, 0], 0 * METRES[:, 0]], 1) * 1e6
        for name in ("scan/y", "stack", "translation"):
            file[name].attrs["units"] = "micron"
    inner = {"pair": "/scan/y,/scan/x"}.get(form, form)
    scan = diptych.load(patterns(tmp_path), positions=f"{tmp_path / 'stage.h5'}:{inner}")
    assert scan.positions == pytest.approx(POSITIONS, abs=1e-6)


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
def test_a_result_gives_positions_and_the_probe(tmp_path: Path, suffix: str) -> None:
    full = diptych.Scan(COUNTS, POSITIONS, np.ones((SIZE, SIZE)), geometry=GEOMETRY)
    result = diptych.reconstruct(full, epochs=1)
    path = diptych.save(result, tmp_path / f"result{suffix}")
    scan = diptych.load(patterns(tmp_path), positions=str(path))
    assert scan.positions == pytest.approx(result.positions, abs=1e-6)
    assert scan.probe == pytest.approx(result.probe)


def test_they_replace_those_of_the_file(tmp_path: Path) -> None:
    full = diptych.Scan(COUNTS, POSITIONS, np.ones((SIZE, SIZE)), geometry=GEOMETRY)
    other = diptych.Scan(COUNTS, POSITIONS[::-1], np.ones((SIZE, SIZE)), geometry=GEOMETRY)
    paths = [diptych.save(item, tmp_path / f"{name}.npz") for name, item in (("full", full), ("other", other))]
    assert diptych.load(paths[0], positions=str(paths[1])).positions == pytest.approx(POSITIONS[::-1], abs=1e-9)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("1,2\n3,4\n", "no header"),
        ("a,b\n1,2\n", "no column for y"),
        ("y,samy,ysam,z\n1,2,3,4\n", "no column for x"),
        ("y_um,x_mm\n1,2\n", "one unit of both"),
        ("y_um,x_um\n1,2\n3\n", "line 2 of the numbers"),
        ("frame,y_um,x_um\n90,1,2\n", "positions of the same frames"),
        ("y_um,x_um\n1,2\n", "1 positions, and"),
        ("nothing\n", "no line of numbers"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, text: str, part: str) -> None:
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(InputError, match=part):
        diptych.load(patterns(tmp_path), positions=str(tmp_path / "p.csv"))


def test_a_dataset_that_is_not_there_lists_what_is(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "stage.h5", "w") as file:
        file["scan/y"] = METRES[:, 0]
    with pytest.raises(InputError, match=r"no dataset 'scan/x'; it holds scan/y"):
        diptych.load(patterns(tmp_path), positions=f"{tmp_path / 'stage.h5'}:scan/y,scan/x")


def test_index_is_the_number_of_a_frame_not_an_x(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("index,y_um,x_um\n3,1,2\n")
    table = read_text(tmp_path / "p.csv")
    assert (table.y[0], table.x[0], table.numbers[0], table.unit) == (1.0, 2.0, 3, "um")


def test_patterns_and_product_of_ptychodus_are_the_prepared_scan(measured_data: Path) -> None:
    folder = measured_data / "formats"
    expected = diptych.load(folder / "ptypy090_cnm.ptyd")
    for end in ("cxi", "h5"):
        product = str(folder / f"ptychodus170_product.{end}")
        scan = diptych.load(folder / "ptychodus170_diffraction.cxi", positions=product)
        assert np.array_equal(scan.counts, expected.counts)
        assert scan.positions == pytest.approx(expected.positions, abs=5e-3)
        assert scan.probe.shape == (3, 128, 128)


def test_the_unit_of_a_translation_is_honoured(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "places.cxi", "w") as file:
        key = "entry_1/sample_1/geometry_1/translation"
        file[key] = np.stack([METRES[:, 1], METRES[:, 0], 0 * METRES[:, 0]], 1) * 1e6
        file[key].attrs["units"] = "um"
    scan = diptych.load(patterns(tmp_path), positions=str(tmp_path / "places.cxi"))
    assert scan.positions == pytest.approx(POSITIONS, abs=1e-6)


def test_numbers_of_frames_that_are_none_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "product.h5", "w") as file:
        file["probe_position_y_m"], file["probe_position_x_m"] = METRES.T
        file["probe_position_indexes"] = np.full(PATTERNS, np.nan)
    with pytest.raises(InputError, match=r"probe_position_indexes.*not finite"):
        diptych.load(patterns(tmp_path), positions=str(tmp_path / "product.h5"))
