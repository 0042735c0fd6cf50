"""Scans as NPZ: canonical, legacy and raw layouts come in as the same counts and positions; what we write comes back
exactly."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io import LoadOptions, convert, load, load_scan, save
from diptych.ptycho.scan import Canvas, Geometry, Scan

M, N = 7, 16


@pytest.fixture
def counts() -> NDArray[np.uint16]:
    return np.random.default_rng(0).poisson(40.0, (M, N, N)).astype(np.uint16)


@pytest.fixture
def arrays(counts: NDArray[np.uint16]) -> dict[str, Any]:
    """A canonical scan that declares counts; each test changes one thing."""
    rng = np.random.default_rng(1)
    return {
        "diff3d": counts,
        "xcoords": rng.uniform(20, 40, M),
        "ycoords": rng.uniform(30, 50, M),
        "probeGuess": (rng.normal(size=(N, N)) + 1j * rng.normal(size=(N, N))).astype(np.complex64),
        "_metadata": np.asarray(json.dumps({"domain": "counts"})),
    }


def write(path: Path, arrays: dict[str, Any]) -> Path:
    np.savez(path, **arrays)
    return path


def read(tmp_path: Path, arrays: dict[str, Any], **options: Any) -> Scan:
    return load_scan(write(tmp_path / "scan.npz", arrays), **options)


def test_positions_are_y_x_and_counts_keep_their_type(tmp_path: Path, arrays: dict[str, Any]) -> None:
    scan = read(tmp_path, arrays)
    assert scan.counts.dtype == np.uint16
    assert np.array_equal(scan.counts, arrays["diff3d"])
    assert np.array_equal(scan.positions, np.stack([arrays["ycoords"], arrays["xcoords"]], axis=1))
    assert scan.name == "scan"
    assert scan.probe is not None
    assert scan.probe.shape == (1, N, N)


def test_the_content_decides_not_the_suffix(tmp_path: Path, arrays: dict[str, Any]) -> None:
    path = write(tmp_path / "scan.npz", arrays).rename(tmp_path / "scan.h5")
    assert isinstance(load(path), Scan)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_amplitudes_of_whole_counts_come_back_as_exact_whole_numbers(
    tmp_path: Path, arrays: dict[str, Any], dtype: type
) -> None:
    exact = np.random.default_rng(2).integers(0, 2**22, (M, N, N))
    arrays |= {"diff3d": np.sqrt(exact).astype(dtype), "_metadata": np.asarray("{}")}
    scan = read(tmp_path, arrays, domain="amplitude")
    assert scan.counts.dtype == np.float32
    assert np.array_equal(scan.counts, exact)
    assert "whole numbers" in " ".join(scan.metadata["conversions"])


def test_amplitudes_of_no_whole_counts_are_squared_and_not_rounded(tmp_path: Path, arrays: dict[str, Any]) -> None:
    amplitude = np.random.default_rng(3).uniform(0.1, 3, (M, N, N)).astype(np.float32)
    arrays["diff3d"] = amplitude
    scan = read(tmp_path, arrays, domain="amplitude", scale=10.0)
    assert np.allclose(scan.counts, 100 * amplitude.astype(float) ** 2, rtol=1e-6)
    assert "not whole" in scan.metadata["conversions"][-1]


def test_integer_amplitudes_are_not_squared_in_their_own_type(tmp_path: Path, arrays: dict[str, Any]) -> None:
    arrays["diff3d"] = np.full((M, N, N), 300, np.uint16)
    assert (read(tmp_path, arrays, domain="amplitude").counts == 90000).all()


def test_scale_of_counts_is_photons_per_unit(tmp_path: Path, arrays: dict[str, Any]) -> None:
    scan = read(tmp_path, arrays, scale=0.25)
    assert np.array_equal(scan.counts, arrays["diff3d"] * np.float32(0.25))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "--domain counts"),
        ({"measurement_domain": "normalized_amplitude"}, "--scale"),
        ({"domain": "decibel"}, "--domain amplitude"),
    ],
)
def test_an_undeclared_domain_is_asked_for_and_never_guessed(
    tmp_path: Path, arrays: dict[str, Any], metadata: dict[str, Any], message: str
) -> None:
    arrays["_metadata"] = np.asarray(json.dumps(metadata))
    with pytest.raises(InputError, match=message):
        read(tmp_path, arrays)


@pytest.mark.parametrize(
    ("values", "look"),
    [
        (np.arange(M * N * N, dtype=np.int32).reshape(M, N, N), "whole numbers, as counts are"),
        (np.sqrt(np.arange(M * N * N, dtype=np.float32)).reshape(M, N, N), "their squares are, as for amplitudes"),
        (0.37 * (np.arange(M * N * N) % 300).reshape(M, N, N), "multiples of 0.37, as scaled counts are"),
        (
            0.02 * np.sqrt(np.arange(M * N * N, dtype=np.float32) % 300).reshape(M, N, N),
            "of 0.0004.*, as for scaled amplitudes",
        ),
        (np.random.default_rng(0).uniform(0.1, 2, (M, N, N)), "neither"),
    ],
)
def test_the_message_says_what_the_values_look_like(
    tmp_path: Path, arrays: dict[str, Any], values: Any, look: str
) -> None:
    arrays |= {"diff3d": values, "_metadata": np.asarray("{}")}
    with pytest.raises(InputError, match=look):
        read(tmp_path, arrays)


@pytest.mark.parametrize(
    "metadata",
    [
        np.asarray(json.dumps({"domain": "counts"})),
        np.frombuffer(json.dumps({"measurement_domain": "count_intensity"}).encode(), np.uint8),
        np.asarray(json.dumps({"domain": "counts"}).encode()),
    ],
    ids=["text", "uint8", "bytes"],
)
def test_metadata_may_be_text_or_bytes(tmp_path: Path, arrays: dict[str, Any], metadata: Any) -> None:
    arrays["_metadata"] = metadata
    assert np.array_equal(read(tmp_path, arrays).counts, arrays["diff3d"])


def test_pickled_metadata_is_passed_over_and_named(tmp_path: Path, arrays: dict[str, Any]) -> None:
    arrays["_metadata"] = np.array(json.dumps({"domain": "counts"}), dtype=object)
    with pytest.raises(InputError, match="pickles are never opened"):
        read(tmp_path, arrays)
    scan = read(tmp_path, arrays, domain="counts")
    assert any("pickled object" in line for line in scan.metadata["conversions"])


@pytest.mark.parametrize(
    "stored",
    [
        lambda c: {"diffraction": c},
        lambda c: {"diff3d": c, "diffraction": c},
        lambda c: {"diff3d": np.moveaxis(c, 0, 2)},
        lambda c: {"diff3d": c[..., None]},
        lambda c: {"diff3d": np.moveaxis(c, 0, 2)[..., None]},
        lambda c: {"diff3d": c.astype(np.float64)},
        lambda c: {"diff3d": c.astype(">u2")},
    ],
    ids=["diffraction", "both", "HWM", "MHW1", "HWM1", "float64", "big-endian"],
)
def test_legacy_forms_of_the_patterns_give_the_same_counts(tmp_path: Path, arrays: dict[str, Any], stored: Any) -> None:
    counts = arrays.pop("diff3d")
    scan = read(tmp_path, arrays | stored(counts))
    assert np.array_equal(scan.counts, counts)
    assert scan.counts.dtype.isnative


def test_both_pattern_keys_that_differ_are_refused(tmp_path: Path, arrays: dict[str, Any]) -> None:
    arrays["diffraction"] = arrays["diff3d"] + 1
    with pytest.raises(InputError, match="differ"):
        read(tmp_path, arrays)


@pytest.mark.parametrize("axes", ["MHW", "HWM"])
def test_as_many_patterns_as_pixels_is_ambiguous_until_said(tmp_path: Path, axes: str) -> None:
    rng = np.random.default_rng(4)
    cube = rng.poisson(9.0, (8, 8, 8)).astype(np.uint16)
    arrays = {"diff3d": cube, "xcoords": rng.uniform(0, 30, 8), "ycoords": rng.uniform(0, 30, 8)}
    with pytest.raises(InputError, match="--axes HWM"):
        read(tmp_path, arrays, domain="counts")
    expected = cube if axes == "MHW" else np.moveaxis(cube, 2, 0)
    assert np.array_equal(read(tmp_path, arrays, domain="counts", axes=axes).counts, expected)


@pytest.mark.parametrize("shape", [(N, N), (N, N, 1), (3, N, N), (1, 1, 3, N, N)])
def test_probe_forms(tmp_path: Path, arrays: dict[str, Any], shape: tuple[int, ...]) -> None:
    probe = np.random.default_rng(5).normal(size=shape) + 1j
    arrays["probeGuess"] = probe
    loaded = read(tmp_path, arrays).probe
    assert loaded is not None
    assert loaded.dtype == np.complex64
    assert np.array_equal(loaded, probe.astype(np.complex64).reshape(-1, N, N))


def test_a_probe_under_another_key_and_no_probe_at_all(tmp_path: Path, arrays: dict[str, Any]) -> None:
    arrays["probeInit"] = 2 * arrays["probeGuess"]
    scan = read(tmp_path, arrays, probe_key="probeInit")
    assert scan.probe is not None
    assert np.array_equal(scan.probe[0], arrays["probeInit"])
    with pytest.raises(InputError, match="'elsewhere'"):
        read(tmp_path, arrays, probe_key="elsewhere")
    del arrays["probeGuess"]
    assert read(tmp_path, arrays).probe is None


def test_unused_keys_and_unused_nominal_positions_are_told(tmp_path: Path, arrays: dict[str, Any]) -> None:
    nominal = arrays["xcoords"] + 3.0
    scan = read(
        tmp_path, arrays | {"Y": np.ones((M, N, N)), "xcoords_start": nominal, "ycoords_start": arrays["ycoords"]}
    )
    said = " ".join(scan.metadata["conversions"])
    assert "keys not used: Y" in said
    assert "differ by up to 3" in said
    assert np.array_equal(load_scan(tmp_path / "scan.npz", nominal_positions=True).positions[:, 1], nominal)


def test_object_guess_is_the_truth_at_the_origin_the_file_says(tmp_path: Path, arrays: dict[str, Any]) -> None:
    image = np.exp(1j * np.random.default_rng(6).normal(size=(70, 60)))
    truth = read(tmp_path, arrays | {"objectGuess": image}).truth
    assert truth is not None
    assert truth.origin == (0, 0)
    assert np.array_equal(truth.values, image)
    moved = read(tmp_path, arrays | {"objectGuess": image[None], "objectOrigin": np.array([5, 3])}).truth
    assert moved is not None
    assert moved.origin == (5, 3)


def test_an_object_too_small_for_the_windows_is_refused_unless_it_is_a_guess(
    tmp_path: Path, arrays: dict[str, Any]
) -> None:
    arrays["objectGuess"] = np.ones((30, 30), complex)
    with pytest.raises(InputError, match=r"true object.*leave the object.*use_truth=False"):
        read(tmp_path, arrays)
    assert read(tmp_path, arrays, use_truth=False).truth is None


def test_geometry_from_file_aliases_and_options(tmp_path: Path, arrays: dict[str, Any]) -> None:
    arrays |= {"photon_energy_eV": 8000.0, "detector_distance_m": 2.0, "detector_pixel_size_m": 75e-6}
    assert read(tmp_path, arrays).geometry == Geometry(8000.0, 2.0, (75e-6, 75e-6))
    assert read(tmp_path, arrays, energy_eV=9000.0, detector_pixel_m=50e-6).geometry == Geometry(
        9000.0, 2.0, (50e-6, 50e-6)
    )


@pytest.mark.parametrize(("unit", "metres"), [("m", 1.0), ("um", 1e-6), ("nm", 1e-9)])
def test_lengths_become_object_pixels(tmp_path: Path, arrays: dict[str, Any], unit: str, metres: float) -> None:
    pixels = np.stack([arrays["ycoords"], arrays["xcoords"]], axis=1)
    geometry = Geometry(8000.0, 2.0, (75e-6, 75e-6))
    size = geometry.object_pixel_m(N)
    assert size is not None
    arrays |= {"ycoords": pixels[:, 0] * size[0] / metres, "xcoords": pixels[:, 1] * size[1] / metres}
    scan = read(tmp_path, arrays, position_unit=unit, energy_eV=8000.0, distance_m=2.0, detector_pixel_m=75e-6)
    assert np.allclose(scan.positions, pixels, rtol=0, atol=1e-9)
    with pytest.raises(InputError, match="--detector-pixel-m"):
        read(tmp_path, arrays, position_unit=unit)


def test_metres_read_as_pixels_are_recognised(tmp_path: Path, arrays: dict[str, Any]) -> None:
    arrays |= {"xcoords": arrays["xcoords"] * 1e-8, "ycoords": arrays["ycoords"] * 1e-8}
    with pytest.raises(InputError, match="--position-unit m"):
        read(tmp_path, arrays)


def test_position_options_swap_and_mirror(tmp_path: Path, arrays: dict[str, Any]) -> None:
    y, x = np.arange(M) * 3.0, np.arange(M)[::-1] * 2.0 + 1
    arrays |= {"ycoords": y, "xcoords": x}
    assert np.array_equal(read(tmp_path, arrays, swap_xy=True).positions, np.stack([x, y], axis=1))
    mirrored = read(tmp_path, arrays, flip_y=True).positions
    assert np.array_equal(mirrored, np.stack([y[::-1], x], axis=1))
    assert np.array_equal(read(tmp_path, arrays, flip_x=True).positions[:, 1], x[::-1])


@given(first=st.integers(0, 7), then=st.integers(0, 7), size=st.integers(4, 9))
@settings(deadline=None, max_examples=40)
def test_orientations_are_a_group_that_keeps_zero_frequency(first: int, then: int, size: int) -> None:
    frame = np.random.default_rng(7).random((size, size))
    twice = convert.turn(convert.turn(frame, first), then)
    assert np.array_equal(twice, convert.turn(frame, convert.compose_turns(first, then)))
    assert twice[size // 2, size // 2] == frame[size // 2, size // 2]


def test_a_turned_scan_turns_all_that_lies_on_the_detector(tmp_path: Path, arrays: dict[str, Any]) -> None:
    mask = np.random.default_rng(8).random((N, N)) > 0.1
    arrays |= {
        "mask": mask,
        "background": np.random.default_rng(9).random((N, N)),
        "detector_pixel_m": np.array([1e-5, 2e-5]),
    }
    scan = read(tmp_path, arrays, orientation=6)
    assert scan.mask is not None
    assert scan.background is not None
    assert scan.geometry is not None
    assert np.array_equal(scan.counts, convert.turn(arrays["diff3d"], 6))
    assert np.array_equal(scan.mask, convert.turn(mask, 6))
    assert np.array_equal(scan.background, convert.turn(arrays["background"], 6).astype(np.float32))
    assert scan.geometry.detector_pixel_m == (2e-5, 1e-5)
    assert scan.geometry.orientation == 6


def test_corner_centred_patterns_are_moved_when_said(tmp_path: Path, arrays: dict[str, Any]) -> None:
    arrays["diff3d"] = np.fft.ifftshift(arrays["diff3d"], (1, 2))
    assert np.array_equal(read(tmp_path, arrays, corner_centred=True).counts, np.fft.fftshift(arrays["diff3d"], (1, 2)))


@pytest.mark.parametrize(("dy", "dx"), [(2, 0), (-1, 3), (0, -4)])
def test_moved_patterns_mask_what_enters(tmp_path: Path, arrays: dict[str, Any], dy: int, dx: int) -> None:
    scan = read(tmp_path, arrays, move_y=dy, move_x=dx)
    assert scan.mask is not None
    assert (~scan.mask).sum() == N * N - (N - abs(dy)) * (N - abs(dx))
    y, x = np.nonzero(scan.mask)
    assert np.array_equal(scan.counts[:, y, x], arrays["diff3d"][:, y - dy, x - dx])


def test_mask_conventions(tmp_path: Path, arrays: dict[str, Any]) -> None:
    mask = np.random.default_rng(10).random((N, N)) > 0.2
    for stored, options in ((mask, {}), (mask.astype(np.uint8), {}), (~mask, {"mask_means": "bad"})):
        loaded = read(tmp_path, arrays | {"mask": stored}, **options).mask
        assert loaded is not None
        assert np.array_equal(loaded, mask)


def test_mask_invalid_covers_nan_inf_and_negative_and_leaves_zeros(tmp_path: Path, arrays: dict[str, Any]) -> None:
    values = arrays["diff3d"].astype(np.float32)
    values[2, 3, 4], values[3, 5, 6], values[4, 7, 8] = np.nan, np.inf, -2
    scan = read(tmp_path, arrays | {"diff3d": values}, mask_invalid=True)
    assert scan.mask is not None
    assert scan.mask.shape == (M, N, N)
    assert sorted(zip(*(v.tolist() for v in np.nonzero(~scan.mask)), strict=True)) == [(2, 3, 4), (3, 5, 6), (4, 7, 8)]
    assert (scan.counts[~scan.mask] == 0).all()
    clipped = read(tmp_path, arrays | {"diff3d": values}, mask_invalid=True, clip_negative=True)
    assert clipped.mask is not None
    assert (~clipped.mask).sum() == 2
    assert clipped.counts[4, 7, 8] == 0


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.int32])
def test_a_sentinel_of_bad_pixels_is_refused_then_masked_by_one_map(
    tmp_path: Path, arrays: dict[str, Any], dtype: type
) -> None:
    values = arrays["diff3d"].astype(dtype)
    values[:, 3, 4] = np.iinfo(dtype).max
    with pytest.raises(
        InputError, match=rf"{M} valid counts equal the largest number of {np.dtype(dtype)} .*--mask-invalid"
    ):
        read(tmp_path, arrays | {"diff3d": values})
    mask = read(tmp_path, arrays | {"diff3d": values}, mask_invalid=True).mask
    assert mask is not None
    assert mask.shape == (N, N)
    assert np.argwhere(~mask).tolist() == [[3, 4]]


def test_a_mask_in_the_file_and_invalid_pixels_are_joined(tmp_path: Path, arrays: dict[str, Any]) -> None:
    values = arrays["diff3d"].astype(np.float32)
    values[0, 1, 1] = np.nan
    mask = np.ones((N, N), bool)
    mask[9, 9] = False
    joined = read(tmp_path, arrays | {"diff3d": values, "mask": mask}, mask_invalid=True).mask
    assert joined is not None
    assert (~joined).sum() == M + 1


def full_scan() -> Scan:
    rng = np.random.default_rng(11)
    probe = (rng.normal(size=(2, N, N)) + 1j * rng.normal(size=(2, N, N))).astype(np.complex64)
    truth = Canvas(np.exp(1j * rng.normal(size=(90, 80))).astype(np.complex64), (-9, 4), (1.5e-8, 1.25e-8))
    return Scan(
        counts=rng.poisson(20.0, (M, N, N)).astype(np.uint32),
        positions=rng.uniform(15, 60, (M, 2)),
        probe=probe,
        mask=rng.random((M, N, N)) > 0.1,
        geometry=Geometry(8123.0, 1.75, (7.5e-5, 5.5e-5), orientation=3),
        background=rng.random((N, N)).astype(np.float32),
        truth=truth,
        true_probe=2 * probe[:1],
        probe_calibrated=True,
        name="full of everything",
        metadata={"seed": 3, "nested": {"list": [1, 2.5, None, "é"]}, "conversions": ["something was done"]},
    )


@pytest.mark.parametrize("bare", [False, True], ids=["full", "bare"])
def test_round_trip_is_exact(tmp_path: Path, bare: bool) -> None:
    scan = full_scan()
    if bare:
        scan = Scan(scan.counts.astype(np.float32), scan.positions)
    back = load(save(scan, tmp_path / "out.npz"))
    assert isinstance(back, Scan)
    for field in ("counts", "positions", "probe", "mask", "background", "true_probe"):
        old, new = getattr(scan, field), getattr(back, field)
        assert (old is None) == (new is None), field
        if old is not None:
            assert old.dtype == new.dtype, field
            assert np.array_equal(old, new), field
    assert back.metadata.pop("load")[0]["from"] == "out.npz"
    for field in ("geometry", "name", "metadata", "probe_calibrated"):
        assert getattr(scan, field) == getattr(back, field), field
    if scan.truth is not None:
        assert back.truth is not None
        assert np.array_equal(scan.truth.values, back.truth.values)
        assert (scan.truth.origin, scan.truth.pixel_m) == (back.truth.origin, back.truth.pixel_m)


def test_a_cube_of_our_own_is_not_ambiguous(tmp_path: Path) -> None:
    rng = np.random.default_rng(12)
    scan = Scan(rng.poisson(5.0, (N, N, N)).astype(np.uint8), rng.uniform(0, 50, (N, 2)))
    assert np.array_equal(load_scan(save(scan, tmp_path / "cube.npz")).counts, scan.counts)


def test_what_we_write_is_read_with_numpy_alone(tmp_path: Path) -> None:
    with np.load(save(full_scan(), tmp_path / "out.npz"), allow_pickle=False) as file:
        assert file["diff3d"].shape == (M, N, N)
        assert json.loads(str(file["_metadata"]))["domain"] == "counts"
        assert {"xcoords", "ycoords", "xcoords_start", "probeGuess", "objectGuess", "objectOrigin", "trueProbe"} <= set(
            file.files
        )


def test_the_same_scan_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (save(full_scan(), tmp_path / name).read_bytes() for name in ("a.npz", "b.npz"))
    assert first == second


def test_a_newer_format_is_refused(tmp_path: Path, arrays: dict[str, Any]) -> None:
    arrays["_metadata"] = np.asarray(json.dumps({"format": "diptych scan", "format_version": 99, "domain": "counts"}))
    with pytest.raises(InputError, match="newer diptych"):
        read(tmp_path, arrays)


def test_metadata_that_json_cannot_hold_is_refused_and_nothing_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="JSON"):
        save(replace(full_scan(), metadata={"a": object()}), tmp_path / "out.npz")
    assert list(tmp_path.iterdir()) == []


def test_tike_layout(tmp_path: Path) -> None:
    rng = np.random.default_rng(13)
    centred = rng.poisson(9.0, (M, N, N)).astype(np.float32)
    corners = rng.uniform(-20, 20, (M, 2)).astype(np.float32)
    probe = rng.normal(size=(1, 1, 1, 2, N, N)).astype(np.complex64)
    path = write(
        tmp_path / "raw.npz", {"data": np.fft.ifftshift(centred, (1, 2))[None], "scan": corners[None], "probe": probe}
    )
    scan = load_scan(path)
    assert np.array_equal(scan.counts, centred)
    assert np.array_equal(scan.positions, corners.astype(float) + N // 2)
    assert scan.probe is not None
    assert np.array_equal(scan.probe, probe[0, 0, 0])


def test_the_measured_siemens_star(measured_data: Path) -> None:
    scan = load_scan(measured_data / "siemens_star.npz")
    assert scan.counts.shape == (516, 128, 128)
    assert float(scan.counts.sum(axis=(1, 2)).mean()) == pytest.approx(4.6121289e5)
    y, x = np.indices((128, 128)) - 64
    mean = scan.counts.mean(axis=0)
    assert mean[np.hypot(y, x) < 32].sum() > 0.9 * mean.sum()
    assert scan.probe is not None
    assert (np.abs(scan.probe[0]) ** 2)[np.hypot(y, x) < 40].sum() > 0.95 * (np.abs(scan.probe[0]) ** 2).sum()


def test_the_same_keys_in_an_hdf5_file(tmp_path: Path, arrays: dict[str, Any]) -> None:
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        for key, value in arrays.items():
            file[key] = str(value) if key == "_metadata" else value
    assert np.array_equal(load_scan(tmp_path / "scan.h5").counts, arrays["diff3d"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"energy_eV": np.ones(3)}, "'energy_eV' has shape"),
        ({"detector_pixel_m": np.ones(3)}, "expected one or two numbers"),
        ({"detector_pixel_m": np.asarray("wide")}, "expected one or two numbers"),
        ({"objectGuess": np.ones((60, 60)), "objectOrigin": np.ones(3)}, "holds 3 numbers"),
        ({"objectGuess": np.ones(60)}, "expected complex numbers"),
        ({"probeGuess": np.full((N, N), "p")}, "expected complex numbers"),
        ({"_metadata": np.asarray("[1]")}, "JSON list"),
        ({"_metadata": np.asarray('{"format": "diptych scan", "format_version": "x"}')}, "'_metadata': is damaged"),
        ({"_metadata": np.asarray('{"format": "diptych scan", "format_version": 1}')}, "'_metadata': is damaged"),
    ],
)
def test_damaged_small_fields_are_named(
    tmp_path: Path, arrays: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, arrays | change)


def test_a_scan_without_its_probe(tmp_path: Path, arrays: dict[str, Any]) -> None:
    arrays["probeGuess"] = np.zeros((N, N), complex)
    with pytest.raises(InputError, match=r"zero everywhere.*--no-use-probe"):
        read(tmp_path, arrays)
    assert read(tmp_path, arrays, use_probe=False).probe is None


def test_tike_arrays_that_disagree(tmp_path: Path) -> None:
    path = write(
        tmp_path / "raw.npz", {"data": np.ones((1, M, N, N)), "scan": np.ones((1, M + 1, 2)), "probe": np.ones((N, N))}
    )
    with pytest.raises(InputError, match="'data' has shape"):
        load_scan(path)


def test_metadata_of_numpy_values_and_paths_is_written_as_json(tmp_path: Path) -> None:
    scan = replace(full_scan(), metadata={"a": np.float32(0.5), "b": np.arange(3), "c": Path("x") / "y"})
    found = load_scan(save(scan, tmp_path / "out.npz")).metadata
    assert {key: found[key] for key in "abc"} == {"a": 0.5, "b": [0, 1, 2], "c": str(Path("x") / "y")}


def test_unknown_options_are_named(tmp_path: Path, arrays: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="unknown option 'domian'"):
        read(tmp_path, arrays, domian="counts")
    assert read(tmp_path, arrays, options=LoadOptions(swap_xy=True), flip_y=True).metadata["conversions"][-2:] == [
        "x and y of the positions exchanged",
        "y of the positions mirrored about the middle of the scan",
    ]
