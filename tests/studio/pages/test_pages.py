"""Pages as a person meets them: empty, with a scan, with hostile names, with a run that failed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import diptych

pytestmark = pytest.mark.integration

Visit = Callable[[Any], None]
RETRIES = 60
MARKUP = "<img src=x onerror=alert(1)>.npz"


def write_scan(path: Path) -> None:
    diptych.save(diptych.simulate(object="blocks", size=16, patterns=36, step=2.0, seed=0), path)


def test_empty_pages_say_what_to_do_next(visit: Visit) -> None:
    async def scenario(user: Any, studio: Any) -> None:
        await user.open("/")
        await user.should_see("Measured star")
        await user.should_see("No run yet.")
        await user.open("/reconstruct")
        await user.should_see("Choose a scan above")
        await user.should_see("No scan in the data folders yet")
        await user.open("/jobs")
        await user.should_see("No job yet.")

    visit(scenario)


def test_a_scan_is_opened_from_the_address_and_from_a_typed_path(visit: Visit, tmp_path: Path) -> None:
    write_scan(tmp_path / "scan.npz")

    async def scenario(user: Any, studio: Any) -> None:
        await user.open("/reconstruct?file=scan.npz")
        await user.should_see("Patterns: 36", retries=RETRIES)
        await user.should_see("Run check")
        await user.should_see("Default options")
        await user.open("/reconstruct?file=" + quote("../outside.npz"))
        await user.should_see("lies outside the data folders", retries=RETRIES)

    visit(scenario)


def test_markup_in_file_names_is_shown_as_text(visit: Visit, tmp_path: Path) -> None:
    from nicegui import ui

    (tmp_path / MARKUP).write_bytes(b"no scan")

    async def scenario(user: Any, studio: Any) -> None:
        await user.open("/")
        await user.should_see(MARKUP, retries=RETRIES)
        await user.open("/reconstruct?file=" + quote(MARKUP))
        await user.should_see("onerror=alert(1)", retries=RETRIES)
        assert not _has(user, ui.html)
        assert not _has(user, ui.markdown)

    visit(scenario)


def _has(user: Any, kind: Any) -> bool:
    return any(isinstance(element, kind) for element in user.client.elements.values())


def test_a_run_that_was_killed_is_listed_with_its_reason(visit: Visit, tmp_path: Path) -> None:
    from diptych.runtime.run_directory import RunDirectory

    record = {"program": "diptych", "command": "reconstruct", "started": "2026-01-01T00:00:00Z"}
    directory = RunDirectory.create(tmp_path / "runs" / "killed", record)
    directory.release()

    async def scenario(user: Any, studio: Any) -> None:
        await user.open("/jobs")
        await user.should_see("the process ended before the run did", retries=RETRIES)
        await user.should_see("failed")
        await user.open("/reconstruct?run=" + quote("runs/killed"))
        await user.should_see("Showing the earlier run", retries=RETRIES)

    visit(scenario)


def test_a_full_disk_is_seen_on_every_page(visit: Visit, monkeypatch: Any) -> None:
    from diptych.studio.state import jobs

    monkeypatch.setattr(jobs, "LOW_BYTES", 10**18)

    async def scenario(user: Any, studio: Any) -> None:
        for address in ("/", "/reconstruct", "/jobs"):
            await user.open(address)
            await user.should_see("are free")

    visit(scenario)
