"""Settings of a session in the side panel; "Apply" stores them and opens the session with them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from nicegui import run, ui

from diptych.errors import DiptychError
from diptych.prefer.session.folder import sessions
from diptych.studio.pages.prefer.fields import Fields
from diptych.studio.state.prefer import options
from diptych.studio.state.prefer.desk import Desk
from diptych.studio.state.prefer.desks import Desks

RANDOM = "random-anchor"


def settings_panel(desks: Desks, folder: Path, desk: Desk) -> None:
    """The form."""
    with ui.expansion("Settings", value=False).classes("w-full").mark("settings"), ui.column().classes("w-full gap-2"):
        Settings(desks, folder, desk)


class Settings:
    """The form of a session.

    Parameters
    ----------
    desks : Desks
    folder : Path
    desk : Desk
    """

    def __init__(self, desks: Desks, folder: Path, desk: Desk) -> None:
        self._desks, self._folder, self._desk = desks, folder, desk
        session = desk.session
        given, space = session.options, session.decoder.space
        utility, proposal = options.chosen(session)
        self._prompt = ui.textarea("Prompt", value=given.prompt or "").props("autogrow rows=2").classes("w-full")
        self._prompt.mark("prompt")
        self._negative = ui.input("Negative prompt", value=given.negative_prompt or "").classes("w-full")
        self._recent()
        self._utility = ui.select(options.utilities(space), label="Value model", value=utility).classes("w-full")
        self._utility.mark("value model")
        self._utility_box = ui.column().classes("w-full gap-2")
        self._proposal = ui.select(options.proposals(space), label="Proposal", value=proposal).classes("w-full")
        self._random = ui.switch("Random anchor", value=proposal == RANDOM, on_change=self._anchored)
        self._random.set_visibility(space == "sphere")
        self._proposal_box = ui.column().classes("w-full gap-2")
        self._utility.on_value_change(lambda: self._parameters())
        self._proposal.on_value_change(lambda: self._parameters())
        self._parameters()
        self._numbers()
        self._decoding()
        ui.button("Apply", on_click=self._apply).props("no-caps").mark("apply")

    def _recent(self) -> None:
        found = options.recent(one.prompt for root in self._desks.studio.folders.roots for one in sessions(root))
        if found:
            ui.select(
                found, label="Recent prompts", on_change=lambda event: self._prompt.set_value(event.value)
            ).classes("w-full")

    def _parameters(self) -> None:
        value = partial(options.value_of, self._desk.session)
        self._utility_box.clear()
        with self._utility_box:
            self._utility_fields = Fields(options.utility_fields(str(self._utility.value)), value)
        self._proposal_box.clear()
        with self._proposal_box:
            self._proposal_fields = Fields(options.proposal_fields(str(self._proposal.value)), value)

    def _anchored(self, event: Any) -> None:
        first = options.default_proposal(self._desk.session)
        self._proposal.set_value(RANDOM if event.value else first)

    def _numbers(self) -> None:
        given, desk = self._desk.session.options, self._desk
        self._batch = ui.number("Batch size", value=given.batch, min=1, max=64, precision=0).mark("batch size")
        self._queue = ui.number("Queue size", value=given.queue, min=1, max=64, precision=0).mark("queue size")
        self._interval = ui.number("Min seconds between trains", value=given.fit_interval, min=0)
        name = options.chosen(desk.session)[0]

        def wait(event: Any, model: str) -> None:
            if model == name:
                desk.patient = not event.value

        for model, text in options.ASYNC.items():
            on = not (desk.patient and model == name)
            switch = ui.switch(text, value=on, on_change=partial(wait, model=model))
            switch.tooltip("Off: the next pictures wait for the fit to the last answer")
        weight = ui.number("Weight of the next answers", value=desk.weight, min=1e-6, max=100, on_change=self._weigh)
        for each in (self._batch, self._queue, self._interval, weight):
            each.classes("w-full")

    def _weigh(self, event: Any) -> None:
        if event.value and 1e-6 <= event.value <= 100:
            self._desk.weight = float(event.value)

    def _decoding(self) -> None:
        session = self._desk.session
        with ui.expansion("Model & decode settings", value=True).classes("w-full"), ui.column().classes("w-full gap-2"):
            frame = session.frame
            steps = f", {frame.steps} steps" if frame.steps else ""
            ui.label(f"{session.decoder.name}: {frame.model}, {frame.width} x {frame.height}{steps}").classes("text-sm")
            ui.label(f"Effective guidance: {options.guidance_text(session)}").classes("text-sm").mark("guidance")
            value = partial(options.value_of, session)
            self._decoder_fields = Fields(options.decoder_fields(session.options.decoder), value)
            if session.options.decoder == "remote":
                self._health = ui.label("Health: not checked").classes("text-sm").mark("health")
                ui.button("Check the remote decoder", on_click=self._check).props("outline no-caps")

    async def _check(self) -> None:
        url = str((self._desk.session.options.model_extra or {}).get("url") or "")
        self._health.set_text("Health: asking…")
        self._health.set_text(f"Health: {await run.io_bound(options.health_text, url)}")

    async def _apply(self) -> None:
        try:
            given = {
                "prompt": self._prompt.value.strip() or None,
                "negative_prompt": self._negative.value or None,
                "utility": self._utility.value,
                "proposal": self._proposal.value,
                "batch": int(self._batch.value or 4),
                "queue": int(self._queue.value or 6),
                "fit_interval": float(self._interval.value or 0),
                **self._utility_fields.values(),
                **self._proposal_fields.values(),
                **self._decoder_fields.values(),
            }
            changed = options.changes(self._desk.session, given)
            if not changed:
                ui.notify("Nothing changed.")
                return
            desk = await run.io_bound(self._desks.change, self._folder, changed)
        except DiptychError as error:
            ui.notify(str(error), type="negative", multi_line=True, timeout=15000)
            return
        if desk is not None:
            desk.tell(f"Settings: {', '.join(changed)}")
        ui.navigate.reload()
