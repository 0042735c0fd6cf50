"""The frame of every page: header, navigation, dark mode, jobs under way, a warning when the disk is full."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nicegui import ui

from diptych.errors import DiptychError
from diptych.studio.context import Studio

LINKS = (
    ("/", "Home"),
    ("/reconstruct", "Reconstruct"),
    ("/train", "Train"),
    ("/compare", "Compare"),
    ("/prefer", "Prefer"),
    ("/jobs", "Jobs"),
)
PRIMARY = "#2b5f85"
"""Near the blue of the viridis map, which the images use; white on it has 6.8 to 1, and 4.8 to 1 under the pointer."""

_STORED = """<script>
  document.documentElement.lang = "en";
  addEventListener("load", () => {
    const stored = localStorage.getItem("diptych-dark");
    if (stored !== null) setTimeout(() => Quasar.Dark.set(stored === "true"), 0);
  });
</script>"""
# In this layer "!important" outdoes the framework's own, which lies in a later one.
STYLE = """
@layer overrides {
  a.nicegui-link:not(.text-white) { color: #1f5f8b !important; }
  .body--dark a.nicegui-link:not(.text-white), .body--dark .text-primary { color: #9cc9ea !important; }
  .body--dark .q-field__label { color: #c9d3dc !important; }
  .body--dark .q-field--highlighted .q-field__label { color: #9cc9ea !important; }
  .body--dark .text-negative { color: #ff9a9a !important; }
  .body--dark .text-amber-700 { color: #ffc266 !important; }
  :focus-visible { outline: 3px solid #d55e00 !important; outline-offset: 2px; }
  .body--dark :focus-visible { outline-color: #ffb454 !important; }
  header :focus-visible { outline-color: #fff !important; outline-offset: -3px; }
  .q-field__control :focus-visible, .q-layout:focus-visible { outline: none !important; }
  .q-field__control:focus-within { outline: 3px solid #d55e00; }
  .body--dark .q-field__control:focus-within { outline-color: #ffb454; }
  .q-tooltip { background: #333 !important; color: #fff !important; }
  .q-btn--dense.q-btn--rectangle { padding: 2px 10px; }
  .frame-bar { display: flex; flex-wrap: nowrap; align-items: center; gap: 16px; width: 100%; }
  .frame-bar nav { display: flex; gap: 4px; min-width: 0; overflow-x: auto; scrollbar-width: none; }
  @media (max-width: 640px) {
    header.q-header { padding: 2px 4px; }
    .frame-bar { gap: 2px; }
    .frame-bar nav { gap: 0; font-size: 0.8125rem; }
    .frame-bar nav a { padding: 6px 5px; }
    .frame-name { display: none; }
  }
}
"""
"""Links, outlined buttons and what is in focus can be seen in light and dark; the header takes one line on a phone."""
_TOGGLE = """() => {
  Quasar.Dark.set(!Quasar.Dark.isActive);
  localStorage.setItem("diptych-dark", Quasar.Dark.isActive);
}"""


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
    ui.add_css(STYLE)
    ui.add_head_html('<meta name="viewport" content="width=device-width, initial-scale=1">' + _STORED)
    with (
        ui.header().classes("items-center px-4 py-1").props("elevated=false"),
        ui.element("div").classes("frame-bar"),
    ):
        ui.link("diptych", "/").classes("frame-name text-white text-lg font-medium no-underline")
        with ui.element("nav").props('aria-label="Pages"'):
            for route, name in LINKS:
                link = ui.link(name, route).classes("text-white px-2 py-1 rounded no-underline whitespace-nowrap")
                if route == active:
                    link.classes("bg-black/30").props('aria-current="page"')
        ui.space()
        working = ui.label().props("role=status").classes("text-sm whitespace-nowrap")
        ui.button(icon="contrast").props('flat round dense color=white aria-label="Light or dark"').on(
            "click", js_handler=_TOGGLE
        )
    warning = ui.label().props("role=alert").classes("w-full bg-amber-200 text-black px-4 py-1")

    def watch() -> None:
        from diptych.studio.state.jobs import full_disk

        under_way = [job for job in studio.jobs.jobs() if job.state in ("queued", "running")]
        working.set_text(f"{len(under_way)} running" if under_way else "")
        text = full_disk(studio)
        warning.set_text(text)
        warning.set_visibility(bool(text))

    watch()
    ui.timer(1.0, watch)
    with ui.column().classes("w-full max-w-[1800px] mx-auto p-4 gap-4"):
        ui.label(title).props("role=heading aria-level=1").classes("text-2xl")
        yield


def refused(act: Callable[[], object]) -> str:
    """Do what a person asked for; why it was refused, or nothing."""
    try:
        act()
    except DiptychError as error:
        return str(error)
    return ""


def heading(text: str) -> ui.label:
    """The heading of a part of a page."""
    return ui.label(text).props("role=heading aria-level=2").classes("text-xl")
