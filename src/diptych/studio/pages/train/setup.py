"""What is trained: scans, network and options, with the buttons that start and stop."""

from __future__ import annotations

from typing import Any

from nicegui import run, ui

from diptych.errors import DiptychError
from diptych.runtime.option_fields import OptionField
from diptych.studio.state.train.fields import belongs, parsed, shown, trainer_fields, training_fields
from diptych.studio.state.train.page import TrainPage

GRID = "display: grid; gap: 12px; width: 100%; grid-template-columns: repeat(auto-fill, minmax(min(100%, 220px), 1fr))"


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
        self._owned: list[tuple[OptionField, Any]] = []
        self.scans = ui.select({}, label="Scans", multiple=True, on_change=self._chosen)
        self.scans.props("outlined dense options-dense use-chips").classes("w-full")
        first, rest = training_fields()
        with ui.element("div").style(GRID):
            for field in first:
                self._field(field, state.values)
        with ui.expansion("All options of training", icon="tune").classes("w-full"), ui.element("div").style(GRID):
            for field in rest:
                self._field(field, state.values)
        with ui.expansion("Device and output", icon="memory").classes("w-full"), ui.element("div").style(GRID):
            for field in trainer_fields():
                self._field(field, state.trainer)
        with ui.row().classes("w-full items-center gap-4"):
            self.start = ui.button("Train", on_click=self._start)
            self.stop = ui.button("Stop", on_click=state.stop).props("outline")
            self.resume = ui.button("Go on", on_click=self._resume).props("outline")
            ui.button("Refresh list", on_click=self.fill).props("flat")
            self.message = ui.label().props("role=status").classes("grow")
        self._network()
        ui.timer(0.05, self.fill, once=True)

    async def fill(self) -> None:
        """List the scans in the data folders; files are looked into in a thread."""
        state = self.state
        scans = await run.io_bound(state.scans)
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

    def _field(self, field: OptionField, values: dict[str, Any]) -> None:
        label, value = field.name.replace("_", " "), shown(field, values)

        def changed(event: Any) -> None:
            self._change(field, values, event.value)

        element: Any
        with ui.column().classes("gap-0") as cell:
            if field.kind == "yes or no":
                element = ui.switch(label, value=bool(value), on_change=changed)
            elif field.choices:
                options = {str(choice): str(choice) for choice in field.choices}
                element = ui.select(options, label=label, value=value, clearable=field.optional, on_change=changed)
                element.props("outlined dense options-dense").classes("w-full")
            else:
                text = "" if value is None else str(value)
                element = ui.input(label, value=text, placeholder="automatic", on_change=changed)
                element.props("outlined dense stack-label").classes("w-full")
            ui.label(field.help_with_bounds).classes("text-xs opacity-75 leading-tight")
        if field.owners:
            self._owned.append((field, cell))

    def _change(self, field: OptionField, values: dict[str, Any], given: Any) -> None:
        try:
            value = parsed(field, given)
        except DiptychError as error:
            self.message.set_text(str(error))
            return
        if value is None or value == field.default:
            values.pop(field.name, None)
        else:
            values[field.name] = value
        self.message.set_text("")
        if field.name == "network":
            self._network()

    def _network(self) -> None:
        """Show the options of the chosen network, and drop those of others."""
        network = str(self.state.values.get("network", training_fields()[0][0].default))
        for field, cell in self._owned:
            cell.set_visibility(belongs(field, network))
            if not belongs(field, network):
                self.state.values.pop(field.name, None)

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
