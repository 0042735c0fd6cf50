"""What the Reconstruct page does with a file: prepare, convert, check; the photon limit; and what a result shows."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import diptych
from diptych.errors import InputError
from diptych.studio.components.viewer.images import image_of_file
from diptych.studio.context import Studio
from diptych.studio.options import StudioOptions
from diptych.studio.state.reconstruct import actions
from diptych.studio.state.reconstruct.export import positions_figure
from diptych.studio.state.reconstruct.look import Look
from diptych.studio.state.reconstruct.page import ReconstructPage


@pytest.fixture
def page(tmp_path: Path) -> Iterator[ReconstructPage]:
    scan = diptych.simulate(object="blocks", size=16, patterns=36, step=2.0, seed=0)
    diptych.save(scan, tmp_path / "scan.npz")
    studio = Studio(StudioOptions(data=(tmp_path,)))
    found = ReconstructPage(studio)
    found.open("scan.npz")
    yield found
    studio.close()


def look_of(page: ReconstructPage) -> Look:
    assert page.look is not None
    return page.look


def test_a_prepared_scan_is_a_new_file(page: ReconstructPage) -> None:
    path, steps = actions.prepare(page.studio, look_of(page), {"frames": "0-24", "crop": 8}, "small.npz")
    scan = diptych.load(path)
    assert (len(scan), scan.size) == (25, 8)
    assert len(steps) == 2
    with pytest.raises(InputError, match="exists already"):
        actions.prepare(page.studio, look_of(page), {}, "small.npz")
    with pytest.raises(InputError, match="outside the data folders"):
        actions.prepare(page.studio, look_of(page), {"dark": "/etc/passwd"}, "other.npz")


@pytest.mark.parametrize("name", ["", "../x.npz", "/tmp/x.npz", "x.exe", "nowhere/x.npz", "x\0.npz"])
def test_a_new_file_lies_in_a_data_folder_and_has_a_known_suffix(page: ReconstructPage, name: str) -> None:
    for act in (
        lambda: actions.prepare(page.studio, look_of(page), {}, name),
        lambda: actions.convert(page.studio, look_of(page), {}, name),
    ):
        with pytest.raises(InputError):
            act()


def test_a_scan_is_converted_and_the_new_file_checked(page: ReconstructPage) -> None:
    path, lost = actions.convert(page.studio, look_of(page), {"orientation": 1}, "turned.cxi")
    assert lost
    turned = diptych.load(path)
    np.testing.assert_array_equal(turned.counts, diptych.load(look_of(page).path, orientation=1).counts)
    sentence, lines = actions.validate(page.open("turned.cxi"), "nxptycho")
    assert "deviates" in sentence
    assert lines
    page.open("scan.npz")
    with pytest.raises(InputError):
        actions.validate(look_of(page), "cxi")


def test_refined_positions_and_error_maps_are_shown_where_there_are_any(page: ReconstructPage, tmp_path: Path) -> None:
    result = diptych.reconstruct(look_of(page).scan, engine="rpie", epochs=2, stop=False)
    diptych.save(result, tmp_path / "plain.h5")
    assert positions_figure(tmp_path / "plain.h5") is None
    assert "phase_error" not in image_of_file(tmp_path / "plain.h5").quantities
    errors = np.ones(result.object.shape, np.float32)
    known = dataclasses.replace(
        result, recorded_positions=result.positions + 0.3, error=errors, amplitude_error=errors, phase_error=errors
    )
    diptych.save(known, tmp_path / "known.h5")
    data = positions_figure(tmp_path / "known.h5")
    assert data is not None
    assert Image.open(io.BytesIO(data)).format == "PNG"
    quantities = image_of_file(tmp_path / "known.h5").quantities
    assert [quantities[name].unit for name in ("amplitude_error", "phase_error")] == ["", "rad"]
    assert "error" in quantities


@pytest.mark.integration
def test_the_photon_limit_of_a_result(page: ReconstructPage) -> None:
    with pytest.raises(InputError, match="no result"):
        page.start_limit()
    page.values = {"epochs": 5, "engine": "rpie", "stop": False}
    assert page.start().wait(120)
    page.watch()
    page.limit_values = {"map_accuracy": 0.5}
    job = page.start_limit()
    assert job.wait(240)
    assert job.state == "done", job.error
    assert job.result is not None
    assert "photons" in job.result["statement"]
    assert Path(job.result["figure"]).is_file()
    assert (Path(job.result["figure"]).with_name("limit.json")).is_file()
