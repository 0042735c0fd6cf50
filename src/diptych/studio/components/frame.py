"""The frame of every page: header, navigation, dark mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nicegui import app, ui

from diptych.studio.context import Studio

LINKS = (
    ("/", "Home"),
    ("/reconstruct", "Reconstruct"),
    ("/train", "Train"),
    ("/compare", "Compare"),
    ("/prefer", "Prefer"),
    ("/jobs", "Jobs"),
)
PRIMARY = "#31688e"
"""From the viridis map, which the images use; 5.8 to 1 against white."""


@contextmanager
def page_frame(studio: Studio, title: str, active: str) -> Iterator[None]:
    """Header with navigation, and the column that the page fills.

    Parameters
    ----------
    studio : Studio
        Shared state.
    title : str
        Heading of the page, and part of the window's title.
    active : str
        The route of the page in the navigation.
    """
    ui.page_title(f"{title} - diptych")
    ui.colors(primary=PRIMARY)
    dark = ui.dark_mode(app.storage.browser.get("dark") if _has_browser_storage() else None)
    with (
        ui.header().classes("items-center gap-4 px-4 py-1").props("elevated=false"),
        ui.row().classes("w-full items-center"),
    ):
        ui.link("diptych", "/").classes("text-white text-lg font-medium no-underline")
        with ui.element("nav").props('aria-label="Pages"').classes("flex flex-wrap gap-1"):
            for route, name in LINKS:
                link = ui.link(name, route).classes("text-white px-2 py-1 rounded no-underline")
                if route == active:
                    link.classes("bg-white/20").props('aria-current="page"')
        ui.space()
        ui.button(icon="contrast", on_click=dark.toggle).props('flat round color=white aria-label="Light or dark"')
    with ui.column().classes("w-full max-w-[1800px] mx-auto p-4 gap-4"):
        ui.label(title).props("role=heading aria-level=1").classes("text-2xl")
        yield


def _has_browser_storage() -> bool:
    """Whether the server has a storage secret (tests may not)."""
    from nicegui import core

    return bool(core.app.config.has_run_config) and getattr(app.storage, "secret", None) is not None
