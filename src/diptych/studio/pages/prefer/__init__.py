"""The Prefer page: judge pictures, and get better ones."""

from __future__ import annotations

from nicegui import app, ui
from starlette.responses import FileResponse, PlainTextResponse, Response

from diptych.errors import DiptychError
from diptych.studio.components.frame import page_frame
from diptych.studio.context import Studio
from diptych.studio.pages.prefer.room import room
from diptych.studio.pages.prefer.start import start
from diptych.studio.state.prefer.desks import Desks

FOREVER = {"cache-control": "private, max-age=31536000, immutable"}
"""A picture is named by the hash of its pixels, so it never changes."""


def register(studio: Studio) -> None:
    """Declare ``/prefer``, and the addresses of the pictures."""
    desks = Desks(studio)
    app.on_shutdown(desks.feed.attach())
    app.on_shutdown(desks.close_all)

    @ui.page("/prefer")
    async def prefer(session: str = "", example: str = "") -> None:
        with page_frame(studio, "Prefer", "/prefer"):
            if not session:
                start(desks, example=bool(example))
                return
            try:
                folder = desks.folder(session)
            except DiptychError as error:
                ui.label(str(error)).props("role=alert")
                start(desks)
                return
            await room(desks, folder)

    @app.get("/prefer/picture/{key}/{name}.png")
    def picture(key: str, name: str) -> Response:
        desk = desks.named(key)
        file = None if desk is None else desk.picture(name)
        if desk is None or not file:
            return PlainTextResponse("There is no such picture.", 404)
        return FileResponse(desk.session.ledger.files.path(file), media_type="image/png", headers=FOREVER)

    @app.get("/prefer/file/{key}/{name}")
    def file(key: str, name: str) -> Response:
        desk = desks.named(key)
        try:
            path = None if desk is None else desk.session.ledger.files.path(name)
        except DiptychError:
            path = None
        if path is None or path.suffix != ".png" or not path.is_file():
            return PlainTextResponse("There is no such picture.", 404)
        return FileResponse(path, media_type="image/png", headers=FOREVER)
