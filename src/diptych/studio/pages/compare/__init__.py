"""The Compare page: several results side by side, their differences, metrics and ring correlations."""

from __future__ import annotations

from nicegui import ui
from starlette.requests import Request

from diptych.errors import DiptychError
from diptych.studio.components.frame import page_frame
from diptych.studio.context import Studio
from diptych.studio.pages.compare.choices import Choices
from diptych.studio.pages.compare.outcome import Outcome
from diptych.studio.state.compare.page import ComparePage


def register(studio: Studio) -> None:
    """Declare ``/compare``; ``?file=PATH`` (repeatable) adds a result, ``?run=`` shows an earlier comparison.

    All tabs share what is chosen and found.
    """
    state = ComparePage(studio)

    @ui.page("/compare")
    def compare(request: Request) -> None:
        wanted = request.query_params.getlist("file")
        problem = _add(state, wanted) if wanted else _show(state, request.query_params.get("run", ""))
        with page_frame(studio, "Compare", "/compare"):
            choices = Choices(state)
            if problem:
                ui.label(problem).props("role=alert").classes("text-negative")
            outcome = Outcome(state)

            def watch() -> None:
                choices.watch()
                outcome.watch()

            watch()
            ui.timer(0.5, watch)


def _add(state: ComparePage, paths: list[str]) -> str:
    """Add results to those chosen; what is wrong with them, or nothing."""
    try:
        state.choose(list(dict.fromkeys([*map(str, state.files.values()), *paths])))
    except DiptychError as error:
        return str(error)
    return ""


def _show(state: ComparePage, run: str) -> str:
    """Show the comparison of a run, if one is named; what is wrong with it, or nothing."""
    try:
        if run:
            state.show(run)
    except DiptychError as error:
        return str(error)
    return ""
