"""The result: viewer, resolution, flags, downloads, and how to make it again."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from nicegui import run, ui

from diptych.errors import DiptychError
from diptych.ptycho.repeat import command_line, python
from diptych.runtime.jobs.records import read_record
from diptych.studio.components.frame import heading
from diptych.studio.components.viewer.element import ImageViewer
from diptych.studio.state.reconstruct.export import KINDS, export
from diptych.studio.state.reconstruct.page import ReconstructPage


class Outcome:
    """The part of the page about the result.

    Parameters
    ----------
    state : ReconstructPage
        The run, shared by all tabs.
    """

    def __init__(self, state: ReconstructPage) -> None:
        self.state = state
        self._shown: tuple[object, ...] = ()
        self.box = ui.column().classes("w-full gap-4")
        self.resolution: ui.column | None = None
        self._frc = ""

    def watch(self) -> None:
        """Show the result once it is there, and how the resolution goes."""
        result = self.state.result
        key = (result, result.stat().st_mtime_ns if result is not None and result.is_file() else 0)
        if key != self._shown:
            self._shown, self._frc = key, ""
            self.box.clear()
            if result is not None:
                with self.box:
                    self._draw(result)
        self._watch_resolution()

    def _draw(self, result: Path) -> None:
        state = self.state
        heading("Result")
        ui.label(state.studio.folders.shown(result)).classes("font-mono text-sm break-all")
        for flag in (state.job.result or {}).get("flags", []) if state.job is not None else []:
            with ui.row().classes("items-center gap-2"):
                ui.icon("flag").classes("text-amber-700").props('aria-hidden="true"')
                ui.label(flag)
        try:
            ImageViewer(state.studio.images.add_file(result), title=result.parent.name)
        except DiptychError as error:
            ui.label(str(error)).props("role=alert").classes("text-negative")
        with ui.row().classes("gap-2 items-center"):
            for kind in KINDS:
                name = "report (HTML)" if kind == "html" else kind.upper()
                ui.button(f"Download {name}", on_click=lambda _, k=kind: self._download(result, k)).props(
                    "outline dense no-caps"
                )
            ui.button("Open in Compare", on_click=lambda: ui.navigate.to(f"/compare?file={quote(str(result))}")).props(
                "outline dense no-caps"
            )
            ui.button("Resolution from two halves", on_click=self._resolution).props("outline dense no-caps")
            self.message = ui.label().props("role=alert").classes("text-negative")
        self.resolution = ui.column().classes("w-full")
        record = read_record(result.parent)
        if record is not None and record.arguments.get("file"):
            with ui.expansion("The same from the command line or Python", icon="terminal").classes("w-full"):
                ui.code(command_line(record.arguments), language="bash").classes("w-full")
                ui.code(python(record.arguments), language="python").classes("w-full")

    async def _download(self, result: Path, kind: str) -> None:
        try:
            data = await run.io_bound(export, result, kind)
        except (DiptychError, OSError) as error:
            self.message.set_text(str(error))
            return
        if data is not None:  # None: the server is stopping.
            ui.download.content(data, f"{result.parent.name}.{kind}")

    def _resolution(self) -> None:
        try:
            self.state.start_resolution()
            self.message.set_text("")
        except DiptychError as error:
            self.message.set_text(str(error))

    def _watch_resolution(self) -> None:
        job = self.state.frc
        if self.resolution is None or job is None:
            return
        stage = f"{job.id} {job.state} {job.progress.done if job.progress else ''}"
        if stage == self._frc:
            return
        self._frc = stage
        self.resolution.clear()
        with self.resolution:
            if job.state in ("queued", "running"):
                report = job.progress
                ui.label("Two halves: waiting." if report is None else f"Two halves: {report.stage} {report.done}")
            elif job.result is None:
                ui.label(f"No resolution: {job.error or job.state}").props("role=alert")
            else:
                figure = Path(job.result["figure"])
                if figure.is_file():
                    ui.image(figure).classes("w-full max-w-[720px] bg-white").props(
                        'alt="Fourier ring correlation of two halves of the data" fit=contain'
                    )
