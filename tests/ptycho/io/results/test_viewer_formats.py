"""Results for viewers: TIFF and NeXus, written, read back, and opened the way viewers do."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

import diptych
from diptych.errors import InputError
from diptych.ptycho.scan import Canvas, Reconstruction

PIXEL = (20e-9, 30e-9)
rng = np.random.default_rng(2)


def made(pixel: tuple[float, float] | None = PIXEL) -> Reconstruction:
    values = (rng.uniform(0.5, 1, (30, 40)) * np.exp(1j * rng.uniform(-3, 3, (30, 40)))).astype(np.complex64)
    probe = (rng.normal(size=(2, 8, 8)) + 1j * rng.normal(size=(2, 8, 8))).astype(np.complex64)
    return Reconstruction(
        Canvas(values, (-4, 7), pixel),
        probe,
        rng.uniform(2, 20, (5, 2)) + np.array([-4, 7]),
        {"epoch": [1.0, 2.0], "fit": [3.0, 1.5]},
        flags=("a flag",),
        provenance={"engine": "test"},
        name="sample",
    )


@pytest.mark.parametrize("pixel", [PIXEL, None])
def test_nexus_is_read_back_exactly(tmp_path: Path, pixel: tuple[float, float] | None) -> None:
    result = made(pixel)
    back = diptych.load(diptych.save(result, tmp_path / "a.nxs"))
    for name in ("probe", "positions"):
        assert np.array_equal(getattr(back, name), getattr(result, name))
    assert np.array_equal(back.object.values, result.object.values)
    assert (back.object.origin, back.object.pixel_m) == (result.object.origin, result.object.pixel_m)
    assert (back.history, back.name, back.provenance) == (result.history, result.name, result.provenance)
    assert "a flag" in back.flags


def test_nexus_opens_the_phase_by_default(tmp_path: Path) -> None:
    result = made()
    with h5py.File(diptych.save(result, tmp_path / "a.nxs")) as file:
        group = file[file.attrs["default"]]
        while "default" in group.attrs:
            group = group[group.attrs["default"]]
        assert group.attrs["NX_class"] == "NXdata"
        image = group[group.attrs["signal"]]
        assert image[:] == pytest.approx(np.angle(result.object.values))
        y, x = (group[name] for name in group.attrs["axes"])
        assert (len(y), len(x), y.attrs["units"]) == (30, 40, "um")
        assert np.diff(x[:]) == pytest.approx(PIXEL[1] * 1e6)
        assert y[0] == pytest.approx(-4 * PIXEL[0] * 1e6)


def test_tiff_holds_amplitude_phase_and_the_pixel(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    result = made()
    path = diptych.save(result, tmp_path / "a.tif")
    with tifffile.TiffFile(path) as file:
        first = file.pages[0]
        assert (first.dtype, len(file.pages)) == (np.float32, 6)
        assert first.asarray() == pytest.approx(np.abs(result.object.values))
        assert file.pages[1].asarray() == pytest.approx(np.angle(result.object.values))
        assert first.tags["ResolutionUnit"].value == 3
        for tag, pixel in (("XResolution", PIXEL[1]), ("YResolution", PIXEL[0])):
            numerator, denominator = first.tags[tag].value
            assert 0.01 * denominator / numerator == pytest.approx(pixel, rel=1e-6)
    back = diptych.load(path)
    assert back.object.values == pytest.approx(result.object.values, abs=1e-6)
    assert back.probe == pytest.approx(result.probe, abs=1e-5)
    assert (back.object.origin, back.object.pixel_m, back.name) == ((-4, 7), PIXEL, "sample")
    assert any("no positions" in flag for flag in back.flags)


def test_other_and_damaged_tiff_files_are_refused(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "other.tif", np.ones((4, 4), np.float32))
    with pytest.raises(InputError, match="no scan positions"):
        diptych.load(tmp_path / "other.tif")
    path = diptych.save(made(), tmp_path / "a.tif")
    whole = path.read_bytes()
    for cut in (200, 2000, len(whole) // 2):
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError, match=r"a\.tif"):
            diptych.load(path)
