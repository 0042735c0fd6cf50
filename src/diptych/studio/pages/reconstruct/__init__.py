"""The Reconstruct page: choose a scan, look at it, reconstruct it, look at the result."""

from __future__ import annotations

from nicegui import app, run, ui
from starlette.requests import Request
from starlette.responses import Response

from diptych.errors import DiptychError
from diptych.studio.components.frame import page_frame
from diptych.studio.context import Studio
from diptych.studio.pages.reconstruct.choose import Choose
from diptych.studio.pages.reconstruct.inspect import Inspect
from diptych.studio.pages.reconstruct.outcome import Outcome
from diptych.studio.pages.reconstruct.setup import Setup
from diptych.studio.pages.reconstruct.watch import Watching
from diptych.studio.state.listing import is_result
from diptych.studio.state.reconstruct.page import ReconstructPage

PICTURES = "/studio-scan"


def register(studio: Studio) -> None:
    """Declare ``/reconstruct``; ``?file=PATH``, ``?model=``, ``?config=`` and ``?run=`` open a scan, a network, options
    (YAML), a run.
    """
    state = ReconstructPage(studio)

    @app.get(PICTURES + "/{revision}/{what}")
    def picture(revision: int, what: str) -> Response:
        look = state.look
        if look is None:
            return Response("no scan is open", 404)
        try:
            data = (
                look.mean_pattern()
                if what == "mean"
                else look.probe()
                if what == "probe"
                else look.frame(int(what))
                if what.isdecimal() and len(what) < 12
                else None
            )
        except DiptychError as error:
            return Response(str(error), 422, media_type="text/plain")
        if data is None:
            return Response("there is no such picture", 404)
        return Response(data, media_type="image/png", headers={"cache-control": "private, max-age=60"})

    @ui.page("/reconstruct")
    def reconstruct(request: Request) -> None:
        query = dict(request.query_params)
        with page_frame(studio, "Reconstruct", "/reconstruct"):
            choose = Choose(state)
            inspect, setup, watching, outcome = Inspect(state), Setup(state), Watching(state), Outcome(state)

            def watch() -> None:
                state.watch()
                for part in (choose, inspect, setup, watching, outcome):
                    part.watch()

            async def begin() -> None:
                # Reading a scan may take long, so it begins once the page is there.
                if query.get("file"):
                    choose.busy("Reading the scan ...")
                choose.message.set_text(await _open(state, query))
                choose.busy("")
                watch()
                await choose.fill()

            watch()
            ui.timer(0.5, watch)
            ui.timer(0.05, begin, once=True)


async def _open(state: ReconstructPage, query: dict[str, str]) -> str:
    """Open what the address names; what is wrong with it, or nothing."""
    try:
        if file := query.get("file"):
            path = state.studio.folders.resolve(file)
            if await run.io_bound(is_result, path):
                return f"{path.name} holds a result, not a scan: open it in Compare."
            if state.look is None or state.look.path != path:
                await run.io_bound(state.open, file)
        if model := query.get("model"):
            state.choose_model(model)
        if config := query.get("config"):
            await run.io_bound(state.configure, config, alone=bool(query.get("file")))
        if folder := query.get("run"):
            state.show(folder)
    except DiptychError as error:
        return str(error)
    return ""
