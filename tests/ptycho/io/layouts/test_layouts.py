"""Layouts: a description in YAML reads every file of its kind; templates, folders, and what is wrong with one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml

import diptych
from diptych.cli import run
from diptych.errors import InputError
from diptych.ptycho.describe import describe_file
from diptych.ptycho.io.layouts.find import VARIABLE
from diptych.ptycho.io.layouts.layout import Layout, read_layout_file
from diptych.ptycho.io.layouts.write import write_template

GEOMETRY = diptych.Geometry(energy_eV=9000.0, distance_m=1.25, detector_pixel_m=(75e-6, 75e-6))
SIZE, ROWS, COLUMNS = 16, 3, 4
rng = np.random.default_rng(5)
COUNTS = rng.poisson(20.0, (ROWS * COLUMNS, SIZE, SIZE)).astype(np.uint16)
POSITIONS = rng.uniform(5, 40, (ROWS * COLUMNS, 2))
GOOD = np.ones((SIZE, SIZE), bool)
GOOD[3, 5] = False


def write(path: Path, seed: int = 0) -> Path:
    """A file of a layout that no format reads: axes, units, signs and mask of its own."""
    pixel = np.asarray(GEOMETRY.object_pixel_m(SIZE))
    with h5py.File(path, "w") as file:
        file["measured/camera/stack"] = np.moveaxis(COUNTS + seed, 0, 2).swapaxes(0, 1)
        file["measured/stage/vertical"] = -POSITIONS[:, 0] * pixel[0] * 1e6
        file["measured/stage/horizontal"] = POSITIONS[:, 1] * pixel[1] * 1e6
        file["setup/energy"], file["setup/distance"], file["setup/pixel_size"] = 9.0, 1250.0, 75.0
        file["setup/bad"] = (~GOOD).astype(np.uint8)
    return path


FILLED: dict[str, Any] = {
    "name": "home-made",
    "patterns": "measured/camera/stack",
    "domain": "counts",
    "axes": "XYM",
    "positions": "measured/stage/vertical,measured/stage/horizontal",
    "position_unit": "um",
    "sign_y": -1,
    "energy": "setup/energy",
    "energy_unit": "keV",
    "distance": "setup/distance",
    "distance_unit": "mm",
    "pixel_y": "setup/pixel_size",
    "pixel_unit": "um",
    "mask": "setup/bad",
}


def described(folder: Path, **changes: Any) -> Path:
    path = folder / "home.yaml"
    path.write_text(yaml.safe_dump({**FILLED, **changes}))
    return path


def test_a_layout_reads_every_file_of_its_kind(tmp_path: Path) -> None:
    layout = described(tmp_path)
    for seed in (0, 7):
        scan = diptych.load(write(tmp_path / f"{seed}.h5", seed), layout=str(layout))
        assert np.array_equal(scan.counts, COUNTS + seed)
        assert scan.positions == pytest.approx(POSITIONS, abs=1e-9)
        assert np.array_equal(scan.mask, GOOD)
        assert scan.geometry.energy_eV == pytest.approx(9000)
        assert scan.pixel_m == pytest.approx(GEOMETRY.object_pixel_m(SIZE))


def test_numbers_may_be_attributes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file["setup"].attrs["E"], file.attrs["z"], file["setup"].attrs["who"] = 9.0, [1250.0], "a person"
    scan = diptych.load(path, layout=str(described(tmp_path, energy="setup@E", distance="@z")))
    assert scan.pixel_m == pytest.approx(GEOMETRY.object_pixel_m(SIZE))
    for wrong, says in (("setup@F", "no attribute 'F'"), ("setup@who", "expected a number")):
        with pytest.raises(InputError, match=says):
            diptych.load(path, layout=str(described(tmp_path, energy=wrong)))


def test_options_count_more_than_the_layout(tmp_path: Path) -> None:
    scan = diptych.load(write(tmp_path / "a.h5"), layout=str(described(tmp_path)), distance_m=2.5)
    assert scan.positions == pytest.approx(POSITIONS / 2, abs=1e-9)


@pytest.mark.parametrize("axes", ["MYX", "MXY", "YXM", "XYM", "RCYX", "CRYX", "RCXY", "CRXY"])
def test_every_order_of_axes(tmp_path: Path, axes: str) -> None:
    raster = COUNTS.reshape(ROWS, COLUMNS, SIZE, SIZE)
    source = COUNTS if "M" in axes else raster
    names = "MYX" if "M" in axes else "RCYX"
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["stack"] = np.transpose(source, [names.index(axis) for axis in axes])
        file["yx"] = POSITIONS
    layout = tmp_path / "a.yaml"
    layout.write_text(yaml.safe_dump({"patterns": "stack", "domain": "counts", "axes": axes, "positions": "yx"}))
    scan = diptych.load(tmp_path / "a.h5", layout=str(layout))
    assert np.array_equal(scan.counts, COUNTS)
    assert scan.positions == pytest.approx(POSITIONS)


def test_several_datasets_in_a_row_are_cut_around_the_centre(tmp_path: Path) -> None:
    frames = np.zeros((ROWS * COLUMNS, 40, 50), np.uint32)
    frames[:, 12 : 12 + SIZE, 21 : 21 + SIZE] = COUNTS
    frames[2, 13, 22] = 2**32 - 1
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["d/data_9"], file["d/data_10"], file["yx"] = frames[:5], frames[5:], POSITIONS
    layout = tmp_path / "a.yaml"
    text = {
        "patterns": "d/data_*",
        "domain": "counts",
        "positions": "yx",
        "frame_size": SIZE,
        "centre_y": 20,
        "centre_x": 29,
    }
    layout.write_text(yaml.safe_dump(text))
    scan = diptych.load(tmp_path / "a.h5", layout=str(layout))
    assert np.array_equal(np.where(scan.mask, scan.counts, 0), np.where(scan.mask, COUNTS, 0))
    assert np.argwhere(~scan.mask).tolist() == [[2, 1, 1]]


def test_the_template_is_a_layout_once_it_is_filled_in(tmp_path: Path) -> None:
    pixel = GEOMETRY.object_pixel_m(SIZE)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["scan/frames"] = COUNTS
        file["scan/motors/pos_y"], file["scan/motors/pos_x"] = (POSITIONS * pixel).T * 1e6
        for axis in "yx":
            file[f"scan/motors/pos_{axis}"].attrs["units"] = "um"
        file["beam/energy"], file["det/distance"] = 9.0, 1.25
        file["beam/energy"].attrs["units"] = "keV"
        file["det/x_pixel_size"] = file["det/y_pixel_size"] = 75e-6
        file["det/pixel_mask"] = (~GOOD).astype(np.uint32)
    out = write_template(tmp_path / "a.h5", tmp_path / "t.yaml")
    with pytest.raises(InputError, match=r"t\.yaml: domain not filled in.*counts or amplitude"):
        diptych.load(tmp_path / "a.h5", layout=str(out))
    out.write_text(out.read_text().replace("domain:  # FILL IN", "domain: counts"))
    scan = diptych.load(tmp_path / "a.h5", layout=str(out))
    assert np.array_equal(scan.counts, COUNTS)
    assert scan.positions == pytest.approx(POSITIONS, abs=1e-9)
    assert np.array_equal(scan.mask, GOOD)


def test_a_layout_in_a_folder_is_found_by_the_content_and_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "layouts"
    folder.mkdir()
    described(folder)
    (folder / "a-wrong.yaml").write_text("patterns: [1, 2]\ndomain: counts\n")
    path = write(tmp_path / "a.h5")
    with pytest.raises(InputError, match="--layout-template"):
        diptych.load(path)
    monkeypatch.setenv(VARIABLE, str(folder))
    with caplog.at_level(logging.WARNING, "diptych"):
        assert np.array_equal(diptych.load(path).counts, COUNTS)
    assert "a-wrong.yaml" in caplog.text
    assert np.array_equal(diptych.load(path, layout="home-made").counts, COUNTS)
    with pytest.raises(InputError, match="home-made"):
        diptych.load(path, layout="another")
    other = diptych.save(diptych.Scan(COUNTS, POSITIONS), tmp_path / "own.npz")
    assert diptych.load(other).positions == pytest.approx(POSITIONS)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"patterns": "nowhere"}, r"'nowhere': there is no dataset.*measured/camera/stack"),
        ({"patterns": "measured/camera/x*"}, "no dataset has such a name"),
        ({"positions": "setup/bad"}, r"has shape .* 12 patterns"),
        ({"axes": "RCYX"}, r"4 axes \(RCYX\)"),
        ({"axes": "QRS"}, "axes"),
        ({"unknown": 1}, "unknown option 'unknown'"),
        ({"energy": None}, "does not state energy_eV"),
        ({"energy_unit": "eV"}, "photon energy is 9"),
        ({"mask": "measured/stage/vertical"}, "that of a frame"),
        ({"distance_unit": "px"}, "a length is expected"),
        ({"position_unit": "px"}, "position_unit"),
        ({"sign_y": 2}, "sign_y"),
    ],
)
def test_what_is_wrong_with_a_layout_is_said(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    path = write(tmp_path / "a.h5")
    if "position_unit" in changes:
        with h5py.File(path, "r+") as file:
            for name in ("vertical", "horizontal"):
                file[f"measured/stage/{name}"][...] *= 1e-6
    with pytest.raises(InputError, match=says):
        diptych.load(path, layout=str(described(tmp_path, **changes)))


@pytest.mark.parametrize(
    "text", ["[1, 2]", "a: &a [*a]", "!!python/object/apply:os.system ['true']", "\x00", "name: {"]
)
def test_hostile_layouts_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"a\.yaml"):
        read_layout_file(path)
    path.write_bytes(b"x" * (2**20 + 1))
    with pytest.raises(InputError, match="of a few kB"):
        read_layout_file(path)


def test_every_key_of_a_layout_explains_itself() -> None:
    assert all(field.description and field.description.endswith(".") for field in Layout.model_fields.values())


def test_info_shows_the_tree_and_writes_the_template(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file["setup/distance"].attrs["units"] = "mm"
        file["far"] = h5py.ExternalLink("absent.h5", "frames")
        virtual = h5py.VirtualLayout((12, 4, 4), "u2")
        virtual[:] = h5py.VirtualSource("lost.h5", "frames", (12, 4, 4))
        file.create_virtual_dataset("camera", virtual)
    assert run(["info", str(path), "--layout-template", str(tmp_path / "t.yaml")]) == 2
    out = capsys.readouterr()
    for shown in ("    stack  16 x 16 x 12  uint16", "distance  scalar  float64  [mm]", "absent.h5", "lost.h5"):
        assert shown in out.out
    assert "--layout-template" in out.out + out.err
    assert "absent.h5, which is missing" in out.err
    assert yaml.safe_load((tmp_path / "t.yaml").read_text())["patterns"] == "measured/camera/stack"
    lines = {line["name"]: line for line in describe_file(path)["arrays"]}
    assert "missing" in lines["far"]["problem"]
    assert "lost.h5" in lines["camera"]["problem"]
    known = diptych.save(diptych.Scan(COUNTS, POSITIONS), tmp_path / "own.npz")
    assert run(["info", str(known), "--tree"]) == 0
    assert "diff3d  12 x 16 x 16  uint16" in capsys.readouterr().out
