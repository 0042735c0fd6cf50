"""The result: viewer, resolution, flags, downloads, and how to make it again."""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from nicegui import run, ui

from diptych.errors import DiptychError
from diptych.ptycho.evaluate.limit.options import BoundOptions
from diptych.ptycho.repeat import command_line, python
from diptych.runtime.jobs.records import read_record
from diptych.studio.components.downloads import send
from diptych.studio.components.forms import options_form
from diptych.studio.components.frame import heading
from diptych.studio.components.viewer.element import ImageViewer
from diptych.studio.components.viewer.images import slice_of_file
from diptych.studio.state.reconstruct.export import KINDS, export, positions_figure, probe_pictures, slices_of
from diptych.studio.state.reconstruct.page import ReconstructPage

if TYPE_CHECKING:
    from diptych.runtime.jobs import Job

ALT = {
    "Two halves": "Fourier ring correlation of two halves of the data",
    "Photon limit": "Least standard errors of amplitude and phase, and the spectrum of the errors",
}


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
        self.limit: ui.column | None = None
        self.viewer: ImageViewer | None = None
        self._stages: dict[str, str] = {}

    def watch(self) -> None:
        """Show the result once it is there, and how the resolution goes."""
        result = self.state.result
        key = (result, result.stat().st_mtime_ns if result is not None and result.is_file() else 0)
        if key != self._shown:
            self._shown, self._stages = key, {}
            self.box.clear()
            if result is not None:
                with self.box:
                    self._draw(result)
        self._watch("Two halves", self.state.frc, self.resolution)
        self._watch("Photon limit", self.state.limit, self.limit)

    def _draw(self, result: Path) -> None:
        state = self.state
        heading("Result")
        ui.label(state.studio.folders.shown(result)).classes("font-mono text-sm break-all")
        for flag in (state.job.result or {}).get("flags", []) if state.job is not None else []:
            with ui.row().classes("items-center gap-2"):
                ui.icon("flag").classes("text-amber-700").props('aria-hidden="true"')
                ui.label(flag)
        self.choice = ui.row().classes("items-center gap-2")
        self.viewer = None
        try:
            self.viewer = ImageViewer(state.studio.images.add_file(result), title=result.parent.name)
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
            ui.button("Resolution from two halves", on_click=lambda: self._begin(state.start_resolution)).props(
                "outline dense no-caps"
            )
            self.message = ui.label().props("role=alert").classes("text-negative")
        self.resolution = ui.column().classes("w-full")
        self.more = ui.row().classes("w-full gap-4 items-start")
        ui.timer(0.05, lambda: self._draw_more(result), once=True)
        with ui.expansion("Photon limit: the least error that the photons allow", icon="opacity").classes("w-full"):
            options_form(BoundOptions, state.limit_values)
            ui.button("Compute the photon limit", on_click=lambda: self._begin(state.start_limit)).props(
                "outline no-caps"
            )
            self.limit = ui.column().classes("w-full")
        record = read_record(result.parent)
        if record is not None and record.arguments.get("file"):
            with ui.expansion("The same from the command line or Python", icon="terminal").classes("w-full"):
                ui.code(command_line(record.arguments), language="bash").classes("w-full")
                ui.code(python(record.arguments), language="python").classes("w-full")

    async def _download(self, result: Path, kind: str) -> None:
        try:
            name = f"{result.parent.name}.{kind}"
            await send(self.state.studio, name, lambda path: export(result, kind, path))
        except (DiptychError, OSError) as error:
            self.message.set_text(str(error))

    def _begin(self, start: Callable[[], Job]) -> None:
        try:
            start()
            self.message.set_text("")
        except DiptychError as error:
            self.message.set_text(str(error))

    def _watch(self, name: str, job: Job | None, box: ui.column | None) -> None:
        """Show how a job about the result goes, and the figure that it made."""
        if box is None or job is None:
            return
        stage = f"{job.id} {job.state} {job.progress.done if job.progress else ''}"
        if stage == self._stages.get(name):
            return
        self._stages[name] = stage
        box.clear()
        with box:
            if job.state in ("queued", "running"):
                report = job.progress
                ui.label(f"{name}: waiting." if report is None else f"{name}: {report.stage} {report.done}")
            elif job.result is None:
                ui.label(f"{name}: no result: {job.error or job.state}").props("role=alert")
            else:
                if said := job.result.get("statement"):
                    ui.label(said).classes("whitespace-pre-wrap")
                figure = Path(job.result["figure"])
                if figure.is_file():
                    ui.image(figure).classes("w-full max-w-[1000px] bg-white").props(f'alt="{ALT[name]}" fit=contain')

    async def _draw_more(self, result: Path) -> None:
        """The probe, recorded and refined positions where they were refined, and the slices of a thick object."""
        try:
            found = await run.io_bound(lambda: (probe_pictures(result), positions_figure(result), slices_of(result)))
        except (DiptychError, OSError) as error:
            self.message.set_text(str(error))
            return
        if found is None:  # The server is stopping.
            return
        modes, moved, slices = found
        if slices:
            self._offer(result, slices)
        with self.more:
            with ui.column().classes("gap-1"):
                ui.label("Probe (hue: phase)").classes("text-sm")
                with ui.row().classes("gap-2"):
                    for caption, data in modes:
                        with ui.column().classes("gap-0 w-40"):
                            _picture(data, caption)
                            ui.label(caption).classes("text-xs")
            if moved is not None:
                with ui.column().classes("gap-1 grow max-w-[560px]"):
                    ui.label("Recorded and refined positions").classes("text-sm")
                    _picture(moved, "Recorded and refined scan positions")

    def _offer(self, result: Path, slices: list[str]) -> None:
        """A choice among the slices of a thick object and their product."""
        names = ["All: their product", *(name[0].upper() + name[1:] for name in slices)]

        def show(event: Any) -> None:
            images, chosen = self.state.studio.images, int(event.value) - 1
            if self.viewer is None:
                return
            try:
                if chosen < 0:
                    self.viewer.show(images.add_file(result), result.parent.name)
                else:
                    read = partial(slice_of_file, index=chosen)
                    self.viewer.show(images.add_file(result, read, f"|slice {chosen}"))
            except DiptychError as error:
                self.message.set_text(str(error))

        with self.choice:
            shown = ui.select(dict(enumerate(names)), value=0, label="Slice", on_change=show)
            shown.props("outlined dense").classes("w-72")


def _picture(data: bytes, about: str) -> None:
    image = ui.image("data:image/png;base64," + base64.b64encode(data).decode("ascii"))
    image.classes("w-full bg-white").props(f'alt="{about}" fit=contain')
