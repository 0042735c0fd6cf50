"""Runs and sessions are renamed, exported and deleted in a real browser: asked twice, cancelled, refused."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

import diptych
from diptych.prefer import Judgement, Session
from diptych.runtime.run_directory import RunDirectory
from integration.studio.served import Server

pytestmark = pytest.mark.integration

RECORD = {"program": "diptych", "command": "reconstruct", "started": "2026-01-01T00:00:00Z"}
HOSTILE = ("../up", "a/b", "/tmp/x", ".hidden", "<b>x</b>", "", " ", "x" * 65, "a\\b")


def made_run(folder: Path, *, ended: bool = True) -> RunDirectory:
    directory = RunDirectory.create(folder, RECORD)
    (folder / "log.txt").write_text("the log\n")
    if ended:
        directory.release()
    return directory


def made_session(folder: Path) -> None:
    with Session.open(folder, decoder="synthetic", dimension=256, synchronous=True) as session:
        for candidate in session.ask(2):
            session.tell(Judgement.rate(candidate, good=True))


@pytest.fixture
def place(server: Server, page: Any, request: pytest.FixtureRequest) -> Any:
    """The page and folder of a run or a session called ``first``, beside another one called ``second``."""
    kind = request.param
    for name in ("first", "second"):
        if kind == "run":
            made_run(server.folder / "runs" / name)
        else:
            made_session(server.folder / "runs" / name)
    page.goto(f"{server.start()}/{'jobs' if kind == 'run' else 'prefer'}")
    page.get_by_text("runs/first", exact=True).wait_for()
    return server.folder / "runs"


def button(page: Any, name: str) -> Any:
    """The button of the entry ``first``."""
    entry = page.get_by_text("runs/first", exact=True).locator("xpath=ancestor::*[.//button][1]")
    return entry.get_by_role("button", name=name)


def dialog(page: Any) -> Any:
    found = page.get_by_role("dialog")
    found.wait_for()
    return found


def gone(page: Any) -> None:
    page.get_by_role("dialog").wait_for(state="hidden")
    page.wait_for_timeout(200)


BOTH = pytest.mark.parametrize("place", ["run", "session"], indirect=True)


@BOTH
def test_cancel_and_escape_keep_everything(page: Any, place: Path) -> None:
    for name in ("Rename", "Delete"):
        for leave in ("Cancel", "Escape"):
            button(page, name).click()
            field = dialog(page).get_by_role("textbox")
            field.fill("first" if name == "Delete" else "other")
            if leave == "Escape":
                page.keyboard.press("Escape")
            else:
                dialog(page).get_by_role("button", name="Cancel").click()
            gone(page)
            assert sorted(path.name for path in place.iterdir()) == ["first", "second"]


@BOTH
def test_a_name_is_checked_and_then_taken(page: Any, place: Path) -> None:
    for bad in (*HOSTILE, "second"):
        button(page, "Rename").click()
        dialog(page).get_by_role("textbox").fill(bad)
        dialog(page).get_by_role("button", name="Rename").click()
        gone(page)
        alert = page.get_by_role("alert").filter(has_text="exists already" if bad == "second" else "name")
        alert.first.wait_for()
        assert sorted(path.name for path in place.iterdir()) == ["first", "second"]
        assert sorted(path.name for path in place.parent.iterdir() if not path.name.startswith(".")) == ["runs"]
    button(page, "Rename").click()
    dialog(page).get_by_role("textbox").fill("kept one")
    dialog(page).get_by_role("button", name="Rename").click()
    page.get_by_text("runs/kept one", exact=True).wait_for()
    assert sorted(path.name for path in place.iterdir()) == ["kept one", "second"]


@BOTH
def test_delete_works_once_the_name_is_typed(page: Any, place: Path) -> None:
    button(page, "Delete").click()
    sure = dialog(page).get_by_role("button", name="Delete for good")
    field = dialog(page).get_by_role("textbox")
    for text in ("", "fir", "second", "FIRST"):
        field.fill(text)
        page.wait_for_timeout(200)
        assert sure.is_disabled()
    field.fill("first")
    sure.click()
    page.get_by_text("runs/first", exact=True).wait_for(state="detached")
    assert [path.name for path in place.iterdir()] == ["second"]


@BOTH
def test_export_is_an_archive_of_the_folder(page: Any, place: Path) -> None:
    with page.expect_download() as waiting:
        button(page, "Export").click()
    assert waiting.value.suggested_filename == "first.zip"
    with zipfile.ZipFile(io.BytesIO(waiting.value.path().read_bytes())) as archive:
        assert archive.testzip() is None
        assert all(name.startswith("first/") for name in archive.namelist())
        assert len(archive.namelist()) >= 2


def test_a_run_that_is_under_way_is_neither_renamed_nor_deleted(page: Any, server: Server) -> None:
    from diptych.errors import InputError
    from diptych.studio.context import Studio
    from diptych.studio.options import StudioOptions
    from diptych.studio.state import jobs

    diptych.save(diptych.simulate(object="blocks", size=16, patterns=36, step=2.0, seed=0), server.folder / "scan.npz")
    page.goto(f"{server.start()}/reconstruct?file=scan.npz")
    page.get_by_text("Photons per pattern:").wait_for()
    page.get_by_text("All options", exact=True).click()
    page.get_by_label("epochs", exact=True).fill("100000")
    page.keyboard.press("Tab")
    page.get_by_role("switch", name="stop", exact=True).click()
    page.get_by_text("Set: epochs 100000, stop False").wait_for()
    page.get_by_role("button", name="Reconstruct", exact=True).click()
    page.locator('img[alt="Phase so far"]').wait_for(timeout=120_000)
    page.goto(f"{server.address}/jobs")
    page.get_by_role("button", name="Stop").wait_for()
    assert page.get_by_role("button", name="Delete").count() == page.get_by_role("button", name="Rename").count() == 0
    studio = Studio(StudioOptions(data=(server.folder,)))
    run = server.folder / "runs" / "scan-1"
    for act in (lambda: jobs.delete(studio, run), lambda: jobs.rename(studio, run, "other")):
        with pytest.raises(InputError, match="under way"):
            act()
    studio.close()
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Delete").wait_for(timeout=60_000)
