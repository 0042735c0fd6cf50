"""The hinge in a real browser: settings of a reconstruction are judged by eye, saved, and applied."""

from __future__ import annotations

from typing import Any

import pytest

import diptych
from diptych.prefer import Ledger
from diptych.runtime.options import read_yaml
from integration.studio.served import Server

pytestmark = pytest.mark.integration


def test_settings_are_judged_saved_and_applied(page: Any, server: Server) -> None:
    scan = diptych.simulate(object="blocks", size=16, patterns=25, step=3.0, dose=1e4, seed=0)
    diptych.save(scan, server.folder / "scan.npz")
    page.goto(f"{server.start()}/reconstruct?file=scan.npz")
    page.get_by_text("Photons per pattern:").wait_for()
    page.get_by_role("button", name="Tune by eye").click()
    page.wait_for_url("**/prefer?session=tune-scan", timeout=60_000)
    page.wait_for_selector(".stage-tile img", timeout=180_000)
    page.get_by_role("button", name="Save the winner as YAML").click()
    page.get_by_text("no best image yet").wait_for()
    assert "epochs 100" in page.locator(".stage-tile figcaption").first.inner_text()
    page.get_by_role("button", name="Best of", exact=True).click()
    page.keyboard.press("2")
    page.wait_for_function("() => Number(document.querySelector('.stage').dataset.rows) === 1", timeout=60_000)
    config = server.folder / "tune-scan" / "tuned.yaml"
    page.get_by_role("button", name="Save the winner as YAML").click()
    page.get_by_text("# tune-scan/tuned.yaml").wait_for(timeout=60_000)
    settings = read_yaml(config)
    assert {"epochs", "likelihood"} <= set(settings)
    with Ledger.open(server.folder / "tune-scan", read_only=True) as ledger:
        assert [one.judgement.kind for one in ledger.judgements()] == ["best"]
    page.get_by_role("button", name="Reconstruct with the winner").click()
    page.wait_for_url("**/reconstruct?file=**", timeout=60_000)
    page.get_by_text(f"epochs {settings['epochs']}").first.wait_for()
    page.get_by_role("button", name="Reconstruct", exact=True).click()
    page.get_by_text("Done after").wait_for(timeout=180_000)
    history = diptych.load(server.folder / "runs" / "scan-1" / "result.h5").history
    assert 1 <= len(history["fit"]) <= settings["epochs"]
    # The same again leads to the same session.
    page.get_by_role("button", name="Tune by eye").click()
    page.wait_for_url("**/prefer?session=tune-scan", timeout=60_000)
