"""The jobs page: what runs, what ran, with logs; runs are renamed, exported and deleted."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from nicegui import run, ui

from diptych.errors import DiptychError
from diptych.studio.components.dialogs import ask_name, ask_twice
from diptych.studio.components.downloads import send
from diptych.studio.components.frame import page_frame
from diptych.studio.components.logs import show_log
from diptych.studio.context import Studio
from diptych.studio.state.jobs import Line, delete, export, lines, rename

SHOWN = 100
SHOWING = ("reconstruct", "train", "compare")
"""Commands whose runs have a page that shows them."""


def register(studio: Studio) -> None:
    """Declare ``/jobs``."""

    @ui.page("/jobs")
    def jobs(run: str = "") -> None:
        with page_frame(studio, "Jobs", "/jobs"):
            JobList(studio, run)


class JobList:
    """The list, drawn anew when something changed.

    Parameters
    ----------
    studio : Studio
        Jobs and data folders.
    chosen : str
        A run that is listed first; empty for none.
    """

    def __init__(self, studio: Studio, chosen: str = "") -> None:
        self.studio = studio
        self.chosen: Path | None = None
        self._shown: list[Line] = []
        self.message = ui.label().props("role=alert").classes("text-negative")
        if chosen:
            try:
                self.chosen = studio.folders.resolve(chosen)
            except DiptychError as error:
                self.message.set_text(str(error))
        self.empty = ui.label("No job yet. Reconstruct a scan or train a network: it appears here, with its log.")
        self.box = ui.column().classes("w-full gap-2")
        self.progress: dict[str, ui.label] = {}
        ui.timer(0.05, self.watch, once=True)
        ui.timer(1.0, self.watch)

    async def watch(self) -> None:
        """Draw what has changed; folders are read in a thread."""
        found = await run.io_bound(lines, self.studio)
        if found is None:  # The server is stopping.
            return
        found.sort(key=lambda line: line.folder is None or line.folder != self.chosen)
        if found != self._shown:
            self._shown = found
            self.box.clear()
            self.progress.clear()
            with self.box:
                for line in found[:SHOWN]:
                    self._draw(line)
        self.empty.set_visibility(not found)
        for line in found:
            if line.job is not None and line.job.id in self.progress and line.job.progress is not None:
                report = line.job.progress
                self.progress[line.job.id].set_text(f"{report.stage}: {report.done} of {report.total or '?'}")

    def _draw(self, line: Line) -> None:
        with ui.card().classes("w-full").props("flat bordered"):
            with ui.row().classes("w-full items-center gap-3"):
                ui.label(line.state).classes("font-medium w-24")
                ui.label(line.title).classes("grow basis-[200px]")
                ui.label(f"{line.command} {line.started}").classes("text-sm opacity-75")
                if line.job is not None and line.state in ("queued", "running"):
                    self.progress[line.job.id] = ui.label().props("role=status").classes("text-sm")
                    ui.button("Stop", on_click=line.job.cancel).props("outline dense no-caps")
            if line.error:
                ui.label(line.error).classes("text-negative whitespace-pre-wrap")
            if line.folder is None:
                return
            ui.label(self.studio.folders.shown(line.folder)).classes("font-mono text-sm break-all")
            with ui.row().classes("gap-2"):
                folder = line.folder
                if line.command in SHOWING:
                    target = f"/{line.command}?run={quote(str(folder))}"
                    ui.button("Show", on_click=lambda: ui.navigate.to(target)).props("flat dense no-caps")
                ui.button("Log", on_click=lambda: show_log(folder)).props("flat dense no-caps")
                if line.state not in ("queued", "running"):
                    ui.button("Rename", on_click=lambda: self._rename(folder)).props("flat dense no-caps")
                    ui.button("Export", on_click=lambda: self._export(folder)).props("flat dense no-caps")
                    ui.button("Delete", on_click=lambda: self._delete(folder)).props("flat dense no-caps")

    async def _rename(self, folder: Path) -> None:
        name = await ask_name(folder.name)
        if name is not None:
            await self._do(rename, folder, name)

    async def _delete(self, folder: Path) -> None:
        question = f"Delete the run {folder.name}, with its result and log? It cannot be undone."
        if await ask_twice(question, folder.name):
            await self._do(delete, folder)

    async def _export(self, folder: Path) -> None:
        try:
            await send(self.studio, f"{folder.name}.zip", lambda path: export(self.studio, folder, path))
        except (DiptychError, OSError) as error:
            self.message.set_text(str(error))

    async def _do(self, action: Any, *arguments: Any) -> None:
        try:
            await run.io_bound(action, self.studio, *arguments)
            self.message.set_text("")
        except DiptychError as error:
            self.message.set_text(str(error))
        await self.watch()
