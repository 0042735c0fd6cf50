"""diptych inside Ptychodus: readers, reconstructors and the launcher. Skipped where Ptychodus is not installed.

Run it in an environment of its own: ``pip install ptychodus``, never with its extra ``ptychi``.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import diptych

ptychodus = pytest.importorskip("ptychodus", reason="Ptychodus is not installed here; it has an environment of its own")


def small_scan(size: int = 32) -> diptych.Scan:
    return diptych.simulate(
        object="blocks",
        size=size,
        patterns=49,
        step=4.0,
        dose=1e6,
        probe_error=0.2,
        seed=1,
        energy_eV=8800,
        distance_m=2.0,
        detector_pixel_m=75e-6,
    )


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A running Ptychodus with diptych registered, without its window."""
    monkeypatch.setenv("HOME", str(tmp_path))
    from diptych.ptycho.plugins.ptychodus.launch import register_all

    register_all(ptychodus)
    from ptychodus.model import ModelCore

    with ModelCore() as core:
        yield core


@pytest.fixture
def files(tmp_path: Path) -> tuple[diptych.Scan, Path, Path]:
    scan = small_scan()
    truth = scan.truth
    assert truth is not None
    start = diptych.Reconstruction(
        diptych.Canvas(np.ones_like(truth.values), truth.origin, scan.pixel_m),
        scan.probe,
        scan.positions,
        geometry=scan.geometry,
        name="start",
    )
    return scan, diptych.save(scan, tmp_path / "scan.npz"), diptych.save(start, tmp_path / "start.h5")


def given(model: Any, scan: Path, product: Path) -> Any:
    """Ptychodus' input of a reconstruction, from our readers."""
    from ptychodus.api.reconstruct import ReconstructInput

    readers = model.plugin_registry
    data = readers.diffraction_file_readers.get_strategy_by_name("diptych").read(scan)
    read = readers.product_file_readers.get_strategy_by_name("diptych").read(product)
    return ReconstructInput(data[0].get_patterns(), data.get_bad_pixels(), read)


def reconstructor(model: Any, name: str) -> Any:
    algorithm = model.processing_core.algorithm_parameter
    algorithm.set_value(name)
    assert algorithm.get_value() == name
    return algorithm.get_current_reconstructor()


def test_every_engine_is_in_the_list_and_the_readers_are_registered_once(model: Any) -> None:
    from diptych.ptycho.engines.base import ENGINES
    from diptych.ptycho.plugins.ptychodus.launch import register_all

    register_all(ptychodus)
    names = list(model.processing_core.processing_api.available_reconstructors())
    engines = [f"diptych_{engine.name}" for engine in ENGINES.entries() if engine.build is not None]
    assert [name for name in names if name.startswith("diptych_")] == [*engines, "diptych_network"]
    readers = [each.simple_name for each in model.plugin_registry.diffraction_file_readers]
    assert readers.count("diptych") == 1


def test_a_scan_is_reconstructed_headless_with_intermediate_results(model: Any, files: Any, tmp_path: Path) -> None:
    from ptychodus.api.io import save_product

    scan, patterns, product = files
    engine = reconstructor(model, "diptych_rpie")
    model.settings_registry["Diptych"].parameters()["Epochs"].set_value("12")
    steps = list(engine.reconstruct(given(model, patterns, product)))
    assert [step.progress for step in steps] == [5, 10, 12]
    assert engine.get_progress_goal() == 12
    assert [loss.epoch for loss in steps[-1].product.losses] == list(range(1, 13))
    assert steps[-1].product.losses[-1].value < steps[-1].product.losses[0].value
    save_product(tmp_path / "out.h5", steps[-1].product)
    result = diptych.load(tmp_path / "out.h5")
    assert isinstance(result, diptych.Reconstruction)
    np.testing.assert_allclose(result.positions, scan.positions, atol=1e-9)
    direct = diptych.reconstruct(scan, engine="rpie", epochs=12)
    np.testing.assert_allclose(result.object.values, direct.object.values, atol=2e-2)


def test_the_whole_way_through_its_own_interface(model: Any, files: Any, tmp_path: Path) -> None:
    _, patterns, product = files
    api = model.workflow_api
    data = api.load_diffraction_data(patterns, file_type="diptych", block=True)
    item = api.load_product(product, file_type="diptych", diffraction=data)
    model.settings_registry["Diptych"].parameters()["Epochs"].set_value("5")
    done = item.reconstruct_local(algorithm="diptych_auto", output_product_file=tmp_path / "out.h5", block=True)
    assert len(done.get_product().losses) == 5
    assert sorted(path.name for path in tmp_path.glob("out.*.h5")) == ["out.000005.h5"]


def test_stop_ends_the_work_and_its_thread(model: Any, files: Any) -> None:
    _, patterns, product = files
    engine = reconstructor(model, "diptych_epie")
    steps = engine.reconstruct(given(model, patterns, product))
    assert next(steps).progress == 5
    steps.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "diptych"]


@pytest.mark.parametrize("size", [32, 33])
def test_a_product_comes_back_as_it_was(size: int) -> None:
    from ptychodus.api.reconstruct import ReconstructInput

    from diptych.ptycho.plugins.ptychodus.products import product_of, scan_of

    scan = small_scan(size)
    truth, base = scan.truth, _without_object(scan)
    assert truth is not None
    assert scan.pixel_m is not None
    read, translation = scan_of(ReconstructInput(scan.counts, np.zeros((size, size), bool), base))
    assert read.probe is not None
    made = product_of(base, translation, truth, read.probe, None, [])
    # Ptychodus' own window of each position holds what diptych's does.
    geometry, probe = made.object_.get_geometry(), made.probes.get_geometry()
    for place, position in zip(made.probe_positions, scan.positions, strict=True):
        point = geometry.map_coordinates_probe_to_object(place)
        bounds = probe.resolve_patch_bounds(point.x_px + 1e-6, point.y_px + 1e-6)
        corner = np.floor(position + 1e-6) - size // 2 - truth.origin
        assert (bounds.y_slice.start, bounds.x_slice.start) == tuple(corner.astype(int))
    again, _ = scan_of(ReconstructInput(scan.counts, np.zeros((size, size), bool), made))
    np.testing.assert_allclose(again.positions, read.positions, atol=1e-9)
    assert again.truth is not None
    np.testing.assert_array_equal(again.truth.values, truth.values)
    assert again.geometry is not None
    np.testing.assert_allclose(again.geometry.object_pixel_m(size), scan.pixel_m)


def _without_object(scan: diptych.Scan) -> Any:
    from ptychodus.api.geometry import PixelGeometry
    from ptychodus.api.object import Object
    from ptychodus.api.probe import ProbeSequence
    from ptychodus.api.probe_positions import ProbePosition, ProbePositionSequence
    from ptychodus.api.product import Product, ProductMetadata

    assert scan.pixel_m is not None
    assert scan.probe is not None
    y, x = scan.pixel_m
    metadata = ProductMetadata("scan", "", 2.0, 8800.0, 0.0, 0.0, 0.0, 0.0)
    probes = ProbeSequence(scan.probe[None], None, PixelGeometry(width_m=x, height_m=y))
    places = [ProbePosition(i, px * x, py * y) for i, (py, px) in enumerate(scan.positions)]
    return Product(metadata, ProbePositionSequence(places), probes, Object(None, None, None), [])


def test_a_near_field_is_refused(model: Any, files: Any) -> None:
    _, patterns, product = files
    parameters = given(model, patterns, product)
    near = dataclasses.replace(parameters.product.metadata, far_field=False)
    parameters = dataclasses.replace(parameters, product=dataclasses.replace(parameters.product, metadata=near))
    with pytest.raises(diptych.InputError, match="near-field"):
        next(reconstructor(model, "diptych_rpie").reconstruct(parameters))


def test_a_network_is_trained_saved_loaded_and_used(model: Any, files: Any, tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    _, patterns, product = files
    network = reconstructor(model, "diptych_network")
    training = model.settings_registry["DiptychTraining"].parameters()
    training["Epochs"].set_value(1)
    parameters = given(model, patterns, product)
    folder = tmp_path / "training"
    folder.mkdir()
    network.export_training_data(folder / "one.npz", parameters)
    losses = list(network.train(folder, tmp_path / "model.safetensors"))[-1].training_loss
    assert losses
    assert network.is_model_loaded()
    network.save_model(tmp_path / "copy.safetensors")
    network.load_model_from_file(tmp_path / "copy.safetensors")
    image = list(network.reconstruct(parameters))[-1].product.object_.get_array()
    assert image.ndim == 3
    assert np.isfinite(image).all()
