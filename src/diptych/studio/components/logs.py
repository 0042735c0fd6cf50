"""The log of a run, one click away."""

from __future__ import annotations

from pathlib import Path

from nicegui import ui

from diptych.studio.state.jobs import log_tail


def show_log(folder: Path) -> None:
    """Open a dialog with the end of the log of a run."""
    with ui.dialog() as dialog, ui.card().classes("w-full max-w-[1000px]"):
        ui.label(f"Log of {folder.name}").props("role=heading aria-level=2").classes("text-xl")
        text = ui.label(log_tail(folder) or "The log is empty.")
        text.classes("font-mono text-xs whitespace-pre-wrap break-all").props("tabindex=0")
        ui.button("Close", on_click=dialog.close).props("flat")
    dialog.open()
