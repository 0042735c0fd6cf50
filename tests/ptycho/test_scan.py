"""The data types: valid arrays are kept unchanged, invalid ones are one clear error."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import diptych
from diptych.errors import InputError
from diptych.ptycho.scan import PLANCK_TIMES_LIGHT_EV_M, Canvas, Geometry, Reconstruction, Scan

M, N = 5, 8


def parts(**changes: Any) -> dict[str, Any]:
    """The arrays of a good scan, some of them changed."""
    rng = np.random.default_rng(0)
    good = {
        "counts": rng.poisson(9.0, (M, N, N)).astype(np.uint16),
        "positions": np.array([[20.0, 20], [24, 31], [28.5, 22.25], [33, 40], [39, 27]]),
        "probe": (rng.normal(size=(2, N, N)) + 1j).astype(np.complex64),
    }
    return {**good, **changes}


def changed(index: tuple[int, ...], value: float, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    counts = parts()["counts"].astype(dtype)
    counts[index] = value
    return counts


# ---------------------------------------------------------------- geometry


def test_object_pixel_is_wavelength_times_distance_over_the_detector() -> None:
    geometry = Geometry(energy_eV=12398.41984332003, distance_m=2.0, detector_pixel_m=(50e-6, 100e-6))
    assert geometry.wavelength_m == pytest.approx(1e-10, rel=1e-15)
    assert geometry.object_pixel_m(100) == pytest.approx((1e-10 * 2 / (100 * 50e-6), 1e-10 * 2 / (100 * 100e-6)))


def test_h_c_is_that_of_codata() -> None:
    constants = pytest.importorskip("scipy.constants")
    assert pytest.approx(constants.h * constants.c / constants.e, rel=1e-12) == PLANCK_TIMES_LIGHT_EV_M


@pytest.mark.parametrize("field", ["energy_eV", "distance_m", "detector_pixel_m"])
def test_a_missing_field_leaves_the_object_pixel_unknown(field: str) -> None:
    known: dict[str, Any] = {"energy_eV": 8000.0, "distance_m": 1.0, "detector_pixel_m": (1e-5, 1e-5)}
    assert Geometry(**{**known, field: None}).object_pixel_m(64) is None


def test_one_number_is_a_square_detector_pixel() -> None:
    assert Geometry(detector_pixel_m=7e-5).detector_pixel_m == (7e-5, 7e-5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"energy_eV": 0.0}, "energy_eV"),
        ({"energy_eV": np.nan}, "energy_eV"),
        ({"distance_m": -1.0}, "distance_m"),
        ({"distance_m": np.inf}, "distance_m"),
        ({"detector_pixel_m": (1e-5, 0.0)}, r"detector_pixel_m \(x\)"),
        ({"orientation": 8}, "orientation"),
        ({"orientation": -1}, "orientation"),
        ({"orientation": 2.5}, "orientation: found 2.5"),
        ({"orientation": True}, "orientation"),
        ({"orientation": "2"}, "orientation: found '2'"),
        ({"energy_eV": "8 keV"}, "energy_eV: found '8 keV'"),
        ({"energy_eV": [8000.0, 9000.0]}, "energy_eV"),
        ({"distance_m": 1 + 0j}, "distance_m"),
        ({"detector_pixel_m": (1e-5, 1e-5, 1e-5)}, r"detector_pixel_m: has shape \(3,\)"),
        ({"detector_pixel_m": ("1e-5", "1e-5")}, "detector_pixel_m: found"),
        ({"detector_pixel_m": (1e-5, None)}, "detector_pixel_m: found"),
    ],
)
def test_impossible_geometry(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        Geometry(**fields)


def test_geometry_is_kept_as_plain_numbers() -> None:
    geometry = Geometry(np.float32(8000), 1, np.array([1e-5]), orientation=2.0)  # type: ignore[arg-type]
    assert geometry == Geometry(8000.0, 1.0, (1e-5, 1e-5), 2)
    assert [type(v) for v in (geometry.energy_eV, geometry.distance_m, geometry.orientation)] == [float, float, int]


# ------------------------------------------------------------------ canvas


@given(y=st.integers(-50, 50), x=st.integers(-50, 50), h=st.integers(1, 12), w=st.integers(1, 12), data=st.data())
@settings(deadline=None, max_examples=50)
def test_crop_keeps_coordinates(y: int, x: int, h: int, w: int, data: st.DataObject) -> None:
    rows, columns = np.mgrid[y : y + h, x : x + w]
    canvas = Canvas(rows + 1j * columns, (y, x))
    y0 = data.draw(st.integers(y, y + h - 1))
    x0 = data.draw(st.integers(x, x + w - 1))
    y1, x1 = data.draw(st.integers(y0 + 1, y + h)), data.draw(st.integers(x0 + 1, x + w))
    part = canvas.crop(y0, y1, x0, x1)
    assert part.extent == (y0, y1, x0, x1)
    assert part.values[0, 0] == y0 + 1j * x0
    assert part.values[-1, -1] == (y1 - 1) + 1j * (x1 - 1)


@pytest.mark.parametrize("box", [(-1, 3, 0, 3), (0, 5, 0, 3), (2, 2, 0, 3), (0, 3, 3, 2)])
def test_a_crop_that_leaves_the_canvas(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(InputError, match="leaves the canvas"):
        Canvas(np.ones((4, 4), complex)).crop(*box)


@pytest.mark.parametrize(
    ("values", "origin", "message"),
    [
        (np.ones(4), (0, 0), "shape"),
        (np.ones((0, 4)), (0, 0), "non-empty"),
        (np.array([[1, np.nan]]), (0, 0), "1 of 2 are not finite"),
        (np.ones((2, 2)), (0.5, 0), "two integers"),
        (np.ones((2, 2)), (1, 2, 3), "two integers"),
        (np.ones((2, 2)), (np.nan, 0), "two integers"),
        (np.ones((2, 2)), ("a", "b"), "canvas: origin: found"),
        (np.ones((2, 2)), 1e300, "two integers"),
        (np.ones((2, 2)), (1e300, 0), "at most"),
        (np.full((2, 2), "a"), (0, 0), "canvas: values: found an array of type"),
        ([[1, 2], [3]], (0, 0), "canvas: values: cannot be read as an array"),
        (np.full((2, 2), None), (0, 0), "Python objects"),
        (np.full((2, 2), 1e300), (0, 0), "not finite"),
    ],
)
def test_impossible_canvas(values: Any, origin: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Canvas(values, origin)


@pytest.mark.parametrize("pixel", [-1.0, np.nan, (1e-8, 0.0), (1e-8, 1e-8, 1e-8), "1 nm"])
def test_impossible_pixel_of_a_canvas(pixel: Any) -> None:
    with pytest.raises(InputError, match="canvas: pixel_m"):
        Canvas(np.ones((2, 2)), (0, 0), pixel)


def test_a_real_canvas_becomes_complex_and_a_double_one_stays() -> None:
    assert Canvas(np.ones((2, 2))).values.dtype == np.complex64
    assert Canvas(np.ones((2, 2), np.complex128)).values.dtype == np.complex128
    assert Canvas(np.ones((2, 2)), (3.0, -4.0)).origin == (3, -4)  # type: ignore[arg-type]


# -------------------------------------------------------------------- scan


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.float32])
def test_detector_types_are_kept(dtype: Any) -> None:
    counts = parts()["counts"].astype(dtype)
    assert Scan(**parts(counts=counts)).counts is counts


@pytest.mark.parametrize("dtype", [np.int16, np.int64, np.float64, np.float16])
def test_other_types_become_float32(dtype: Any) -> None:
    scan = Scan(**parts(counts=parts()["counts"].astype(dtype)))
    assert scan.counts.dtype == np.float32
    assert np.array_equal(scan.counts, parts()["counts"])


def test_a_scan_is_frozen_and_says_its_sizes() -> None:
    scan = Scan(**parts())
    assert (len(scan), scan.size, scan.pixel_m) == (M, N, None)
    assert scan.positions.dtype == np.float64
    assert Scan(**parts(geometry=Geometry(8e3, 1.0, (1e-5, 1e-5)))).pixel_m is not None
    with pytest.raises(FrozenInstanceError):
        scan.name = "other"  # type: ignore[misc]


def test_probe_and_background_take_their_final_form() -> None:
    scan = Scan(**parts(probe=np.ones((N, N)), background=0.5))
    assert scan.probe is not None
    assert scan.probe.shape == (1, N, N)
    assert scan.probe.dtype == np.complex64
    assert scan.background is not None
    assert scan.background.shape == (N, N)
    assert scan.background.dtype == np.float32


@pytest.mark.parametrize("shape", [(N, N), (M, N, N)])
def test_masks_of_zeros_and_ones(shape: tuple[int, ...]) -> None:
    mask = np.random.default_rng(1).integers(0, 2, shape)
    scan = Scan(**parts(mask=mask))
    assert scan.mask is not None
    assert scan.mask.dtype == bool
    assert np.array_equal(scan.mask, mask)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
@pytest.mark.parametrize("per_pattern", [False, True])
def test_a_masked_pixel_may_hold_anything(value: float, per_pattern: bool) -> None:
    mask = np.ones((M, N, N), bool)
    mask[:, 2, 3] = False
    Scan(**parts(counts=changed((1, 2, 3), value), mask=mask if per_pattern else mask[0]))


@pytest.mark.parametrize(("value", "count"), [(np.nan, 1), (np.inf, 1), (-np.inf, 1), (-3.0, 1)])
def test_a_bad_valid_count_is_counted_and_placed(value: float, count: int) -> None:
    with pytest.raises(InputError, match=rf"{count} valid counts.*pattern 1, pixel \(y 2, x 3\), value {value:g}"):
        Scan(**parts(counts=changed((1, 2, 3), value)))


def test_bad_counts_are_counted_across_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diptych.ptycho.validation.counts._CHUNK_BYTES", 2 * N * N * 4)
    counts = changed((3, 1, 0), np.nan)
    counts[4, 5:7, 2] = -1
    both = (
        r"1 valid counts are not finite .*pattern 3, pixel \(y 1, x 0\).* "
        r"2 valid counts are negative .*pattern 4, pixel \(y 5, x 2\)"
    )
    with pytest.raises(InputError, match=both):
        Scan(**parts(counts=counts))
    mask = np.ones((M, N, N), bool)
    mask[3, 1, 0] = mask[4, 5, 2] = False
    with pytest.raises(InputError, match=r"1 valid counts.*pattern 4, pixel \(y 6, x 2\)"):
        Scan(**parts(counts=counts, mask=mask))


def test_clipping_is_offered_for_negative_counts_alone() -> None:
    with pytest.raises(InputError, match="--mask-invalid") as caught:
        Scan(**parts(counts=changed((1, 2, 3), np.nan)))
    assert "clip" not in str(caught.value)
    with pytest.raises(InputError, match="--clip-negative"):
        Scan(**parts(counts=changed((1, 2, 3), -1)))


def test_counts_beyond_single_precision_are_not_finite() -> None:
    with pytest.raises(InputError, match=r"1 valid counts are not finite .*value 1e\+300"):
        Scan(**parts(counts=changed((1, 2, 3), 1e300, float)))


@pytest.mark.parametrize("dtype", [">u2", ">f4", ">i4", ">f8"])
def test_another_byte_order_becomes_native(dtype: str) -> None:
    scan = Scan(
        **parts(
            counts=parts()["counts"].astype(dtype), background=np.ones((N, N), ">f4"), probe=np.ones((1, N, N), ">c8")
        )
    )
    assert np.array_equal(scan.counts, parts()["counts"])
    for array in (scan.counts, scan.background, scan.probe, scan.positions):
        assert array is not None
        assert array.dtype.isnative


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.uint64, np.int16, np.int32, np.int64, ">i4"])
def test_the_largest_number_of_a_type_is_a_sentinel(dtype: Any) -> None:
    with pytest.raises(InputError, match=r"largest number of u?int[0-9]+ .*--mask-invalid"):
        Scan(**parts(counts=changed((0, 0, 0), np.iinfo(dtype).max, dtype)))


def test_eight_bits_may_be_full() -> None:
    assert Scan(**parts(counts=changed((0, 0, 0), 255, np.uint8))).counts.max() == 255


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"counts": np.zeros((M, N, N), np.uint16)}, "single photon"),
        ({"counts": np.ones((N, N))}, "three axes"),
        ({"counts": np.ones((0, N, N))}, "scan is empty"),
        ({"counts": np.ones((M, N, N + 1))}, "square"),
        ({"counts": np.ones((M, 3, 3))}, "at least 4"),
        ({"counts": np.ones((M, N, N), complex)}, "detector counts are real"),
        ({"counts": np.ones((M, N, N), bool)}, "type bool"),
        ({"counts": np.full((M, N, N), None)}, "Python objects"),
        ({"counts": np.full((M, N, N), "1")}, "type <U1"),
        ({"mask": np.ones((N, N + 1), bool)}, "mask: has shape"),
        ({"mask": np.full((N, N), 2)}, "other than 0 and 1"),
        ({"mask": np.zeros((N, N), bool)}, "every detector pixel is masked"),
        ({"positions": np.zeros((M, 3))}, "positions: have shape"),
        ({"positions": parts()["positions"].T}, "positions: have shape"),
        ({"positions": parts()["positions"][:-1]}, "4 positions for 5 patterns"),
        ({"positions": [["a", "b"]] * M}, "positions: found an array of type <U1"),
        ({"positions": [[1, 2], [3]]}, "positions: cannot be read"),
        ({"positions": parts()["positions"] + 0j}, "positions: are complex"),
        ({"positions": parts()["positions"] + 1e12}, "object pixels from 0"),
        ({"positions": parts()["positions"] * 1e306}, "limit 4e"),
        ({"probe": np.full((N, N), 1e300)}, r"probe: sum \|P\|\^2 is inf"),
        ({"probe": np.full((N, N), 1e-300)}, r"probe: sum \|P\|\^2 is 0"),
        ({"probe": np.full((N, N), 1e25)}, "Rescale it"),
        ({"probe": [[1, 2], [3]]}, "probe: cannot be read"),
        ({"mask": [[1, 0], [1]]}, "mask: cannot be read"),
        ({"background": "none"}, "background: found 'none'"),
        ({"background": [[1, 2], [3]]}, "background: cannot be read"),
        ({"background": 1j}, "background: is complex"),
        ({"background": 1e300}, "negative or non-finite"),
        ({"counts": [[[1, 2], [3]]]}, "counts: cannot be read"),
        ({"truth": np.ones((60, 60))}, r"true object: is of type ndarray; expected a Canvas.*Canvas\(array"),
        ({"geometry": {"energy_eV": 8000}}, "geometry: is of type dict; expected a Geometry"),
        (
            {"positions": np.where(np.arange(M)[:, None] == 2, np.nan, parts()["positions"])},
            r"1 positions are not finite \(first: pattern 2\)",
        ),
        ({"positions": parts()["positions"] * 1e-8}, "metres"),
        ({"positions": np.zeros((M, 2))}, "span of at least 1"),
        ({"positions": parts()["positions"] * 1e4}, "limit 4e"),
        ({"probe": np.ones((N - 1, N - 1))}, "probe: has shape"),
        ({"probe": np.zeros((N, N))}, "zero everywhere"),
        ({"probe": np.full((N, N), np.nan)}, "64 values are not finite"),
        ({"probe": np.ones((0, N, N))}, "probe: has shape"),
        ({"probe": np.full((N, N), "p")}, "expected complex numbers"),
        ({"true_probe": np.zeros((N, N))}, "true probe: is zero"),
        ({"background": np.ones((N, 2))}, "background: has shape"),
        ({"background": -1.0}, "negative or non-finite"),
        ({"background": np.full((N, N), np.nan)}, "negative or non-finite"),
        ({"truth": Canvas(np.ones((30, 60)))}, "true object: .* windows leave the object"),
        ({"truth": Canvas(np.ones((60, 60)), (17, 0))}, r"1 of 5 windows leave"),
    ],
)
def test_what_is_wrong_is_said(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Scan(**parts(**change), name="my scan")
    assert str(caught.value).startswith("my scan: ")


def test_windows_that_just_fit_the_truth_are_fine() -> None:
    positions = parts()["positions"]
    low, high = np.floor(positions + 0.5).min(axis=0) - N // 2, np.floor(positions + 0.5).max(axis=0) - N // 2 + N
    origin, shape = (int(low[0]), int(low[1])), tuple(int(v) for v in high - low)
    Scan(**parts(truth=Canvas(np.ones(shape), origin)))
    for cut in (
        (slice(1, None), slice(None)),
        (slice(None, -1), slice(None)),
        (slice(None), slice(1, None)),
        (slice(None), slice(None, -1)),
    ):
        y, x = (s.start or 0 for s in cut)
        with pytest.raises(InputError, match="windows leave"):
            Scan(**parts(truth=Canvas(np.ones(shape)[cut], (origin[0] + y, origin[1] + x))))


def test_a_single_pattern_needs_no_span() -> None:
    assert len(Scan(parts()["counts"][:1], [[0.0, 0.0]])) == 1


@pytest.mark.parametrize("moves", ["probe", "sample"])
def test_stage_readings_become_object_pixels(moves: str) -> None:
    geometry = Geometry(8e3, 1.0, (50e-6, 100e-6))
    pixel = geometry.object_pixel_m(N)
    assert pixel is not None
    pixels = parts()["positions"]
    sign = 1 if moves == "probe" else -1
    scan = Scan.from_metres(
        parts()["counts"], sign * pixels * pixel, geometry, parts()["probe"], moves=moves, name="stage"
    )
    assert np.allclose(scan.positions, pixels, rtol=1e-12)
    assert (scan.name, scan.geometry) == ("stage", geometry)


def test_stage_readings_need_a_geometry_and_a_meaning() -> None:
    with pytest.raises(InputError, match="distance_m"):
        Scan.from_metres(parts()["counts"], parts()["positions"], Geometry(energy_eV=8e3))
    with pytest.raises(InputError, match="'probe' or 'sample'"):
        Scan.from_metres(parts()["counts"], parts()["positions"], Geometry(8e3, 1.0, (1e-5, 1e-5)), moves="detector")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positions_m": np.ones((M, 3))}, r"positions: have shape \(5, 3\); expected .*in metres"),
        ({"positions_m": [["a", "b"]] * M}, "positions: found an array of type"),
        ({"positions_m": np.full((M, 2), np.nan)}, "5 positions are not finite"),
        ({"geometry": None}, "geometry: is of type NoneType; expected a Geometry"),
        ({"counts": 3.0}, "counts: have shape"),
        ({"counts": "counts"}, "counts: found 'counts'"),
    ],
)
def test_what_is_wrong_with_stage_readings_is_said(change: dict[str, Any], message: str) -> None:
    good = {
        "counts": parts()["counts"],
        "positions_m": parts()["positions"] * 1e-8,
        "geometry": Geometry(8e3, 1.0, (1e-5, 1e-5)),
    }
    with pytest.raises(InputError, match=message):
        Scan.from_metres(**{**good, **change})


# ---------------------------------------------------------- reconstruction


def test_a_reconstruction_takes_its_final_form() -> None:
    result = Reconstruction(Canvas(np.ones((20, 20))), np.ones((N, N)), [[1, 2]])  # type: ignore[arg-type]
    assert result.probe.shape == (1, N, N)
    assert result.positions.dtype == np.float64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probe": None}, "expected complex numbers"),
        ({"probe": np.ones((N, N + 1))}, "probe: has shape"),
        ({"positions": np.ones(3)}, "positions: have shape"),
        ({"positions": [[1.0, np.nan]]}, "1 positions are not finite"),
        ({"positions": [["a", "b"]]}, "positions: found"),
        ({"object": np.ones((20, 20))}, "object: is of type ndarray; expected a Canvas"),
        ({"error": np.ones((3, 3))}, "error: has shape"),
        ({"error": "large"}, "error: found 'large'"),
    ],
)
def test_impossible_reconstructions(change: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {
        "object": Canvas(np.ones((20, 20))),
        "probe": np.ones((1, N, N)),
        "positions": np.ones((2, 2)),
    }
    with pytest.raises(InputError, match=message):
        Reconstruction(**{**good, **change})


def test_a_printed_scan_result_and_canvas_say_sizes_and_no_arrays() -> None:
    scan = diptych.simulate(object="blocks", size=32, patterns=9, step=6, dose=1e4, seed=1)
    assert repr(scan).startswith(f"Scan({scan.name!r}: 9 patterns of 32 x 32, 1 probe mode")
    assert repr(scan.truth).startswith("Canvas(")
    result = diptych.Reconstruction(scan.truth, scan.probe, scan.positions, provenance={"fit": 1.234}, name="r")
    assert "1 probe mode, 9 positions, fit 1.23, flags: 0" in repr(result)
    assert all(len(repr(each)) < 200 for each in (scan, scan.truth, result))
