"""The page of one session: the pictures, the modes, and the side panel."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from nicegui import context, run, ui

from diptych.errors import DiptychError
from diptych.studio.components.stage import Stage
from diptych.studio.pages.prefer.gallery import Gallery
from diptych.studio.pages.prefer.match import MatchPanel
from diptych.studio.pages.prefer.side import Side
from diptych.studio.pages.prefer.tune import tune_panel
from diptych.studio.pages.prefer.upload import upload_panel
from diptych.studio.state.prefer.desk import Desk
from diptych.studio.state.prefer.desks import Desks
from diptych.studio.state.prefer.keys import ANSWERS, MODES
from diptych.studio.state.prefer.tuning import tunes

OTHERS = {"match": "Match", "gallery": "Gallery"}

TOAST: dict[str, Any] = {"position": "top-right", "group": "prefer", "badgeStyle": "display: none"}
"""One toast at a time, beside the pictures."""


async def room(desks: Desks, folder: Path) -> None:
    """Open the session, and show it. A pipeline may take a minute to load: the page is there before."""
    waiting = ui.row().classes("items-center gap-3")
    with waiting:
        ui.spinner()
        ui.label("Opening the session…").props("role=status")
    if not desks.is_open(folder):
        await context.client.connected()
    try:
        desk = await run.io_bound(desks.open, folder)
    except DiptychError as error:
        ui.label(str(error)).props("role=alert")
        ui.link("All sessions", "/prefer")
        return
    finally:
        waiting.delete()
    if desk is None:  # The server is stopping.
        return
    desk.start()
    Room(desks, folder, desk)


class Room:
    """What one tab shows of a desk; all tabs follow the same desk.

    Parameters
    ----------
    desks : Desks
    folder : Path
    desk : Desk
    """

    def __init__(self, desks: Desks, folder: Path, desk: Desk) -> None:
        self.desks, self.folder, self.desk = desks, folder, desk
        self._client, self._loop = context.client, asyncio.get_running_loop()
        self._pending = False
        session = desk.session
        sphere = session.decoder.space == "sphere"
        modes: dict[str, str] = {name: text for name, text in MODES.items() if sphere or name != "upload"}
        others = {name: text for name, text in OTHERS.items() if sphere or name != "match"}
        self._bar(desks, folder, modes | others)
        with ui.element("div").classes("prefer-columns"):
            with ui.column().classes("w-full gap-2 min-w-0 prefer-pictures"):
                if tunes(session):
                    tune_panel(desks, desk)
                with ui.column().classes("w-full") as self._upload:
                    if sphere:
                        upload_panel(desk)
                self._stage = Stage(desk.view(), self._answer, self._undo, desk.retry, self._renew)
                with ui.row().classes("w-full justify-between gap-x-6 gap-y-0 min-h-[24px]"):
                    self._crumb = ui.label("Nothing saved yet.").classes("text-sm").mark("breadcrumb")
                    self._action = ui.label().classes("text-sm font-medium").props("aria-live=polite")
                    self._action.mark("last action")
                with ui.column().classes("w-full") as self._match:
                    if sphere:
                        MatchPanel(desk, self._choose)
                with ui.column().classes("w-full") as self._gallery_box:
                    self._gallery = Gallery(desks, desk, self._choose)
            self._side = Side(desks, folder, desk)
        self._choose(desk.mode)
        self._client.on_delete(desk.subscribe(self._changed))
        ui.timer(1.0, self._side.refresh)
        self._refresh()

    def _bar(self, desks: Desks, folder: Path, modes: dict[str, str]) -> None:
        desk = self.desk
        with ui.row().classes("items-center gap-3 w-full"):
            ui.link("Sessions", "/prefer")
            ui.label(desks.studio.folders.shown(folder)).classes("font-medium")
            if prompt := desk.session.frame.prompt:
                ui.label(prompt).classes("text-sm italic truncate max-w-[320px]").mark("shown prompt")
            self._modes = (
                ui.toggle(modes, value=desk.mode, on_change=lambda event: self._choose(event.value))
                .props('aria-label="Mode" no-caps')
                .classes("flex-wrap")
                .mark("mode")
            )
            self._answers = (
                ui.toggle(dict(ANSWERS), value=desk.answers, on_change=lambda event: desk.choose(answers=event.value))
                .props('aria-label="Kind of answer" no-caps')
                .mark("answers")
            )
            self._renewing = ui.switch("Refresh on label", value=desk.refresh, on_change=self._set_refresh)
            self._renewing.tooltip("One answer renews the whole batch")
            self._remaining = ui.label().classes("text-sm").mark("queue-left")

    def _set_refresh(self, event: Any) -> None:
        self.desk.refresh = bool(event.value)

    def _choose(self, mode: str) -> None:
        """Show a mode, the match or the gallery."""
        judging = mode in MODES
        if judging and mode != self.desk.mode:
            self.desk.choose(mode=mode)  # type: ignore[arg-type]
        if self._modes.value != mode:
            self._modes.set_value(mode)
        self._stage.set_visibility(judging)
        self._stage.activate(on=judging)
        self._answers.set_visibility(mode in ("batch", "upload"))
        self._renewing.set_visibility(mode == "batch")
        self._upload.set_visibility(mode == "upload")
        self._match.set_visibility(mode == "match")
        self._gallery_box.set_visibility(mode == "gallery")
        if mode == "gallery":
            self._gallery.load_soon()
        self._changed()

    async def _answer(self, message: dict[str, Any]) -> None:
        ack = await asyncio.wrap_future(self.desk.answer(message))
        self._stage.run_method("acknowledge", ack.serial, ack.rows, ack.text, ack.error)
        if ack.rows:
            ui.notify(ack.text, type="positive", timeout=1200, **TOAST)
        elif ack.error:
            ui.notify(ack.text, type="negative", multi_line=True, **TOAST)

    async def _undo(self) -> None:
        ack = await asyncio.wrap_future(self.desk.undo())
        ui.notify(ack.text, type="info" if ack.rows else "warning", **TOAST)

    async def _renew(self) -> None:
        await asyncio.wrap_future(self.desk.renew())

    def _changed(self) -> None:
        """Redraw soon, from any thread; several changes at once are one redraw."""
        if not self._pending:
            self._pending = True
            self._loop.call_soon_threadsafe(self._refresh)

    def _refresh(self) -> None:
        self._pending = False
        desk = self.desk
        view = desk.view()
        with self._client:
            self._stage.show(view)
            if desk.mode == "queue":
                coming = " (decoding…)" if desk.line.coming else ""
                self._remaining.set_text(f"Queue remaining: {desk.line.remaining}{coming}")
            else:
                self._remaining.set_text("decoding…" if desk.line.coming else "")
            self._action.set_text(desk.last_action)
            self._crumb.set_text(desk.breadcrumbs[0] if desk.breadcrumbs else "Nothing saved yet.")
            if self._modes.value in MODES and self._modes.value != desk.mode:
                self._choose(desk.mode)
            if self._answers.value != desk.answers:
                self._answers.set_value(desk.answers)
