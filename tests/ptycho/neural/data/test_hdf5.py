"""Patterns read from an HDF5 file in parts are those that loading the whole file gives, for every way to read it."""

from __future__ import annotations

import json
import logging
import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io import LoadOptions, load_scan, save
from diptych.ptycho.neural.data.hdf5 import Hdf5Patterns, open_patterns
from diptych.ptycho.neural.data.patterns import Patterns, ScanPatterns
from diptych.ptycho.scan import Scan

M, N = 11, 16
SOME = np.array([7, 2, 3, 3, 10, 0, 7])
GEOMETRY = {"energy_eV": 9000.0, "distance_m": 2.0, "detector_pixel_m": np.array([75e-6, 150e-6]), "orientation": 1}


@pytest.fixture
def arrays() -> dict[str, Any]:
    """A full scan that declares counts; each test changes one thing."""
    rng = np.random.default_rng(1)
    return {
        "diff3d": rng.poisson(3.0, (M, N, N)).astype(np.uint16),
        "xcoords": rng.uniform(20, 40, M),
        "ycoords": rng.uniform(30, 50, M),
        "probeGuess": (rng.normal(size=(2, N, N)) + 1j * rng.normal(size=(2, N, N))).astype(np.complex64),
        "objectGuess": (1 + 0.1j * rng.normal(size=(80, 70))).astype(np.complex64),
        "background": rng.uniform(0, 1, (N, N)).astype(np.float32),
        "mask": rng.uniform(size=(N, N)) > 0.1,
        "_metadata": json.dumps({"domain": "counts"}),
        **GEOMETRY,
    }


def write(path: Path, arrays: dict[str, Any], group: str = "/") -> Path:
    with h5py.File(path, "w") as file:
        for key, value in arrays.items():
            file.require_group(group)[key] = value
    return path


def assert_same(parts: Patterns, scan: Scan, indices: NDArray[np.int64] = SOME) -> None:
    """All that ``parts`` says is what the loaded scan says."""
    whole = ScanPatterns(scan)
    for found, expected in zip(parts.read(indices), whole.read(indices), strict=True):
        assert (found is None) == (expected is None)
        if found is not None and expected is not None:
            assert found.dtype == expected.dtype
            assert np.array_equal(found, expected)
    for key in ("positions", "probe", "mask", "background"):
        found, expected = getattr(parts, key), getattr(whole, key)
        assert (found is None) == (expected is None), key
        assert found is None or np.array_equal(found, expected), key
    assert (parts.name, parts.size, len(parts), parts.geometry) == (whole.name, whole.size, len(whole), whole.geometry)
    assert parts.probe_calibrated == whole.probe_calibrated
    assert (parts.truth is None) == (whole.truth is None)
    if parts.truth is not None and whole.truth is not None:
        assert np.array_equal(parts.truth.values, whole.truth.values)
        assert parts.truth.origin == whole.truth.origin


OPTIONS: dict[str, Any] = {
    "domain": {"domain": "amplitude"},
    "scale": {"scale": 2.5},
    "axes": {"axes": "MHW"},
    "corner_centred": {"corner_centred": True},
    "move_y": {"move_y": 2},
    "move_x": {"move_x": -3},
    "orientation": {"orientation": 6},
    "position_unit": {"position_unit": "nm"},
    "nominal_positions": {"nominal_positions": True},
    "swap_xy": {"swap_xy": True, "use_truth": False},
    "rotation": {"rotation": 30.0, "use_truth": False},
    "flip_y": {"flip_y": True},
    "flip_x": {"flip_x": True},
    "mask_means": {"mask_means": "bad"},
    "mask_invalid": {"mask_invalid": True},
    "clip_negative": {"clip_negative": True},
    "probe_key": {"probe_key": "better"},
    "use_probe": {"use_probe": False},
    "use_truth": {"use_truth": False},
    "energy_eV": {"energy_eV": 500.0},
    "distance_m": {"distance_m": 0.5},
    "detector_pixel_m": {"detector_pixel_m": 1e-5},
    "particle": {"particle": "electron", "energy_eV": 3e5},
    "saturation": {"saturation": 4.0},
    "detector_gain": {"detector_gain": 2.0},
    "read_noise": {"read_noise": 1.5},
    "propagation": {"propagation": "near"},
    "focus_distance_m": {"focus_distance_m": 0.01},
}

ELSEWHERE = {"positions", "patterns_at", "positions_at", "probe_at", "mask_at", "scan_step"}
ELSEWHERE |= {"layout", "frame_size", "scan_columns", "centre_y", "centre_x", "entry"}
"""Options that name other places or other layouts: such scans are loaded completely."""


def test_every_option_is_tried() -> None:
    assert set(OPTIONS) | ELSEWHERE == set(LoadOptions.model_fields)


@pytest.mark.parametrize("name", OPTIONS)
def test_each_option_reads_parts_as_it_loads_the_whole(tmp_path: Path, arrays: dict[str, Any], name: str) -> None:
    if name == "position_unit":
        for axis in "xy":
            arrays[f"{axis}coords"] *= 230.0 if axis == "y" else 115.0
    if name == "nominal_positions":
        arrays |= {f"{axis}coords_start": arrays[f"{axis}coords"] + 1 for axis in "xy"}
    if name in ("mask_invalid", "clip_negative"):
        arrays["diff3d"] = arrays["diff3d"].astype(np.float32) - 1
    if name == "probe_key":
        arrays["better"] = 2 * arrays["probeGuess"]
    options = LoadOptions(**OPTIONS[name])
    path = write(tmp_path / "scan.h5", arrays)
    assert_same(open_patterns(path, options, stream=True), load_scan(path, options))


def test_parts_come_in_any_order_with_repeats(tmp_path: Path, arrays: dict[str, Any]) -> None:
    del arrays["mask"]
    parts = open_patterns(write(tmp_path / "scan.h5", arrays), stream=True)
    assert isinstance(parts, Hdf5Patterns)
    for indices in ([0], [10], [4, 4, 4], [10, 0, 9, 1], list(range(M)), list(range(M))[::-1]):
        counts, valid = parts.read(np.array(indices))
        assert np.array_equal(counts, arrays["diff3d"][indices])
        assert valid is None
    for beyond in ([-1], [3, M]):
        with pytest.raises(IndexError, match=f"of {M}"):
            parts.read(np.array(beyond))


@pytest.mark.parametrize("shape", [(N, N, M), (M, N, N, 1), (M, 1, N, N), (N, N, M, 1), (N, 1, N, M)])
@pytest.mark.parametrize("stored", [{}, {"chunks": True, "compression": "gzip"}], ids=["plain", "deflated"])
def test_other_layouts_of_the_axes(
    tmp_path: Path, arrays: dict[str, Any], shape: tuple[int, ...], stored: dict[str, Any]
) -> None:
    del arrays["mask"]
    values = arrays.pop("diff3d")
    path = write(tmp_path / "scan.h5", arrays)
    with h5py.File(path, "r+") as file:
        last = shape[2] == M or shape[-1] == M
        file.create_dataset(
            "diffraction", data=(np.moveaxis(values, 0, 2) if last else values).reshape(shape), **stored
        )
    assert_same(Hdf5Patterns(path), load_scan(path))


def test_patterns_under_both_keys(tmp_path: Path, arrays: dict[str, Any]) -> None:
    path = write(tmp_path / "scan.h5", arrays | {"diffraction": arrays["diff3d"]})
    assert_same(Hdf5Patterns(path), load_scan(path))


def test_as_many_patterns_as_pixels(tmp_path: Path, arrays: dict[str, Any]) -> None:
    """The axis is determined from the whole file and then used for parts with any number of patterns."""
    counts = np.random.default_rng(4).poisson(2.0, (N, N, N)).astype(np.uint8)
    arrays = {
        "diff3d": counts,
        "xcoords": np.arange(N),
        "ycoords": np.arange(N)[::-1],
        "_metadata": '{"domain": "counts"}',
    }
    path = write(tmp_path / "scan.h5", arrays)
    with pytest.raises(InputError, match=r"shape \(16, 16, 16\), as many patterns as pixels.*--axes MHW"):
        open_patterns(path, stream=True)
    for axes in ("MHW", "HWM"):
        options = LoadOptions(axes=axes)
        assert_same(Hdf5Patterns(path, options), load_scan(path, options))
    write(path, arrays | {"_metadata": '{"domain": "counts", "axes": "HWM"}'})
    assert_same(Hdf5Patterns(path), load_scan(path))


def test_masks_of_each_pattern(tmp_path: Path, arrays: dict[str, Any]) -> None:
    arrays["mask"] = np.random.default_rng(5).uniform(size=(M, N, N)) > 0.2
    arrays["mask"][3] = False
    path = write(tmp_path / "scan.h5", arrays)
    for options in (LoadOptions(), LoadOptions(orientation=5, corner_centred=True), LoadOptions(mask_means="bad")):
        parts = open_patterns(path, options, stream=True)
        assert_same(parts, load_scan(path, options))
        assert parts.mask is None


@pytest.mark.parametrize("everywhere", [True, False])
def test_sentinels_make_one_mask_or_one_for_each_pattern(
    tmp_path: Path, arrays: dict[str, Any], everywhere: bool
) -> None:
    del arrays["mask"]
    arrays["diff3d"][slice(None) if everywhere else slice(8, 10), 5, 6] = 65535
    path = write(tmp_path / "scan.h5", arrays)
    options = LoadOptions(mask_invalid=True)
    parts = open_patterns(path, options, stream=True)
    assert_same(parts, load_scan(path, options))
    # Where a part holds no bad pixel, or nothing but, the mask is still what it is in the whole.
    assert_same(parts, load_scan(path, options), np.array([0, 1]))
    assert_same(parts, load_scan(path, options), np.array([8, 9]))
    assert (parts.mask is not None) == everywhere


def test_amplitudes_are_rounded_in_parts_only_where_they_are_in_the_whole(
    tmp_path: Path, arrays: dict[str, Any]
) -> None:
    exact = np.random.default_rng(2).integers(2**19, 2**20, (M, N, N))
    for change in (0.0, 0.3):
        amplitude = np.sqrt(exact).astype(np.float32)
        amplitude[0] += np.float32(change)
        path = write(tmp_path / "scan.h5", arrays | {"diff3d": amplitude})
        options = LoadOptions(domain="amplitude")
        scan = load_scan(path, options)
        assert np.array_equal(scan.counts, exact) == (change == 0)
        assert_same(Hdf5Patterns(path, options), scan, np.array([4, 2]))


def test_patterns_bundled_with_a_product(tmp_path: Path, arrays: dict[str, Any]) -> None:
    del arrays["_metadata"]
    path = write(tmp_path / "product.h5", arrays, "raw_data")
    with h5py.File(path, "r+") as file:
        file["object"] = file["probe"] = np.ones((4, 4), complex)
    assert_same(open_patterns(path, stream=True), load_scan(path))


def test_a_dark_or_lonely_part_is_no_error(tmp_path: Path, arrays: dict[str, Any]) -> None:
    """A scan of dark patterns only, or of one place only, is refused; a part of one may be dark, or from one place."""
    arrays["diff3d"] = np.zeros((600, N, N), np.float32)
    arrays["diff3d"][590] = 1
    arrays |= {"xcoords": np.full(600, 30.0), "ycoords": np.full(600, 40.0)}
    arrays["xcoords"][300:] += 3
    path = write(tmp_path / "scan.h5", arrays)
    assert_same(Hdf5Patterns(path), load_scan(path), np.arange(5))


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "dark": ({"diff3d": np.zeros((M, N, N), np.uint8)}, "no valid pixel holds a single photon"),
    "masked": ({"mask": np.zeros((N, N), bool)}, "every detector pixel is masked"),
    "mask": (
        {"mask": np.ones((M + 1, N, N), bool)},
        r"mask:? has shape \(12, 16, 16\); expected \(16, 16\) or \(11, 16, 16\)",
    ),
    "positions": (
        {"xcoords": np.ones(M + 1), "ycoords": np.ones(M + 1)},
        r"shape \(11, 16, 16\) but there are 12 positions",
    ),
    "nan position": (
        {"xcoords": np.where(np.arange(M) == 9, np.nan, 30)},
        r"1 positions are not finite \(first: pattern 9\)",
    ),
    "truth": ({"xcoords": np.linspace(30, 90, M)}, r"true object: .* of 11 windows leave the object.*--no-use-truth"),
    "probe": ({"probeGuess": np.zeros((N, N), complex)}, r"probe: is zero everywhere.*--no-use-probe"),
    "background": ({"background": -np.ones((N, N))}, "background: holds negative"),
    "domain": ({"_metadata": "{}"}, r"does not declare.*\(uint16, 0 to .*--domain counts"),
    "two": ({"diffraction": np.ones((M, N, N), np.uint16)}, "'diff3d' and 'diffraction' are both there and differ"),
    "two of other lengths": (
        {key: np.ones((M + i, N, N), np.uint8) for i, key in enumerate(("diff3d", "diffraction"))},
        "both there and differ",
    ),
    "complex": ({"diff3d": np.ones((M, N, N), complex)}, "expected real numbers"),
    "small": ({"diff3d": np.ones((M, 3, 3)), "mask": np.ones((3, 3), bool)}, "3 pixels wide; expected at least 4"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_loading_refuses_opening_refuses_in_the_same_words(
    tmp_path: Path, arrays: dict[str, Any], what: str
) -> None:
    change, message = BAD[what]
    path = write(tmp_path / "scan.h5", arrays | change)
    with pytest.raises(InputError, match=message) as loading:
        load_scan(path)
    with pytest.raises(InputError, match=message) as opening:
        open_patterns(path, stream=True)
    assert str(opening.value) == str(loading.value)


@pytest.mark.parametrize(("dtype", "value"), [(np.float32, np.nan), (np.float32, -2), (np.uint16, 65535)])
def test_a_wrong_value_is_found_on_opening_and_named_with_its_true_pattern(
    tmp_path: Path, arrays: dict[str, Any], dtype: type, value: float
) -> None:
    counts = np.ones((600, N, N), dtype)
    counts[400, 2, 3] = value
    del arrays["mask"]
    path = write(
        tmp_path / "scan.h5",
        arrays | {"diff3d": counts, "xcoords": np.linspace(20, 40, 600), "ycoords": np.linspace(20, 40, 600)},
    )
    with pytest.raises(
        InputError,
        match=r"scan\.h5: counts: in patterns 256 to 511, 1 valid counts .*first at pattern 400, pixel \(y 2, x 3\)",
    ):
        open_patterns(path, stream=True)


def test_values_of_other_files_are_not_followed(tmp_path: Path, arrays: dict[str, Any]) -> None:
    values = arrays.pop("diff3d")
    other = write(tmp_path / "other.h5", {"patterns": values})
    (tmp_path / "folder").mkdir()
    path = write(tmp_path / "folder" / "scan.h5", arrays)
    layout = h5py.VirtualLayout((M, N, N), "u2")
    layout[:] = h5py.VirtualSource(str(other), "patterns", (M, N, N))
    with h5py.File(path, "r+") as file:
        file.create_virtual_dataset("diff3d", layout)
    with pytest.raises(InputError, match=r"'diff3d'.* outside the folder of this one: not followed"):
        open_patterns(path, stream=True)


def test_what_is_not_streamed(tmp_path: Path, arrays: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "scan.h5", arrays)
    scan = load_scan(path)
    for source, stream in ((scan, True), (scan, False), (path, False), (str(path), False)):
        parts = open_patterns(source, stream=stream)
        assert isinstance(parts, ScanPatterns)
        assert_same(parts, scan)
    flipped = open_patterns(path, LoadOptions(flip_y=True), stream=False)
    assert np.array_equal(flipped.positions, load_scan(path, flip_y=True).positions)
    npz = save(scan, tmp_path / "scan.npz")
    with caplog.at_level(logging.INFO, "diptych"):
        assert isinstance(open_patterns(npz, stream=True), ScanPatterns)
    assert "scan.npz: loaded into memory; only HDF5 scans can be streamed" in caplog.text


def test_what_is_no_scan_is_refused_as_by_loading(tmp_path: Path, arrays: dict[str, Any]) -> None:
    nothing = write(tmp_path / "nothing.h5", {"frames": np.ones(3)})
    result = write(tmp_path / "result.h5", {"object": np.ones((4, 4), complex), "probe": np.ones((4, 4), complex)})
    for path in (nothing, result, tmp_path / "absent.h5"):
        with pytest.raises(InputError) as loading:
            load_scan(path)
        with pytest.raises(InputError) as opening:
            open_patterns(path, stream=True)
        assert str(opening.value) == str(loading.value)


def test_a_file_that_vanished_is_named(tmp_path: Path, arrays: dict[str, Any]) -> None:
    path = write(tmp_path / "scan.h5", arrays)
    parts = open_patterns(path, stream=True)
    path.unlink()
    with pytest.raises(InputError, match=r"scan\.h5"):
        parts.read(SOME)


def test_spawned_processes_open_the_file_for_themselves(tmp_path: Path, arrays: dict[str, Any]) -> None:
    parts = Hdf5Patterns(write(tmp_path / "scan.h5", arrays))
    before, _ = parts.read(np.arange(M))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.map(parts.read, [np.array([i]) for i in range(M)])
    assert np.array_equal(np.concatenate([counts for counts, _ in there]), before)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork processes")
def test_forked_processes_open_the_file_for_themselves(tmp_path: Path, arrays: dict[str, Any]) -> None:
    parts = Hdf5Patterns(write(tmp_path / "scan.h5", arrays))
    before, _ = parts.read(np.arange(M))
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [
        context.Process(target=lambda: queue.put([parts.read(np.array([i]))[0] for i in range(M)])) for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    there = [np.concatenate(queue.get(timeout=60)) for _ in workers]
    for worker in workers:
        worker.join()
    assert all(np.array_equal(found, before) for found in there)
    assert np.array_equal(parts.read(np.arange(M))[0], before)


def test_a_copy_reads_on_after_the_first_one_is_gone(tmp_path: Path, arrays: dict[str, Any]) -> None:
    parts = Hdf5Patterns(write(tmp_path / "scan.h5", arrays))
    before, _ = parts.read(SOME)
    packed = pickle.dumps(parts)
    del parts
    assert np.array_equal(pickle.loads(packed).read(SOME)[0], before)
