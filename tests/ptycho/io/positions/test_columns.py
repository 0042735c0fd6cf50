"""Positions in MDA, SPEC, PandA and NXstxm files, joined with patterns by number."""

from __future__ import annotations

import struct
from pathlib import Path

import h5py
import numpy as np
import pytest

import diptych
from diptych.errors import InputError
from diptych.ptycho.describe import describe_file
from diptych.ptycho.io.positions.mda import open_mda
from diptych.ptycho.io.positions.read import read_positions

N, ROWS, COLUMNS = 8, 3, 4
M = ROWS * COLUMNS
Y, X = np.repeat(np.arange(ROWS) * 0.5, COLUMNS), np.tile(np.arange(COLUMNS) * 0.25, ROWS)


def text(value: str) -> bytes:
    content = value.encode()
    if not content:
        return struct.pack(">i", 0)
    return struct.pack(">ii", len(content), len(content)) + content + b"\0" * (-len(content) % 4)


def sweep(rank: int, name: str, unit: str, values: np.ndarray, inner: list[int] | None = None) -> bytes:
    """A scan of one positioner and one detector."""
    done = len(values)
    head = struct.pack(">iii", rank, done, done)
    head += b"" if inner is None else struct.pack(f">{done}i", *inner)
    head += text("scan") + text("now") + struct.pack(">iii", 1, 1, 0)
    head += (
        struct.pack(">i", 0) + text(f"dev:{name}.VAL") + text(f"Sample {name.upper()}") + text("LINEAR") + text(unit)
    )
    head += text("") + text("") + text("")
    head += struct.pack(">i", 0) + text("dev:scaler") + text("counts") + text("")
    return head + values.astype(">f8").tobytes() + np.arange(done).astype(">f4").tobytes()


def write_mda(path: Path) -> Path:
    """A raster as EPICS saves it: a scan over y whose points are scans over x."""
    start = struct.pack(">fi", 1.3, 11) + struct.pack(">iiiii", 2, ROWS, COLUMNS, 1, 0)
    y = np.arange(ROWS) * 0.5
    size = len(start) + len(sweep(2, "y", "mm", y, [0] * ROWS))
    inner = [sweep(1, "x", "mm", np.arange(COLUMNS) * 0.25) for _ in range(ROWS)]
    places = [size + sum(map(len, inner[:number])) for number in range(ROWS)]
    path.write_bytes(start + sweep(2, "y", "mm", y, places) + b"".join(inner))
    return path


def patterns(folder: Path) -> Path:
    with h5py.File(folder / "frames.h5", "w") as file:
        file["exchange/data"] = np.random.default_rng(0).poisson(9.0, (M, N, N)).astype(np.uint16)
    return folder / "frames.h5"


KNOWN = {"energy_eV": 9e3, "distance_m": 1.0, "detector_pixel_m": 75e-6}


def test_an_mda_raster_is_read_and_joined(tmp_path: Path) -> None:
    path = write_mda(tmp_path / "scan.mda")
    table = read_positions(str(path))
    assert table.unit == "mm"
    assert np.array_equal(table.y, Y)
    assert np.array_equal(table.x, X)
    scan = diptych.load(patterns(tmp_path), positions=str(path), **KNOWN)
    assert scan.positions == pytest.approx(np.stack([Y, X], 1) * 1e-3 / scan.pixel_m[0])
    named = diptych.load(patterns(tmp_path), positions=f"{path}:dev:y.VAL,dev:x.VAL", **KNOWN)
    assert np.array_equal(named.positions, scan.positions)
    about = describe_file(path)
    assert (about["kind"], about["positions"], about["unit"]) == ("positions", M, "mm")
    with pytest.raises(
        InputError, match=r"(?s)holds positions \(mda\).*:\n  diptych reconstruct PATTERNS --positions scan\.mda$"
    ):
        diptych.load(path)


def test_damaged_mda_files_are_refused(tmp_path: Path) -> None:
    path = write_mda(tmp_path / "scan.mda")
    whole = path.read_bytes()
    for cut in range(9, len(whole) - 1, 7):
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError, match=r"scan\.mda"):
            open_mda(path)
    # Every point of the outer scan leads to the same inner one.
    start = struct.pack(">fi", 1.3, 11) + struct.pack(">iiiii", 2, ROWS, COLUMNS, 1, 0)
    outer = sweep(2, "y", "mm", np.arange(ROWS), [0] * ROWS)
    loop = sweep(2, "y", "mm", np.arange(ROWS), [len(start) + len(outer)] * ROWS)
    path.write_bytes(start + loop + sweep(1, "x", "mm", np.arange(COLUMNS)))
    with pytest.raises(InputError, match="the same inner scan"):
        open_mda(path)


SPEC = """#F data.spec
#D Sat Nov 28

#S 11 ascan th 0 1 2
#L Theta  Seconds
0 1
1 1

#S 12 mesh samx 0 1 3 samy 0 1 2
#N 3
#L samx  samy  Epoch
0.0 1.0 5
@A 1 2 3\\
 4 5 6
0.5 1.0 6
#C aborted
1.0 2.0 7
"""


def test_spec(tmp_path: Path) -> None:
    path = tmp_path / "data.spec"
    path.write_text(SPEC)
    table = read_positions(str(path))
    assert (table.y.tolist(), table.x.tolist(), table.unit) == ([1.0, 1.0, 2.0], [0.0, 0.5, 1.0], None)
    named = read_positions(f"{path}:12/samy,12/samx,12/Epoch")
    assert named.numbers.tolist() == [5, 6, 7]
    path.write_text(SPEC + SPEC[SPEC.index("#S 12") :].replace("#S 12", "#S 13"))
    with pytest.raises(InputError, match=r"does not say which columns.*12/samx.*13/samy.*--positions FILE:"):
        read_positions(str(path))


def test_panda_by_trigger(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "panda.h5", "w") as file:
        file["INENC1.VAL.Mean"], file["INENC2.VAL.Mean"] = X, Y
        file["COUNTER1.OUT.Value"] = np.arange(M) + 2.0
    with pytest.raises(InputError, match=r"does not say which columns.*INENC1\.VAL\.Mean"):
        read_positions(str(tmp_path / "panda.h5"))
    spec = f"{tmp_path / 'panda.h5'}:INENC2.VAL.Mean,INENC1.VAL.Mean,COUNTER1.OUT.Value"
    scan = diptych.load(patterns(tmp_path), positions=spec, position_unit="um", **KNOWN)
    assert len(scan) == M - 2
    assert "left out: frame 0, 1" in " ".join(scan.metadata["conversions"])


@pytest.mark.parametrize("raster", [True, False])
def test_nxstxm(tmp_path: Path, raster: bool) -> None:
    with h5py.File(tmp_path / "s.nxs", "w") as file:
        entry = file.create_group("entry1")
        entry.attrs["NX_class"] = "NXentry"
        entry["definition"] = "NXstxm"
        entry["counter0/data"] = np.zeros((1, ROWS, COLUMNS))
        entry["counter0/sample_y"] = np.arange(ROWS) * 0.5 if raster else Y
        entry["counter0/sample_x"] = np.arange(COLUMNS) * 0.25 if raster else X
        for axis in "yx":
            entry[f"counter0/sample_{axis}"].attrs["units"] = "um"
    table = read_positions(str(tmp_path / "s.nxs"))
    assert (table.y.tolist(), table.x.tolist(), table.unit) == (Y.tolist(), X.tolist(), "um")


def test_the_mda_file_of_a_beamline(measured_data: Path) -> None:
    path = measured_data / "formats" / "aps_2xfm_0011.mda"
    source = open_mda(path)
    y = source.read("2xfm:m13.VAL")
    assert (y.shape, y.min(), y.max()) == ((121,), 3.25, pytest.approx(3.75))
    assert source.attributes("2xfm:m13.VAL") == {"units": "mm", "description": "Sample Y"}
    spec = f"{path}:2xfm:m13.VAL,2xfm:FLYuserCalc10.A"
    assert len(read_positions(spec).x) == 121
