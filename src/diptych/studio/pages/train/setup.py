"""What is trained: scans, network and options, with the buttons that start and stop."""

from __future__ import annotations

from typing import Any

from nicegui import run, ui

from diptych.errors import DiptychError
from diptych.ptycho.neural.options import TrainerOptions, TrainingOptions
from diptych.studio.components.forms import options_form
from diptych.studio.state.fields import fitting
from diptych.studio.state.train.fields import trainer_fields, training_fields
from diptych.studio.state.train.page import TrainPage


class Setup:
    """The controls at the top of the page.

    Parameters
    ----------
    state : TrainPage
        What is chosen, shared by all tabs.
    """

    def __init__(self, state: TrainPage) -> None:
        self.state = state
        self._filling = False
        self.scans = ui.select({}, label="Scans", multiple=True, on_change=self._chosen)
        self.scans.props("outlined dense options-dense use-chips").classes("w-full")
        self.first = ui.column().classes("w-full")
        self.rest = ui.expansion("All options of training", icon="tune").classes("w-full")
        with ui.expansion("Device and output", icon="memory").classes("w-full"):
            options_form(TrainerOptions, state.trainer, only=tuple(field.name for field in trainer_fields()))
        with ui.row().classes("w-full items-center gap-4"):
            self.start = ui.button("Train", on_click=self._start)
            self.stop = ui.button("Stop", on_click=state.stop, color=None).props("outline")
            self.resume = ui.button("Go on", on_click=self._resume, color=None).props("outline")
            ui.button("Refresh list", on_click=self.fill, color=None).props("flat")
            self.message = ui.label().props("role=status").classes("grow")
        self._shown = ""
        self._options()
        ui.timer(0.05, self.fill, once=True)

    async def fill(self) -> None:
        """List the scans in the data folders; files are looked into in a thread."""
        state = self.state
        scans = await run.io_bound(state.scans)
        if scans is None:  # The server is stopping.
            return
        self._filling = True
        chosen = {str(path): state.studio.folders.shown(path) for path in state.files}
        self.scans.set_options({**scans, **chosen}, value=list(chosen))
        self._filling = False
        if not scans:
            self.message.set_text("No scan in the data folders yet. Put one there, or simulate one on the home page.")

    def watch(self) -> None:
        """Show which buttons can be used."""
        running = self.state.running
        self.start.set_enabled(not running and bool(self.state.files))
        self.stop.set_visibility(running)
        self.resume.set_visibility(self.state.resumable)

    def _options(self) -> None:
        """Show the options of the chosen network."""
        values, (first, rest) = self.state.values, training_fields()
        network = str(values.get("network", first[0].default))
        if network == self._shown:
            return
        self._shown = network
        known = fitting(TrainingOptions, values)
        for place, fields in ((self.first, first), (self.rest, rest)):
            place.clear()
            with place:
                names = tuple(field.name for field in fields if field.name in known)
                options_form(TrainingOptions, values, self._options, only=names)

    def _chosen(self, event: Any) -> None:
        if self._filling:
            return
        try:
            self.state.choose(list(event.value or []))
        except DiptychError as error:
            self.message.set_text(str(error))

    def _start(self) -> None:
        self._try(self.state.start)

    def _resume(self) -> None:
        self._try(self.state.resume)

    def _try(self, action: Any) -> None:
        try:
            action()
            self.message.set_text("")
        except DiptychError as error:
            self.message.set_text(str(error))
