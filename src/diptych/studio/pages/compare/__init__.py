"""The Compare page: several results side by side, their differences, metrics and ring correlations."""

from __future__ import annotations

from nicegui import ui
from starlette.requests import Request

from diptych.studio.components.frame import page_frame, refused
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
        run = request.query_params.get("run", "")
        problem = refused(lambda: _add(state, wanted)) if wanted else refused(lambda: state.show(run)) if run else ""
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


def _add(state: ComparePage, paths: list[str]) -> None:
    """Add results to those chosen."""
    state.choose(list(dict.fromkeys([*map(str, state.files.values()), *paths])))
