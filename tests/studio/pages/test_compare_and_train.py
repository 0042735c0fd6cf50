"""The pages through NiceGUI's simulated user, and the addresses of the viewer."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import diptych
from diptych.ptycho.scan import Canvas, Reconstruction

pytest.importorskip("nicegui")

from nicegui.testing import User

from diptych.studio.components.viewer.element import ImageViewer
from diptych.studio.components.viewer.routes import BASE
from diptych.studio.context import Studio
from diptych.studio.options import StudioOptions
from studio.simulation import seen, visit

pytestmark = pytest.mark.integration


def made(turn: float) -> Reconstruction:
    rng = np.random.default_rng(0)
    values = np.kron(rng.uniform(0.5, 1.5, (10, 10)), np.ones((8, 8))) * np.exp(1j * turn)
    positions = np.stack(np.meshgrid(np.arange(16.0, 64, 8), np.arange(16.0, 64, 8)), -1).reshape(-1, 2)
    light = np.full(values.shape, 9, np.float32)
    canvas = Canvas(values.astype(np.complex64), origin=(-10, 5))
    return Reconstruction(canvas, np.ones((1, 16, 16), np.complex64), positions, illumination=light)


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    diptych.save(made(0.0), tmp_path / "one.h5")
    diptych.save(made(0.5), tmp_path / "two.h5")
    return Studio(StudioOptions(data=(tmp_path,)))


def register(studio: Studio) -> None:
    from diptych.studio.components.viewer.routes import register as register_viewer
    from diptych.studio.pages import compare, train

    register_viewer(studio.images)
    compare.register(studio)
    train.register(studio)


def test_results_are_shown_and_compared(studio: Studio) -> None:
    async def scenario(user: User, _: Studio) -> None:
        await user.open("/compare?file=one.h5&file=two.h5")
        await user.should_see("Run engines or networks on a scan")
        assert len(user.find(ImageViewer).elements) == 2
        await seen(user, "Refresh lists")
        await asyncio.sleep(0.7)
        user.find(marker="start").click()
        await seen(user, "Ring correlation")
        await seen(user, "Reference: one.")
        user.find("Metrics").click()
        await seen(user, "Gauge of two")
        user.find(marker="download-metrics").click()
        assert b"complex_error" in (await user.download.next()).content
        user.find("Ring correlation").click()
        await asyncio.sleep(0.3)
        user.find(marker="download-curves").click()
        assert (await user.download.next()).content.startswith(b"model,frequency,correlation")

    visit(studio, scenario, register)


def test_nothing_chosen_says_what_to_do(studio: Studio) -> None:
    async def scenario(user: User, _: Studio) -> None:
        await user.open("/compare")
        await seen(user, "Choose results above")
        await seen(user, "Choose at least two results")

    visit(studio, scenario, register)


def test_a_path_outside_is_refused_and_markup_is_text(studio: Studio) -> None:
    async def scenario(user: User, _: Studio) -> None:
        await user.open("/compare?file=../../etc/passwd")
        await user.should_see("lies outside the data folders")
        await user.open("/compare?file=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E.h5")
        await user.should_see("there is no such file")
        assert not user.find("there is no such file").elements.pop().props.get("innerHTML")

    visit(studio, scenario, register)


def test_empty_folder_on_the_train_page(studio: Studio) -> None:
    async def scenario(user: User, _: Studio) -> None:
        await user.open("/train")
        await seen(user, "No scan in the data folders yet")
        await user.should_see("losses and a validation group appear here")
        user.find(marker="option epochs").clear().type("many").trigger("change")
        await seen(user, "a whole number")

    visit(studio, scenario, register)


def test_addresses_of_the_viewer(studio: Studio, tmp_path: Path) -> None:
    async def scenario(user: User, _: Studio) -> None:
        key = studio.images.add_file(tmp_path / "one.h5")
        about = (await user.http_client.get(f"{BASE}/{key}/about")).json()
        assert about["extent"] == [-10, 70, 5, 85]
        query = "quantity=amplitude&y0=-10&y1=30&x0=5&x1=85&height=40&width=80"
        answer = await user.http_client.get(f"{BASE}/{key}/picture?{query}")
        assert answer.status_code == 200
        assert answer.headers["x-box"] == "-10,30,5,85"
        assert Image.open(io.BytesIO(answer.content)).size == (80, 40)
        values = (await user.http_client.get(f"{BASE}/{key}/values?y=-9.5&x=6")).json()
        assert (values["y"], values["x"], values["inside"]) == (-10, 6, True)
        line = await user.http_client.get(f"{BASE}/{key}/profile?quantity=phase&y0=0&x0=10&y1=0&x1=20")
        assert len(line.json()["value"]) == 11
        details = (await user.http_client.get(f"{BASE}/{key}/quantity?quantity=phase")).json()
        assert details["map"] in details["maps"]
        for wrong, status in (
            (f"{BASE}/nothing/about", 404),
            (f"{BASE}/..%2F..%2Fetc%2Fpasswd/about", 404),
            (f"{BASE}/{key}/quantity?quantity=%3Cscript%3E", 422),
            (f"{BASE}/{key}/picture?{query}&colours=jet", 422),
            (f"{BASE}/{key}/picture?{query}&low=nan&high=1", 422),
            (f"{BASE}/{key}/picture?quantity=amplitude&y0=1&y1=inf&x0=0&x1=1&height=1&width=1", 422),
            (f"{BASE}/{key}/values?y=nan&x=0", 422),
        ):
            refused = await user.http_client.get(wrong)
            assert refused.status_code == status, wrong
            if key in wrong:
                assert refused.headers["content-type"] == "application/json"
        outside = query.replace("y0=-10&y1=30", "y0=500&y1=600")
        assert (await user.http_client.get(f"{BASE}/{key}/picture?{outside}")).status_code == 204

    visit(studio, scenario, register)
