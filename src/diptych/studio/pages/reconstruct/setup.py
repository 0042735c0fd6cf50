"""How to reconstruct: a preset, a network, or the full form; and the start button."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from nicegui import run, ui

from diptych.errors import DiptychError
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.ptycho.neural.options import InferenceOptions
from diptych.runtime.device import ExecutionOptions
from diptych.studio.components.forms import options_form
from diptych.studio.components.frame import heading
from diptych.studio.state.reconstruct.page import ReconstructPage
from diptych.studio.state.reconstruct.presets import PRESETS


class Setup:
    """The part of the page about options.

    Parameters
    ----------
    state : ReconstructPage
        The options, shared by all tabs.
    """

    def __init__(self, state: ReconstructPage) -> None:
        self.state = state
        self._shown, self._filling = -1, False
        self._engine: Any = None
        heading("How to reconstruct")
        with ui.row().classes("w-full items-start gap-4"):
            titles = {name: preset.title for name, preset in PRESETS.items()}
            self.preset = ui.select(titles, label="Preset", value=state.preset, on_change=self._preset)
            self.preset.props("outlined dense options-dense").classes("w-48")
            self.model = ui.select({}, label="Start from a network", clearable=True, on_change=self._model)
            self.model.props("outlined dense options-dense").classes("w-64")
            self.use = ui.label().classes("grow basis-[240px] self-center")
        with ui.expansion("All options", icon="tune").classes("w-full"):
            self.form = ui.column().classes("w-full")
        with ui.expansion("Network", icon="hub").classes("w-full"):
            ui.label("How a trained network is run, where the reconstruction starts from one.").classes("text-sm")
            self.network = ui.column().classes("w-full")
        with ui.expansion("Device", icon="memory").classes("w-full"):
            self.device = ui.column().classes("w-full")
        with ui.row().classes("w-full items-center gap-4"):
            self.start = ui.button("Reconstruct", on_click=lambda: self._try(state.start))
            self.stop = ui.button("Stop", on_click=state.stop).props("outline")
            self.resume = ui.button("Resume", on_click=lambda: self._try(state.resume)).props("outline")
            self.tune = ui.button("Tune by eye", on_click=self._tune).props("outline")
            self.tune.tooltip("Judge reconstructions with different settings; the settings follow your eye")
            self.changed = ui.label().classes("text-sm")
            self.reset = ui.button("Reset options", on_click=lambda: self._try(self._again))
            self.reset.props("outline dense no-caps")
            self.message = ui.label().props("role=alert").classes("text-negative grow")
        ui.timer(0.05, self._models, once=True)

    def watch(self) -> None:
        """Show which buttons can be used, and options that were replaced."""
        state = self.state
        self.start.set_enabled(state.look is not None and not state.running)
        self.tune.set_enabled(state.look is not None)
        self.stop.set_visibility(state.running)
        self.resume.set_visibility(state.resumable)
        text = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in state.values.items())
        self.changed.set_text(f"Set: {text}" if text else "All options at their defaults.")
        self.reset.set_visibility(state.values != PRESETS[state.preset].values)
        if self._shown != state.changes:
            self._shown = state.changes
            self._filling = True
            self.preset.set_value(state.preset)
            self._filling = False
            self.use.set_text(PRESETS[state.preset].use)
            self._draw()

    def _draw(self) -> None:
        state = self.state
        self._engine = state.values.get("engine")
        for place, model, values in (
            (self.form, ReconstructionOptions, state.values),
            (self.network, InferenceOptions, state.inference),
            (self.device, ExecutionOptions, state.execution),
        ):
            place.clear()
            with place:
                options_form(model, values, self._taken)

    def _taken(self) -> None:
        """Tell the other forms of what was typed in this one, which is drawn anew for another engine only."""
        self.state.changes += 1
        if self._engine == self.state.values.get("engine"):
            self._shown = self.state.changes

    async def _models(self) -> None:
        models = await run.io_bound(self.state.models)
        if models is None:  # The server is stopping.
            return
        chosen = None if self.state.model is None else str(self.state.model)
        if chosen:
            models.setdefault(
                chosen, self.state.studio.folders.shown(self.state.model or self.state.studio.folders.roots[0])
            )
        self._filling = True
        self.model.set_options(models, value=chosen)
        self._filling = False

    async def _tune(self) -> None:
        """Begin a session whose pictures are reconstructions of the scan, and go there."""
        from diptych.studio.state.prefer import tuning

        look, studio = self.state.look, self.state.studio
        if look is None:
            return
        self.message.set_text("")
        try:
            folder = await run.io_bound(tuning.begin, studio, look.path, dict(self.state.load), dict(self.state.values))
        except DiptychError as error:
            self.message.set_text(str(error))
            return
        if folder is not None:  # None: the server is stopping.
            ui.navigate.to(f"/prefer?session={quote(studio.folders.link(folder))}")

    def _preset(self, event: Any) -> None:
        if not self._filling and event.value:
            self._try(lambda: self.state.choose_preset(str(event.value)))

    def _again(self) -> None:
        """Take the options of the preset again, without what was changed since."""
        self.state.choose_preset(self.state.preset, anew=True)

    def _model(self, event: Any) -> None:
        if not self._filling:
            self._try(lambda: self.state.choose_model(event.value))

    def _try(self, action: Any) -> None:
        try:
            action()
            self.message.set_text("")
        except DiptychError as error:
            self.message.set_text(str(error))
