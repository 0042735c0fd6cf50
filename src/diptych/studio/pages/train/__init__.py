"""The Train page: choose scans and a network, watch the losses, keep the network."""

from __future__ import annotations

from nicegui import ui

from diptych.studio.components.frame import page_frame, refused
from diptych.studio.context import Studio
from diptych.studio.pages.train.progress import Watching
from diptych.studio.pages.train.setup import Setup
from diptych.studio.state.train.page import TrainPage


def register(studio: Studio) -> None:
    """Declare ``/train``; ``?run=`` shows an earlier training. All tabs share what is chosen and trained."""
    state = TrainPage(studio)

    @ui.page("/train")
    def train(run: str = "") -> None:
        problem = refused(lambda: state.show(run)) if run else ""
        with page_frame(studio, "Train", "/train"):
            if problem:
                ui.label(problem).props("role=alert").classes("text-negative")
            setup = Setup(state)
            watching = Watching(state)

            def watch() -> None:
                setup.watch()
                watching.watch()

            watch()
            ui.timer(0.5, watch)
