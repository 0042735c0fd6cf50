"""Before a session is open: the sessions that there are, and how to begin one."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nicegui import run, ui

from diptych.errors import DiptychError
from diptych.prefer.decoders.registry import DECODERS
from diptych.prefer.session.folder import About, about
from diptych.studio.pages.prefer.fields import Fields, heading
from diptych.studio.state.prefer.desks import Desks
from diptych.studio.state.prefer.options import decoder_fields

PROMPT = "a lake at dawn"
LISTED = 30


def start(desks: Desks) -> None:
    """Sessions to continue, an example, and the form of a new session."""
    ui.label("Judge pictures, Good or Bad; the next ones follow your taste. Every answer is on disk at once.")
    with ui.row().classes("gap-2 items-center"):
        ui.button("Try it now", icon="bolt", on_click=partial(_example, desks))
        ui.label("Pictures of a small built-in generator; nothing is downloaded.")
    _listed(desks)
    heading("New session")
    _form(desks)


def address(desks: Desks, folder: Path) -> str:
    """The address of the page of a session."""
    return f"/prefer?session={quote(desks.studio.folders.link(folder))}"


def _listed(desks: Desks) -> None:
    folders = [item.path for item in desks.studio.folders.items("session")][:LISTED]
    heading("Continue a session")
    if not folders:
        ui.label("No session yet. Try it now, or begin one below.")
    for folder in folders:
        found = _about(folder)
        with ui.row().classes("items-center gap-3"):
            ui.link(desks.studio.folders.shown(folder), address(desks, folder)).classes("font-medium")
            if isinstance(found, About):
                ui.label(f"{found.rows} rows, {found.decoder}, {found.prompt[:60] or 'no prompt'}, {found.last[:16]}")
            else:
                ui.label(found).props("role=alert")


def _about(folder: Path) -> About | str:
    try:
        return about(folder)
    except DiptychError as error:
        return f"cannot be read: {error}"


async def _example(desks: Desks) -> None:
    await _begin(desks, "example", {"decoder": "synthetic", "prompt": PROMPT}, reuse=True)


def _form(desks: Desks) -> None:
    with ui.card().classes("w-full max-w-3xl"):
        name = ui.input("Name (a folder in the data folder)", value="lake").classes("w-full").mark("session name")
        prompt = ui.textarea("Prompt", value=PROMPT).props("autogrow rows=1").classes("w-full").mark("new prompt")
        negative = ui.input("Negative prompt").classes("w-full")
        kinds = {kind.name: f"{kind.name}: {kind.help}" for kind in DECODERS.entries()}
        decoder = ui.select(kinds, label="Pictures from", value="synthetic").classes("w-full").mark("decoder")
        ui.label(
            "To tune a reconstruction by eye, choose reconstruction and type the path of a scan: each picture shows "
            "amplitude and phase with other settings."
        ).classes("text-sm")
        fields: list[Fields] = []

        @ui.refreshable
        def own() -> None:
            fields[:] = [Fields(decoder_fields(str(decoder.value)))]

        own()
        decoder.on_value_change(lambda: own.refresh())

        async def begin() -> None:
            try:
                values: dict[str, Any] = {"decoder": decoder.value, **fields[0].values()}
            except DiptychError as error:
                ui.notify(str(error), type="negative", multi_line=True)
                return
            if prompt.value.strip() and decoder.value != "reconstruction":
                values["prompt"] = prompt.value.strip()
            if negative.value:
                values["negative_prompt"] = negative.value
            await _begin(desks, name.value or "", {key: value for key, value in values.items() if value is not None})

        ui.button("Begin", on_click=begin).mark("begin")


async def _begin(desks: Desks, name: str, options: dict[str, Any], *, reuse: bool = False) -> None:
    waiting = ui.notification("Opening…", spinner=True, timeout=None)
    try:
        folder = desks.folder(name)
        exists = (folder / "ledger.sqlite").is_file()
        await run.io_bound(partial(desks.open, folder, options, new=not (reuse and exists)))
    except DiptychError as error:
        ui.notify(str(error), type="negative", multi_line=True, timeout=15000)
        return
    finally:
        waiting.dismiss()
    ui.navigate.to(address(desks, folder))
