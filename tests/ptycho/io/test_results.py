"""Results: our round trips are exact, the product holds what its readers expect, and other programs' results are
read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from diptych.errors import InputError
from diptych.ptycho.io import load, load_object, load_result, load_scan, read_probe, save
from diptych.ptycho.scan import Canvas, Geometry, Reconstruction

N, SHAPE = 16, (50, 61)


def result(geometry: Geometry | None = None, error: bool = True) -> Reconstruction:
    rng = np.random.default_rng(0)
    pixel = geometry.object_pixel_m(N) if geometry else None
    return Reconstruction(
        object=Canvas(np.exp(1j * rng.normal(size=SHAPE)).astype(np.complex64), (-13, 21), pixel),
        probe=(rng.normal(size=(3, N, N)) + 1j * rng.normal(size=(3, N, N))).astype(np.complex64),
        positions=np.rint(rng.uniform((-5, 29), (28, 73), (9, 2))) + np.array([0.0, 0.1]),
        history={"epoch": [1.0, 2.0, 5.0], "fit": [9.0, 1.5, 1.1], "held_out_fit": [np.nan, 1.6, 1.2]},
        error=rng.random(SHAPE).astype(np.float32) if error else None,
        flags=("a flag", "and another"),
        provenance={"seed": 4, "options": {"engine": "ml"}, "long": "x" * 100_000},
        name="star 1",
        geometry=geometry,
    )


GEOMETRY = Geometry(8800.0, 4.08, (75e-6, 50e-6), orientation=5)


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
@pytest.mark.parametrize("geometry", [None, GEOMETRY, Geometry(energy_eV=500.0)], ids=["pixels", "metres", "partly"])
def test_round_trip_is_exact(tmp_path: Path, suffix: str, geometry: Geometry | None) -> None:
    old = result(geometry, error=geometry is None)
    new = load(save(old, tmp_path / f"out{suffix}"))
    assert isinstance(new, Reconstruction)
    assert np.array_equal(new.object.values, old.object.values)
    assert new.object.values.dtype == np.complex64
    assert (new.object.origin, new.object.pixel_m) == (old.object.origin, old.object.pixel_m)
    assert np.array_equal(new.probe, old.probe)
    assert np.array_equal(new.positions, old.positions)
    assert list(new.history) == list(old.history)
    for column in old.history:
        assert np.array_equal(new.history[column], old.history[column], equal_nan=True)
    assert (new.error is None) == (old.error is None)
    if old.error is not None:
        assert new.error is not None
        assert np.array_equal(new.error, old.error)
        assert new.error.dtype == np.float32
    assert (new.flags, new.provenance, new.name, new.geometry) == (old.flags, old.provenance, old.name, old.geometry)


@pytest.mark.parametrize("geometry", [None, GEOMETRY], ids=["pixels", "metres"])
def test_the_product_layout(tmp_path: Path, geometry: Geometry | None) -> None:
    old = result(geometry)
    with h5py.File(save(old, tmp_path / "out.h5")) as file:
        assert {"name", "comments", "detector_object_distance_m", "probe_energy_eV", "exposure_time_s"} <= set(
            file.attrs
        )
        assert "tomography_angle_deg" in file.attrs
        assert file["probe"].shape == (1, 3, N, N)
        assert file["object"].shape == (1, *SHAPE)
        assert np.array_equal(file["probe_position_indexes"][()], np.arange(9))
        assert file["object_layer_spacing_m"].shape == (0,)
        assert file["loss_values"][()].tolist() == [9.0, 1.5, 1.1]
        assert file["loss_epochs"][()].tolist() == [1, 2, 5]
        assert "opr_weights" not in file
        assert "opr_weights" not in file["probe"].attrs
        image = file["object"].attrs
        pixel = np.array([image["pixel_height_m"], image["pixel_width_m"]])
        assert np.allclose(pixel, (1.0, 1.0) if geometry is None else geometry.object_pixel_m(N))
        metres = np.stack([file["probe_position_y_m"][()], file["probe_position_x_m"][()]], axis=1)
        centre = np.array([image["center_y_m"], image["center_x_m"]])
        # The reader's formula: object index = (position - centre) / pixel + size / 2.
        indices = (metres - centre) / pixel + np.array(SHAPE) / 2
        assert np.allclose(indices, old.positions - old.object.origin, rtol=0, atol=1e-9)
        assert file.attrs["units"] == ("pixel" if geometry is None else "metre")
        assert ("not known" in file.attrs["comments"]) == (geometry is None)
        assert file.attrs["probe_photon_count"] == pytest.approx(float(np.sum(np.abs(old.probe) ** 2)), rel=1e-6)


@pytest.mark.parametrize("geometry", [None, GEOMETRY], ids=["pixels", "metres"])
def test_without_our_own_group_the_product_says_the_same(tmp_path: Path, geometry: Geometry | None) -> None:
    old = result(geometry)
    path = save(old, tmp_path / "out.h5")
    with h5py.File(path, "r+") as file:
        del file["diptych"]
    new = load_result(path)
    assert new.object.origin == old.object.origin
    assert np.array_equal(new.object.values, old.object.values)
    assert np.allclose(new.positions, old.positions, rtol=0, atol=1e-9)
    assert new.history["loss"] == old.history["fit"]
    if geometry is not None:
        assert new.geometry is not None
        assert new.geometry.object_pixel_m(N) == pytest.approx(geometry.object_pixel_m(N))


def product(
    path: Path, probe_shape: tuple[int, ...] = (N, N), image_shape: tuple[int, ...] = (40, 40), **changes: Any
) -> Path:
    """A product as another program writes it."""
    rng = np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        file.attrs.update(
            {"name": "other", "comments": "", "detector_object_distance_m": 2.0, "probe_energy_eV": 8000.0}
        )
        file["probe"] = rng.normal(size=probe_shape).astype(np.complex64)
        file["object"] = rng.normal(size=image_shape).astype(np.complex128)
        attributes = {"center_x_m": 1e-6, "center_y_m": -2e-6, "pixel_width_m": 1e-8, "pixel_height_m": 2e-8}
        file["object"].attrs.update({**attributes, **changes.pop("attributes", {})})
        file["probe_position_indexes"] = np.arange(4)
        file["probe_position_x_m"] = 1e-6 + 1e-8 * np.array([-5.0, -1, 2, 5])
        file["probe_position_y_m"] = -2e-6 + 2e-8 * np.array([3.0, 1, 0, -4.5])
        file["object_layer_spacing_m"] = np.empty(0)
        for name, values in changes.items():
            if values is None:
                del file[name]
            elif name in file:
                file[name][...] = values
            else:
                file[name] = values
    return path


@pytest.mark.parametrize(("shape", "modes"), [((N, N), 1), ((2, N, N), 2), ((1, 2, N, N), 2), ((3, 2, N, N), 2)])
def test_products_of_others(tmp_path: Path, shape: tuple[int, ...], modes: int) -> None:
    new = load_result(product(tmp_path / "p.h5", shape, (1, 40, 40), costs=[3.0, 2.0]))
    assert new.probe.shape == (modes, N, N)
    assert new.probe.dtype == new.object.values.dtype == np.complex64
    assert new.history == {"epoch": [0.0, 1.0], "loss": [3.0, 2.0]}
    assert np.allclose(new.positions - new.object.origin, 20 + np.array([[3, -5], [1, -1], [0, 2], [-4.5, 5]]))
    assert new.object.origin == (-100 - 20, 100 - 20)
    assert any("OPR" in flag for flag in new.flags) == (shape[0] == 3)


def test_a_centre_left_at_zero_is_recognised_by_where_the_windows_fit(tmp_path: Path) -> None:
    corner = 1e-8 * np.array([10.0, 12, 20, 25])
    path = product(
        tmp_path / "p.h5",
        attributes={"center_x_m": 0.0, "center_y_m": 0.0, "pixel_height_m": 1e-8},
        probe_position_x_m=corner,
        probe_position_y_m=corner,
    )
    new = load_result(path)
    assert np.allclose(new.positions[:, 0], [10, 12, 20, 25])
    assert new.object.origin == (0, 0)
    assert "first pixel" in new.flags[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probe": None}, "probe missing"),
        ({"probe_position_x_m": None}, "probe_position_x_m missing"),
        ({"attributes": {"pixel_width_m": 0.0}}, "object pixel"),
        ({"probe_shape": (N, N + 1)}, "the probe"),
        ({"probe": 0.0}, "zero everywhere"),
        ({"object": np.nan}, "not finite"),
    ],
)
def test_wrong_products_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = product(tmp_path / "p.h5", **changes)
    with pytest.raises(InputError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(str(path))


def test_several_layers_become_slices_at_the_mean_of_their_distances(tmp_path: Path) -> None:
    path = product(tmp_path / "p.h5", image_shape=(3, 40, 40))
    with h5py.File(path, "r+") as file:
        del file["object_layer_spacing_m"]
        file["object_layer_spacing_m"] = np.array([1e-6, 3e-6])
    new = load_result(path)
    assert new.slices is not None
    assert new.slices.shape == (3, 40, 40)
    assert new.slice_distance_m == pytest.approx(2e-6)
    assert any("1e-06 to 3e-06 m apart" in flag for flag in new.flags)
    np.testing.assert_allclose(new.object.values, new.slices.prod(0), rtol=1e-6)


def test_the_npz_twin_of_a_product(tmp_path: Path) -> None:
    with h5py.File(product(tmp_path / "p.h5")) as file:
        arrays = {key: file[key][()] for key in file} | {key: np.asarray(value) for key, value in file.attrs.items()}
        arrays |= {f"object_{key}": value for key, value in file["object"].attrs.items()}
    np.savez(tmp_path / "p.npz", **arrays)
    old, new = load_result(tmp_path / "p.h5"), load_result(tmp_path / "p.npz")
    assert np.array_equal(old.positions, new.positions)
    assert (old.object.origin, old.object.pixel_m, old.geometry) == (
        new.object.origin,
        new.object.pixel_m,
        new.geometry,
    )


def test_a_bundled_diffraction_is_not_dropped(tmp_path: Path) -> None:
    path = product(tmp_path / "p.h5")
    counts = np.random.default_rng(2).poisson(30.0, (4, N, N))
    with h5py.File(path, "r+") as file:
        raw = file.create_group("raw_data")
        raw["diffraction"], raw["xcoords"], raw["ycoords"] = (
            np.sqrt(counts).astype(np.float32),
            np.arange(4.0),
            2 * np.arange(4.0),
        )
        raw["probeGuess"] = file["probe"]
    assert "load_scan" in load_result(path).flags[-1]
    scan = load_scan(path)
    assert np.array_equal(scan.counts, counts)
    assert np.array_equal(scan.positions[:, 0], 2 * np.arange(4.0))


@pytest.mark.parametrize("keys", [("reconstructed_object", "reconstructed_probe"), ("objectGuess", "probeGuess")])
def test_result_npz_of_others(tmp_path: Path, keys: tuple[str, str]) -> None:
    image = np.random.default_rng(3).normal(size=(1, 30, 31)) + 0j
    arrays = {keys[0]: image, keys[1]: np.ones((1, 2, N, N), complex), "algorithm": np.asarray("pty-chi")}
    np.savez(tmp_path / "r.npz", **arrays)
    bare = load_result(tmp_path / "r.npz")
    assert np.array_equal(bare.object.values, image[0].astype(np.complex64))
    assert bare.probe.shape == (2, N, N)
    assert bare.positions.shape == (0, 2)
    assert "no positions" in bare.flags[0]
    np.savez(tmp_path / "r.npz", **arrays, xcoords=np.arange(3.0), ycoords=np.arange(3.0) + 7)
    assert load_result(tmp_path / "r.npz").positions.tolist() == [[7, 0], [8, 1], [9, 2]]


def test_the_published_lcls_result(measured_data: Path) -> None:
    new = load_result(measured_data / "lcls_run1084_result.npz")
    assert new.object.shape == (227, 226)
    assert new.object.values.dtype == np.complex64
    assert new.positions.shape == (1087, 2)
    assert new.positions[:, 0].min() == pytest.approx(71.84112575988368)
    assert new.positions[:, 1].max() == pytest.approx(157.74617083761945)


def test_load_scan_and_load_result_want_their_kind(tmp_path: Path) -> None:
    path = save(result(), tmp_path / "out.npz")
    with pytest.raises(InputError, match="expected a scan"):
        load_scan(path)
    with pytest.raises(InputError, match="domain cannot apply"):
        load(path, domain="counts")
    np.savez(tmp_path / "scan.npz", diff3d=np.ones((2, N, N)), xcoords=[0, 9], ycoords=[0, 9])
    with pytest.raises(InputError, match="expected a result"):
        load_result(tmp_path / "scan.npz")


def test_probes_and_objects_alone(tmp_path: Path) -> None:
    old = result()
    for suffix in (".h5", ".npz"):
        path = save(old, tmp_path / f"out{suffix}")
        assert np.array_equal(read_probe(path), old.probe)
        assert load_object(path).origin == old.object.origin
    np.save(tmp_path / "probe.npy", old.probe[0])
    assert np.array_equal(read_probe(tmp_path / "probe.npy"), old.probe[:1])
    np.savez(tmp_path / "mine.npz", lens=old.probe, objectGuess=old.object.values, diff3d=np.zeros((2, 2, 2)))
    assert np.array_equal(read_probe(tmp_path / "mine.npz", keys=("lens",)), old.probe)
    assert np.array_equal(load_object(tmp_path / "mine.npz").values, old.object.values)
    with pytest.raises(InputError, match="holds no probe"):
        read_probe(tmp_path / "mine.npz")
    with pytest.raises(InputError, match=f"is {N} x {N} pixels; expected 64 x 64"):
        read_probe(tmp_path / "probe.npy", 64)
    np.save(tmp_path / "dark.npy", 0 * old.probe)
    with pytest.raises(InputError, match="zero everywhere"):
        read_probe(tmp_path / "dark.npy")


def test_damage_to_our_own_group_is_one_clear_error(tmp_path: Path) -> None:
    path = save(result(), tmp_path / "out.h5")
    with h5py.File(path, "r+") as file:
        del file["diptych/positions"]
    with pytest.raises(InputError, match="'diptych' is damaged"):
        load(path)
    with h5py.File(save(result(), path), "r+") as file:
        said = json.loads(file["diptych/record"].asstr()[()])
        del file["diptych/record"]
        file["diptych/record"] = json.dumps({**said, "format_version": 99})
    with pytest.raises(InputError, match="newer diptych"):
        load(path)


def test_damage_to_our_own_npz_is_one_clear_error(tmp_path: Path) -> None:
    with np.load(save(result(), tmp_path / "out.npz")) as file:
        arrays = dict(file)
    said = json.loads(str(arrays["_metadata"]))
    for change, message in (
        ({"_metadata": np.asarray(json.dumps({**said, "format_version": 99}))}, "newer diptych"),
        ({"_metadata": np.asarray(json.dumps({**said, "pixel_m": "wide"}))}, "incomplete"),
        ({"probe": np.zeros_like(arrays["probe"])}, "zero everywhere"),
        ({"error": np.ones(3)}, "error: has shape"),
    ):
        np.savez(tmp_path / "bad.npz", **{**arrays, **change})
        with pytest.raises(InputError, match=message) as caught:
            load(tmp_path / "bad.npz")
        assert str(caught.value).startswith(str(tmp_path / "bad.npz"))
    del arrays["positions"]
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(InputError, match="'positions' is missing"):
        load(tmp_path / "bad.npz")


def test_the_positions_of_a_result_that_is_not_ours(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "r.npz", object=np.ones((30, 30)), probe=np.ones((N, N)), positions=np.array([[12, 13], [14, 15]])
    )
    assert load_result(tmp_path / "r.npz").positions.tolist() == [[12, 13], [14, 15]]
    np.savez(tmp_path / "s.npz", scan=np.ones(3))
    with pytest.raises(InputError, match="holds no object"):
        load_object(tmp_path / "s.npz")


def test_history_columns_of_unequal_length_and_no_history(tmp_path: Path) -> None:
    old = replace(result(), history={"epoch": [1.0], "loss": [2.0, 1.0]})
    assert load_result(save(old, tmp_path / "a.h5")).history == old.history
    assert load_result(save(replace(old, history={}), tmp_path / "b.h5")).history == {}
