"""The last decode, the log and the environment."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from diptych.studio.pages.prefer.fields import Readout, heading
from diptych.studio.state.prefer.desk import Desk
from diptych.studio.state.prefer.desks import Desks
from diptych.studio.state.prefer.feed import SHOWN
from diptych.studio.state.prefer.readouts import debug, environment

NAMES = (
    "Last decode",
    "Model",
    "Event",
    "Size",
    "Steps",
    "Guidance in effect",
    "Scheduler",
    "Latents",
    "init_sigma",
    "Image",
)


def debug_panel(desks: Desks, desk: Desk) -> None:
    """A panel that follows the session while it is open."""
    with ui.expansion("Debug").classes("w-full").mark("debug") as panel, ui.column().classes("w-full gap-2"):
        warning = ui.label().props("role=alert").classes("text-sm").mark("flat")
        with ui.element("div").classes("readouts"):
            found = {name: Readout(name, optional=name != "Last decode") for name in NAMES}
        ui.switch("Debug logs (set level DEBUG)", on_change=lambda event: desks.feed.verbose(on=bool(event.value)))
        count = ui.number("Lines of the log", value=SHOWN, min=1, max=5000, precision=0)
        text = ui.label().classes("w-full font-mono text-xs whitespace-pre-wrap max-h-80 overflow-auto")
        text.props('tabindex=0 aria-label="Log"').mark("log")
        heading("Environment", 3)
        with ui.element("div").classes("readouts"):
            for name, value in environment(desk.session).items():
                Readout(name).show(value)

    def refresh() -> None:
        if not panel.value:
            return
        about = debug(desk.session)
        for name, readout in found.items():
            readout.show(about.get(name, ""))
        warning.set_text(about.get("Warning", ""))
        text.set_text(desks.feed.tail(int(count.value or SHOWN)))

    def opened(_: Any) -> None:
        refresh()

    panel.on_value_change(opened)
    ui.timer(1.0, refresh)
