"""The home page: what can be done, and what lies in the data folders."""

from __future__ import annotations

from nicegui import ui

from diptych.studio.components.frame import page_frame
from diptych.studio.context import Studio


def register(studio: Studio) -> None:
    """Declare ``/``."""

    @ui.page("/")
    def home() -> None:
        with page_frame(studio, "Home", "/"):
            with ui.row().classes("w-full gap-4"):
                _panel(
                    "Reconstruct", "What the photons say: from diffraction counts to a complex object.", "/reconstruct"
                )
                _panel("Prefer", "What the person says: from judgements to the image they want.", "/prefer")
            ui.label("In the data folders").props("role=heading aria-level=2").classes("text-xl")
            items = studio.folders.items()
            if not items:
                ui.label("No scan, run or session yet. Open a scan, or begin a session, above.")
            for item in items[:40]:
                ui.label(f"{item.kind}: {studio.folders.shown(item.path)}").classes("font-mono text-sm")


def _panel(title: str, text: str, route: str) -> None:
    with ui.card().classes("flex-1 min-w-[280px]"):
        ui.label(title).props("role=heading aria-level=2").classes("text-xl")
        ui.label(text)
        ui.button(f"Open {title}", on_click=lambda: ui.navigate.to(route))
