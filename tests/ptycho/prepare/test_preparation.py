"""``diptych.prepare``: what each step does to counts, positions, probe and geometry."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import diptych
from diptych.ptycho.io.convert import turn
from diptych.ptycho.physics.probe import power, to_pupil
from diptych.ptycho.prepare.centre import centre_of_mass, centre_of_symmetry
from diptych.ptycho.prepare.detector import binned, recentred, resized, turned
from diptych.ptycho.scan import Scan


@pytest.fixture(scope="module")
def scan() -> Scan:
    return diptych.simulate(
        object="blocks",
        size=32,
        patterns=49,
        step=3.0,
        dose=1e5,
        energy_eV=8e3,
        distance_m=1.0,
        detector_pixel_m=1e-4,
        seed=0,
    )


def test_cropping_enlarges_the_pixel_and_keeps_the_place_on_the_sample(scan: Scan) -> None:
    small = diptych.prepare(scan, crop=24)
    assert small.pixel_m is not None
    assert scan.pixel_m is not None
    np.testing.assert_allclose(small.positions * small.pixel_m, scan.positions * scan.pixel_m)
    np.testing.assert_array_equal(small.counts, scan.counts[:, 4:28, 4:28])
    assert small.probe is not None
    assert scan.probe is not None
    np.testing.assert_allclose(to_pupil(small.probe), to_pupil(scan.probe)[:, 4:28, 4:28], atol=1e-4)
    assert small.truth is None


def test_a_cropped_scan_is_explained_on_its_larger_pixels_only() -> None:
    scan = diptych.simulate(object="dead-leaves", size=32, patterns=64, step=3.0, dose=1e4, seed=1)
    small = diptych.prepare(scan, crop=24)
    unscaled = replace(small, positions=scan.positions)
    fits = [diptych.reconstruct(s, engine="rpie", epochs=20).provenance["fit"] for s in (scan, small, unscaled)]
    assert fits[1] < 1.3 * fits[0]
    assert fits[2] > 1.4 * fits[1]


@pytest.mark.parametrize(("old", "new"), [(32, 24), (32, 25), (25, 32), (24, 33)])
def test_the_zero_frequency_stays_in_the_middle(old: int, new: int) -> None:
    counts = np.zeros((3, old, old), np.uint16)
    counts[:, old // 2, old // 2] = 7
    made = resized(Scan(counts, [[0, 0], [0, 3], [3, 0]], np.ones((old, old))), new)
    assert (made.counts[:, new // 2, new // 2] == 7).all()
    assert made.counts.sum() == 21
    assert (made.mask is None) == (new < old)


def test_padding_masks_what_was_not_measured_and_cropping_undoes_it(scan: Scan) -> None:
    large = diptych.prepare(scan, pad=40)
    assert large.mask is not None
    assert large.mask.sum() == 32 * 32
    assert large.counts[:, ~large.mask].sum() == 0
    back = resized(large, 32)
    np.testing.assert_array_equal(back.counts, scan.counts)
    np.testing.assert_allclose(back.positions, scan.positions, rtol=1e-12)
    assert back.probe is not None
    assert scan.probe is not None
    np.testing.assert_allclose(back.probe, scan.probe, atol=1e-4 * np.abs(scan.probe).max())


def test_binning_sums_counts_keeps_the_object_pixel_and_needs_all_pixels_valid(scan: Scan) -> None:
    mask = np.ones((32, 32), bool)
    mask[5, 5] = False
    small = diptych.prepare(replace(scan, mask=mask, background=np.ones((32, 32))), bin=2)
    assert small.counts.sum(dtype=np.int64) == scan.counts.sum(dtype=np.int64)
    assert small.counts.dtype == np.uint32
    assert small.pixel_m == pytest.approx(scan.pixel_m)
    np.testing.assert_array_equal(small.positions, scan.positions)
    assert small.mask is not None
    assert np.argwhere(~small.mask).tolist() == [[2, 2]]
    assert small.background is not None
    assert (small.background == 4).all()


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_the_probe_of_a_binned_scan_has_the_binned_far_field(factor: int) -> None:
    """A probe well inside the smaller window: far fields at the middle of the bins, also where that is half a pixel."""
    size = 48
    y, x = np.mgrid[:size, :size] - size // 2
    probe = np.exp(-(y**2 + x**2) / 8 + 0.2j * x - 0.1j * y)
    counts = np.ones((2, size, size), np.uint16)
    small = binned(Scan(counts, [[0, 0], [2, 2]], probe), factor)
    assert small.probe is not None
    fine = np.abs(np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(np.pad(probe, 10 * size)), norm="ortho"))) ** 2
    found = np.abs(to_pupil(small.probe)[0]) ** 2
    # The finely sampled far field at the middles of the bins, in fine pixels of 1 / 21 of the detector's.
    middles = (np.arange(size // factor) * factor + (factor - 1) / 2 - size // 2) * 21 + fine.shape[0] // 2
    whole = np.rint(middles).astype(int)
    expected = fine[np.ix_(whole, whole)]
    assert np.abs(found / found.sum() - expected / expected.sum()).max() < 0.03 * (found / found.sum()).max()
    assert power(small.probe) == pytest.approx(power(probe[None].astype(np.complex64)), rel=1e-3)


def test_turning_is_that_of_loading_and_what_wraps_is_masked(scan: Scan, tmp_path: Path) -> None:
    for code in range(8):
        made = turned(scan, code)
        np.testing.assert_array_equal(made.counts, turn(scan.counts, code))
        assert (made.mask is None) == (code & 3 == 0)


@pytest.mark.parametrize("find", [centre_of_mass, centre_of_symmetry])
def test_the_centre_is_found_and_moved(scan: Scan, find: Any) -> None:
    moved = recentred(scan, 3, -2)
    assert find(moved) == pytest.approx((19, 14), abs=0.8)
    how = "mass" if find is centre_of_mass else "symmetry"
    back = diptych.prepare(moved, centre=how)
    assert back.mask is not None
    np.testing.assert_array_equal(back.counts[:, back.mask], scan.counts[:, back.mask])


def test_the_centre_of_symmetry_does_not_heed_a_masked_side(scan: Scan) -> None:
    mask = np.ones((32, 32), bool)
    mask[:, 20:] = False
    assert centre_of_symmetry(replace(scan, mask=mask)) == pytest.approx((16, 16), abs=0.51)
    assert abs(centre_of_mass(replace(scan, mask=mask))[1] - 16) > 0.6


def test_dark_flat_mask_and_gain(scan: Scan, tmp_path: Path) -> None:
    dark, flat, mask = np.full((5, 32, 32), 2.0), np.ones((32, 32)), np.ones((32, 32), np.uint8)
    flat[3], flat[4, 4], mask[7, 8] = 2, 0, 0
    for name, array in (("dark", dark), ("flat", flat), ("mask", mask)):
        np.save(tmp_path / f"{name}.npy", array)
    made = diptych.prepare(
        scan, **{key: str(tmp_path / f"{key.removesuffix('_file')}.npy") for key in ("dark", "flat", "mask_file")}
    )
    assert made.background is not None
    assert made.background[0, 0] == 2
    assert made.background[3, 0] == 1
    np.testing.assert_allclose(made.counts[:, 3], scan.counts[:, 3] / 2)
    assert made.mask is not None
    assert sorted(map(tuple, np.argwhere(~made.mask))) == [(4, 4), (7, 8)]
    tenfold = replace(scan, counts=scan.counts * np.float32(10))
    np.testing.assert_array_equal(diptych.prepare(tenfold, gain=10).counts, scan.counts)
    np.testing.assert_array_equal(diptych.prepare(tenfold, gain="auto").counts, scan.counts)


def test_frames_and_positions(scan: Scan) -> None:
    made = diptych.prepare(scan, frames="0-19", every=2, omit="4", position_scale=2, position_rotation=90)
    kept = [0, 2, *range(6, 20, 2)]
    np.testing.assert_array_equal(made.counts, scan.counts[kept])
    away = scan.positions[kept] - scan.positions[kept].mean(0)
    # From +x towards +y by 90 degrees: what lay at +x lies at +y.
    np.testing.assert_allclose(
        made.positions - made.positions.mean(0), 2 * np.stack([away[:, 1], -away[:, 0]], 1), atol=1e-9
    )
    back = diptych.prepare(made, position_scale=0.5, position_rotation=-90)
    np.testing.assert_allclose(back.positions - back.positions.mean(0), away, atol=1e-9)
    assert [back.metadata["preparation"]["after"]["steps"][0]] == [
        "9 of 49 frames kept: 0, 2, 6, 8, 10, 12, 14, 16, 18"
    ]


def test_the_scan_is_not_changed_and_nothing_asked_is_nothing_done(scan: Scan) -> None:
    before = scan.counts.copy()
    same = diptych.prepare(scan)
    assert same.metadata["preparation"]["steps"] == []
    diptych.prepare(scan, crop=16, bin=2, turn=3, centre="mass")
    np.testing.assert_array_equal(scan.counts, before)
    np.testing.assert_array_equal(same.counts, before)


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        ({"crop": 64}, "crop: 64 for N = 32"),
        ({"pad": 16}, "pad: 16 for N = 32"),
        ({"bin": 5}, "5 does not divide N = 32"),
        ({"frames": "90"}, "frames"),
        ({"omit": "0-48"}, "all frames would be left out"),
        ({"dark": "absent.npy"}, "there is no such file"),
        ({"gain": -1}, "gain"),
    ],
)
def test_what_cannot_be_done_is_refused(scan: Scan, options: dict[str, Any], phrase: str) -> None:
    with pytest.raises(diptych.InputError, match=phrase):
        diptych.prepare(scan, **options)


def test_a_step_of_reconstruct(scan: Scan, tmp_path: Path) -> None:
    (tmp_path / "prepare.yaml").write_text("crop: 24\nomit: '3'\n")
    by_file = diptych.reconstruct(scan, engine="rpie", epochs=2, prepare=str(tmp_path / "prepare.yaml"))
    inline = diptych.reconstruct(scan, engine="rpie", epochs=2, prepare={"crop": 24, "omit": "3"})
    before = diptych.reconstruct(diptych.prepare(scan, crop=24, omit="3"), engine="rpie", epochs=2)
    for result in (by_file, inline):
        np.testing.assert_array_equal(result.object.values, before.object.values)
        assert result.provenance["preparation"]["options"] == {"crop": 24, "omit": "3"}
    with pytest.raises(diptych.InputError, match="prepare: unknown option 'crops'"):
        diptych.reconstruct(scan, prepare={"crops": 24})
