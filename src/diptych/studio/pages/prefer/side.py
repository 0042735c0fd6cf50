"""The side panel: readouts that follow the session once a second, and settings."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from nicegui import run, ui

from diptych.errors import DiptychError
from diptych.studio.components.downloads import send
from diptych.studio.components.sliders import Slider
from diptych.studio.components.uploads import upload_box
from diptych.studio.pages.prefer.chart import angle_chart, set_angles
from diptych.studio.pages.prefer.debug import debug_panel
from diptych.studio.pages.prefer.fields import Readout, heading
from diptych.studio.pages.prefer.settings import settings_panel
from diptych.studio.state.prefer.archive import read_state, state_file, state_name, table
from diptych.studio.state.prefer.desk import Desk
from diptych.studio.state.prefer.desks import Desks
from diptych.studio.state.prefer.readouts import Labels, cv_text, distances, readouts
from diptych.studio.state.uploads import safe_name

STEPS, MOST_STEPS = 8, 32
"""Step scores shown by default, and at most."""

STEP = 0.1
"""Length of a step, rad."""

DATA = ("Dataset rows", "Rows (disk)", "Positives", "Negatives", "Comparisons", "Skips", "Last labels", "Dimension")
MODEL = (
    "Value scorer",
    "Train score",
    "Leave-one-out agreement",
    "Chance level",
    "Predicted values",
    "Ridge training",
    "XGB active",
    "Training",
    "Last train",
    "Step scores",
    "Judgements used",
)
PERSON = ("Agreement with yourself", "Advice")
PICTURES = ("Images", "Queue remaining", "||z − anchor||", "Angle from the anchor")


class Side:
    """The panel of one tab.

    Parameters
    ----------
    desks : Desks
    folder : Path
    desk : Desk
    """

    def __init__(self, desks: Desks, folder: Path, desk: Desk) -> None:
        self._desk, self._labels, self._studio = desk, Labels(), desks.studio
        self._readouts: dict[str, Readout] = {}
        self._failed = ""
        with ui.column().classes("w-full gap-3").props('role=complementary aria-label="Session"'):
            self._mismatch = ui.label().props("role=alert").mark("mismatch").classes("text-sm")
            self._group("Data", DATA)
            self._group("Model", MODEL)
            with ui.row().classes("w-full items-center no-wrap gap-3"):
                ui.label("Optimization steps").classes("text-sm")
                self._steps = Slider(min=0, max=MOST_STEPS, value=STEPS).props('label aria-label="Optimization steps"')
            with ui.row().classes("items-center gap-2"):
                ui.button("Compute CV now", on_click=self._cross_validate).props("outline no-caps").mark("cv")
                self._cv = ui.label(cv_text(desk.session.validated)).classes("text-sm font-mono").mark("cv score")
            self._group("You", PERSON)
            self._group("Pictures", PICTURES)
            self._chart = angle_chart()
            settings_panel(desks, folder, desk)
            self._files(desks, folder)
            debug_panel(desks, desk)

    def _group(self, title: str, names: tuple[str, ...]) -> None:
        heading(title, 3)
        with ui.element("div").classes("readouts"):
            for name in names:
                self._readouts[name] = Readout(name)

    async def refresh(self) -> None:
        """Compute the readouts in a thread, and show them."""
        steps = int(self._steps.value or 0)
        try:
            found = await run.io_bound(readouts, self._desk, self._labels, steps, STEP)
            angles = await run.io_bound(distances, self._desk)
        except DiptychError as error:
            self._mismatch.set_text(str(error))
            return
        if found is not None:
            self._show(found)
        set_angles(self._chart, angles or [])

    def _show(self, found: Mapping[str, str]) -> None:
        for name, readout in self._readouts.items():
            readout.show(found.get(name, "n/a"))
        self._mismatch.set_text(found["Other data"])
        self._mismatch.set_visibility(bool(found["Other data"]))

    async def _cross_validate(self) -> None:
        self._cv.set_text("CV score: computing…")
        try:
            result = await run.io_bound(self._desk.session.cross_validate)
        except DiptychError as error:
            self._cv.set_text(f"CV score: n/a ({error})")
            return
        if result is not None:
            self._cv.set_text(cv_text(result))

    def _files(self, desks: Desks, folder: Path) -> None:
        with ui.expansion("Download, upload, reset").classes("w-full"), ui.column().classes("w-full gap-2"):
            with ui.row().classes("gap-2"):
                ui.button("Download state", on_click=self._download).props("outline no-caps").mark("download state")
                ui.button("Download table and pictures", on_click=self._table).props("outline no-caps")
            limit = desks.studio.options.upload_limit * 2**30
            upload_box("A state (.npz)", self._upload, limit, accept=".npz")
            ui.button("Reset", on_click=partial(_reset, desks, folder)).props("outline no-caps color=negative")

    async def _download(self) -> None:
        session = self._desk.session
        await self._send(state_name(session), lambda path: state_file(session, path))

    async def _table(self) -> None:
        await self._send("judgements.zip", lambda path: table(self._desk.session, path))

    async def _send(self, name: str, write: Callable[[Path], None]) -> None:
        try:
            await send(self._studio, name, write)
        except (DiptychError, OSError) as error:
            ui.notify(str(error), type="negative", multi_line=True)

    async def _upload(self, event: Any) -> None:
        try:
            with tempfile.TemporaryDirectory(dir=self._studio.scratch) as folder:
                path = Path(folder) / safe_name(event.file.name)
                await event.file.save(path)  # In pieces.
                said = await run.io_bound(read_state, self._desk.session, path)
        except (DiptychError, OSError) as error:
            ui.notify(str(error), type="negative", multi_line=True, timeout=10000)
            return
        self._desk.tell(f"Uploaded: {said}")
        ui.notify(f"{said}", type="positive", multi_line=True)


async def _reset(desks: Desks, folder: Path) -> None:
    """Ask twice, then move the session aside: nothing that was judged is deleted."""
    with ui.dialog() as dialog, ui.card():
        ui.label("Start over with no judgements?")
        ui.label("The judgements so far are kept in a folder beside this one.")
        with ui.row():
            ui.button("Cancel", on_click=lambda: dialog.submit("no"))
            ui.button("Reset", on_click=lambda: dialog.submit("yes")).props("color=negative")
    if await dialog != "yes":
        return
    try:
        kept = await run.io_bound(desks.reset, folder)
    except DiptychError as error:
        ui.notify(str(error), type="negative", multi_line=True)
        return
    ui.notify(f"The judgements so far are in {kept}", type="info")
    ui.navigate.reload()
