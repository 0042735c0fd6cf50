"""Requests that come while pages are still loaded wait for them."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from diptych.studio.context import Studio

AT_ONCE = ("/", "")
FRAMEWORK = "/_nicegui"
log = logging.getLogger("diptych")


class Loading:
    """ASGI middleware that holds requests until all pages are there; the first page and its files are not held.

    Parameters
    ----------
    app : ASGI application
    ready : asyncio.Event
        Set once the pages are declared.
    prefix : str
        URL prefix, which a proxy may leave in the path.
    """

    def __init__(self, app: Any, ready: asyncio.Event, prefix: str = "") -> None:
        self._app, self._ready, self._prefix = app, ready, prefix

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Pass the request on, at once or later."""
        if scope["type"] == "http" and not self._ready.is_set():
            path = scope["path"].removeprefix(self._prefix)
            if path not in AT_ONCE and not path.startswith(FRAMEWORK):
                await self._ready.wait()
        await self._app(scope, receive, send)


async def load(studio: Studio, ready: asyncio.Event) -> None:
    """Load the other pages. Where that fails, the server stops with the reason in its log."""
    from nicegui import app

    from diptych.studio.pages import register_rest

    try:
        await register_rest(studio)
    except Exception:
        log.exception("studio stops: its pages could not be loaded")
        app.shutdown()
    finally:
        ready.set()
