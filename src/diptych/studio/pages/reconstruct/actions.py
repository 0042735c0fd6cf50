"""What can be done with the file: prepare a new one, convert it, check it against a standard."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nicegui import run, ui

from diptych.errors import DiptychError
from diptych.ptycho.io.exchange.standards import StandardName
from diptych.ptycho.prepare.preparation_options import PrepareOptions
from diptych.studio.components.forms import options_form
from diptych.studio.state.reconstruct import actions
from diptych.studio.state.reconstruct.page import ReconstructPage


class FileActions:
    """Three closed panels below a scan.

    Parameters
    ----------
    state : ReconstructPage
        The scan that is open, shared by all tabs.
    """

    def __init__(self, state: ReconstructPage) -> None:
        assert state.look is not None
        self.state, self.look = state, state.look
        self.values: dict[str, Any] = {}
        stem = self.look.path.stem
        with ui.expansion("Prepare: choose frames, correct, crop, bin", icon="content_cut").classes("w-full"):
            ui.label("The steps are done in the order of the fields. The file itself is not changed.").classes(
                "text-sm"
            )
            options_form(PrepareOptions, self.values)
            with ui.row().classes("w-full items-center gap-3"):
                name = _name("New file", f"{stem}-prepared.npz", "prepared name")
                _button("Write the prepared scan and open it", lambda: self._prepare(name.value or ""))
                _button("Prepare in each reconstruction", self._always)
            self.prepared = _Said()
        with ui.expansion("Convert to another format", icon="swap_horiz").classes("w-full"):
            ui.label(f"The ending decides the format: {', '.join(actions.formats())}.").classes("text-sm")
            with ui.row().classes("w-full items-center gap-3"):
                target = _name("New file", f"{stem}.cxi", "converted name")
                _button("Convert", lambda: self._convert(target.value or ""))
            self.converted = _Said()
        with ui.expansion("Check against a standard", icon="rule").classes("w-full"):
            with ui.row().classes("w-full items-center gap-3"):
                standard = ui.select(actions.TITLES, label="Standard", value="nxptycho")
                standard.props("outlined dense options-dense").classes("w-64")
                _button("Check the file", lambda: self._validate(standard.value))
            self.validated = _Said()

    async def _prepare(self, name: str) -> None:
        work = lambda: actions.prepare(self.state.studio, self.look, self.values, name)  # noqa: E731
        found = await self.prepared.by(work)
        if found is not None:
            self.prepared.say(f"Written: {self._shown(found[0])}", found[1])
            await self.prepared.by(lambda: self.state.open(found[0]))

    def _always(self) -> None:
        """Reconstruct with these steps, without a new file."""
        try:
            options = actions.preparation(self.state.studio, self.values)
        except DiptychError as error:
            self.prepared.fail(str(error))
            return
        given = options.model_dump(mode="json", exclude_unset=True)
        self.state.set_option("prepare", json.dumps(given) if given else None)

    async def _convert(self, name: str) -> None:
        load = dict(self.state.load)
        found = await self.converted.by(lambda: actions.convert(self.state.studio, self.look, load, name))
        if found is not None:
            lost = [f"Lost: {each}." for each in found[1]]
            self.converted.say(f"Written: {self._shown(found[0])}", lost or ["Everything is kept."])

    async def _validate(self, standard: StandardName) -> None:
        found = await self.validated.by(lambda: actions.validate(self.look, standard))
        if found is not None:
            self.validated.say(*found)

    def _shown(self, path: Path) -> str:
        return self.state.studio.folders.shown(path)


class _Said:
    """What came of an action: a sentence, lines, or an error."""

    def __init__(self) -> None:
        self.error = ui.label().props("role=alert").classes("text-negative")
        self.text = ui.label().props("role=status").classes("text-sm whitespace-pre-wrap break-all")

    async def by(self, work: Callable[[], Any]) -> Any:
        """What ``work()`` returns, called in a thread; None where it fails, and then the reason is shown."""
        self.error.set_text("")
        self.text.set_text("Working ...")
        try:
            found = await run.io_bound(work)
        except (DiptychError, OSError) as error:
            self.fail(str(error))
            return None
        self.text.set_text("")
        return found

    def say(self, text: str, lines: list[str]) -> None:
        """Show a sentence and lines below it."""
        self.text.set_text("\n".join([text, *lines]))

    def fail(self, text: str) -> None:
        """Show what is wrong."""
        self.text.set_text("")
        self.error.set_text(text)


def _name(label: str, value: str, marker: str) -> ui.input:
    return ui.input(label, value=value).props("outlined dense").classes("grow min-w-[220px] max-w-md").mark(marker)


def _button(text: str, action: Callable[[], Any]) -> ui.button:
    return ui.button(text, on_click=action).props("outline no-caps")
