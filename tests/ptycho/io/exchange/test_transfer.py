"""``diptych.convert``: every writable format, and what is said to be lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import diptych
from diptych.ptycho.io.exchange.transfer import differences
from diptych.ptycho.io.formats import FORMATS
from diptych.ptycho.scan import Canvas, Reconstruction, Scan

WRITABLE = [(entry.holds, entry.name, entry.suffixes[0]) for entry in FORMATS.entries() if entry.write is not None]


@pytest.fixture(scope="module")
def scan() -> Scan:
    made = diptych.simulate(
        size=16,
        patterns=25,
        step=2.0,
        background=1.0,
        dead=0.05,
        energy_eV=8e3,
        distance_m=1.0,
        detector_pixel_m=1e-4,
        seed=0,
    )
    return replace(made, scale=1.0)


@pytest.fixture(scope="module")
def result(scan: Scan) -> Reconstruction:
    return diptych.reconstruct(scan, engine="rpie", epochs=3)


@pytest.mark.parametrize(("holds", "name", "suffix"), WRITABLE, ids=[name for _, name, _ in WRITABLE])
def test_what_is_not_said_to_be_lost_is_there(
    holds: str, name: str, suffix: str, scan: Scan, result: Reconstruction, tmp_path: Path
) -> None:
    item = scan if holds == "scan" else result
    if name == "emd":
        raster = np.stack(np.mgrid[:5, :5], -1).reshape(-1, 2) * 2.0 + 10
        scan = item = replace(scan, positions=raster, truth=None)
    source = diptych.save(item, tmp_path / ("source.npz" if holds == "scan" else "source.h5"))
    done = diptych.convert(source, tmp_path / f"target_dp{suffix}", format=name)
    assert (done.holds, done.format, done.path.exists()) == (holds, name, True)
    if done.lost and done.lost[0].startswith("the new file alone"):
        return
    again = diptych.load(done.path)
    lost = {sentence.split(":")[0] for sentence in done.lost}
    if holds == "scan":
        assert isinstance(again, Scan)
        np.testing.assert_array_equal(again.counts, scan.counts)
        np.testing.assert_allclose(again.positions, scan.positions, atol=1e-9)
        if "background" not in lost:
            np.testing.assert_array_equal(again.background, scan.background)
    else:
        assert isinstance(again, Reconstruction)
        np.testing.assert_allclose(
            again.object.values, result.object.values, atol=1e-6 * np.abs(result.object.values).max()
        )
        if "positions" not in lost:
            np.testing.assert_allclose(again.positions, result.positions, atol=1e-9)


def test_an_own_format_loses_nothing(scan: Scan, result: Reconstruction, tmp_path: Path) -> None:
    assert diptych.convert(diptych.save(scan, tmp_path / "a.npz"), tmp_path / "b.npz").lost == ()
    assert diptych.convert(diptych.save(result, tmp_path / "a.h5"), tmp_path / "c.npz").lost == ()


def test_each_kind_of_loss_has_its_sentence(scan: Scan) -> None:
    assert scan.truth is not None
    assert scan.probe is not None
    changed = replace(
        scan,
        positions=scan.positions + 1e-3,
        probe=np.concatenate([scan.probe, scan.probe]),
        background=None,
        truth=Canvas(scan.truth.values, (scan.truth.origin[0] - 1, scan.truth.origin[1])),
        metadata={},
        name="other",
    )
    said = dict(sentence.split(": ", 1) for sentence in differences(scan, changed))
    assert said["positions"].startswith("rounded, by up to 1.0e-03")
    assert said["probe"] == "1 x 16 x 16 became 2 x 16 x 16"
    assert said["background"] == "not kept"
    assert said["truth"].startswith("origin rounded")
    assert said["name"] == f"{scan.name!r} became 'other'"
    assert differences(scan, scan) == []


def test_nothing_is_overwritten_unasked(scan: Scan, tmp_path: Path) -> None:
    source = diptych.save(scan, tmp_path / "a.npz")
    (tmp_path / "b.cxi").write_bytes(b"mine")
    with pytest.raises(diptych.InputError, match="exists"):
        diptych.convert(source, tmp_path / "b.cxi")
    assert (tmp_path / "b.cxi").read_bytes() == b"mine"
    with pytest.raises(diptych.InputError, match="is the file that is read"):
        diptych.convert(source, source, overwrite=True)
    with pytest.raises(diptych.InputError, match="ends in"):
        diptych.convert(source, tmp_path / "b.tiff")
    assert diptych.convert(source, tmp_path / "b.cxi", overwrite=True).format == "cxi"
