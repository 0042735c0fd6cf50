"""Before a session is open: the sessions that there are, and how to begin one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nicegui import run, ui

from diptych.errors import DiptychError
from diptych.prefer.decoders.registry import DECODERS
from diptych.prefer.session.answers import counted
from diptych.prefer.session.folder import About, about
from diptych.studio.components.dialogs import ask_name, ask_twice
from diptych.studio.components.downloads import send
from diptych.studio.pages.prefer.fields import Fields, heading
from diptych.studio.state import sessions
from diptych.studio.state.prefer.desks import Desks
from diptych.studio.state.prefer.options import decoder_fields

PROMPT = "a lake at dawn"
LISTED = 30


def start(desks: Desks, *, example: bool = False) -> None:
    """Sessions to continue, an example, which may begin at once, and the form of a new session."""
    if example:
        ui.timer(0.05, partial(_example, desks), once=True)
    ui.label("Judge pictures, Good or Bad; the next ones follow your taste. Every answer is on disk at once.")
    with ui.row().classes("gap-2 items-center"):
        ui.button("Try it now", icon="bolt", on_click=partial(_example, desks))
        ui.label("Pictures of a small built-in generator; nothing is downloaded.")
    Listed(desks)
    heading("New session")
    _form(desks)


def address(desks: Desks, folder: Path) -> str:
    """The address of the page of a session."""
    return f"/prefer?session={quote(desks.studio.folders.link(folder))}"


class Listed:
    """The sessions in the data folders, with what can be done with each.

    Parameters
    ----------
    desks : Desks
    """

    def __init__(self, desks: Desks) -> None:
        self._desks = desks
        heading("Continue a session")
        self._message = ui.label().props("role=alert").classes("text-negative")
        self._box = ui.column().classes("w-full gap-1")
        self._draw()

    def _draw(self) -> None:
        folders = [item.path for item in self._desks.studio.folders.items("session")][:LISTED]
        self._box.clear()
        with self._box:
            if not folders:
                ui.label("No session yet. Try it now, or begin one below.")
            for folder in folders:
                self._line(folder)

    def _line(self, folder: Path) -> None:
        found, desks = _about(folder), self._desks
        with ui.row().classes("items-center gap-x-3 gap-y-0"):
            ui.link(desks.studio.folders.shown(folder), address(desks, folder)).classes("font-medium")
            if isinstance(found, About):
                count = counted(found.rows - found.skips, found.skips)
                ui.label(f"{count}, {found.decoder}, {found.prompt[:60] or 'no prompt'}, {found.last[:16]}")
            else:
                ui.label(found).props("role=alert")
            for text, action in (("Rename", self._rename), ("Export", self._export), ("Delete", self._delete)):
                button = ui.button(text, on_click=partial(action, folder)).props("flat dense no-caps")
                button.props(f'aria-label="{text} {_attribute(folder.name)}"').mark(f"{text.lower()} session")

    async def _rename(self, folder: Path) -> None:
        name = await ask_name(folder.name)
        if name is not None:
            await self._do(sessions.rename, folder, name)

    async def _delete(self, folder: Path) -> None:
        question = f"Delete the session {folder.name}, with all its pictures and judgements? It cannot be undone."
        if await ask_twice(question, folder.name):
            await self._do(sessions.delete, folder)

    async def _export(self, folder: Path) -> None:
        self._message.set_text("")
        try:
            await send(
                self._desks.studio, f"{folder.name}.zip", lambda path: sessions.export(self._desks, folder, path)
            )
        except (DiptychError, OSError) as error:
            self._message.set_text(str(error))

    async def _do(self, action: Callable[..., Any], *arguments: Any) -> None:
        self._message.set_text("")
        try:
            await run.io_bound(action, self._desks, *arguments)
        except (DiptychError, OSError) as error:
            self._message.set_text(str(error))
        self._draw()


def _attribute(text: str) -> str:
    return text.replace('"', "'").replace("\\", "/")


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
