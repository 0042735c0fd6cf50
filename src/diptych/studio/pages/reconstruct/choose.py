"""Choosing a scan: from the list, by its path, by dropping a file, or one to try."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nicegui import run, ui

from diptych.errors import DiptychError
from diptych.studio.components.uploads import upload_box
from diptych.studio.state.reconstruct.page import ReconstructPage
from diptych.studio.state.uploads import receive

if TYPE_CHECKING:
    from nicegui.events import UploadEventArguments


class Choose:
    """The top of the page.

    Parameters
    ----------
    state : ReconstructPage
        What is chosen, shared by all tabs.
    """

    def __init__(self, state: ReconstructPage) -> None:
        self.state = state
        self._filling, self._shown = False, -1
        with ui.row().classes("w-full items-start gap-4"):
            self.list = ui.select({}, label="Scan", on_change=self._picked).props("outlined dense options-dense")
            self.list.classes("grow min-w-[260px]")
            self.path = ui.input("or a path in the data folders").props("outlined dense").classes("grow min-w-[260px]")
            self.path.on("keydown.enter", self._typed)
            ui.button("Open", on_click=self._typed).props("outline")
            ui.button("Refresh list", on_click=self.fill).props("flat")
        limit = state.studio.options.upload_limit
        with ui.expansion(f"Upload a scan (at most {limit:g} GiB)", icon="upload").classes("w-full"):
            upload_box("or drop it here", self._uploaded, limit * 2**30, refused=self._rejected)
        self.message = ui.label().props("role=alert").classes("text-negative whitespace-pre-wrap")
        self.reading = ui.label().props("role=status")

    def busy(self, text: str) -> None:
        """Say what is being done, or what to do next; nothing where it is over."""
        self.reading.set_text(text)

    async def fill(self) -> None:
        """List the scans in the data folders; files are looked into in a thread."""
        scans = await run.io_bound(self.state.scans)
        if scans is None:  # The server is stopping.
            return
        look = self.state.look
        if look is not None:
            scans.setdefault(str(look.path), self.state.studio.folders.shown(look.path))
        self._filling = True
        self.list.set_options(scans, value=None if look is None else str(look.path))
        self._filling = False
        if not scans and not self.message.text:
            self.busy("No scan in the data folders yet: upload one, or simulate one on the Home page.")

    def watch(self) -> None:
        """Show what another tab has opened."""
        if self._shown == self.state.revision or self.state.look is None:
            return
        self._shown = self.state.revision
        path = str(self.state.look.path)
        self._filling = True
        if path not in self.list.options:
            self.list.set_options({**dict(self.list.options), path: self.state.studio.folders.shown(Path(path))})
        self.list.set_value(path)
        self._filling = False

    async def _picked(self, event: Any) -> None:
        if not self._filling and event.value:
            await self._open(str(event.value))

    async def _typed(self) -> None:
        if self.path.value:
            await self._open(str(self.path.value))

    async def _open(self, path: str) -> None:
        self.message.set_text("")
        self.busy(f"Reading {Path(path).name} ...")
        try:
            await run.io_bound(self.state.open, path)
        except DiptychError as error:
            self.message.set_text(str(error))
        self.busy("")

    async def _uploaded(self, event: UploadEventArguments) -> None:
        try:
            path = await receive(self.state.studio, event.file)
        except DiptychError as error:
            self.message.set_text(str(error))
            return
        await self._open(str(path))
        await self.fill()

    def _rejected(self) -> None:
        self.message.set_text(
            f"The file is larger than {self.state.studio.options.upload_limit:g} GiB. Copy it into a data folder, or "
            "start studio with a larger --upload-limit."
        )
