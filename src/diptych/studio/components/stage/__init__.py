"""The pictures to judge, drawn and answered in the browser without waiting for the server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nicegui import ui
from nicegui.element import Element

from diptych.studio.state.prefer.keys import keys_of, listed

Handler = Callable[[], Awaitable[None] | None]


class Stage(Element, component="stage.js"):
    """Tiles with captions and buttons; keys answer too.

    Parameters
    ----------
    view : mapping
        :meth:`diptych.studio.state.prefer.desk.Desk.view`.
    on_answer : callable
        Takes a message of the browser: serial, act, value and pictures.
    on_undo, on_retry, on_renew : callable
    """

    def __init__(
        self,
        view: Mapping[str, Any],
        on_answer: Callable[[dict[str, Any]], Awaitable[None]],
        on_undo: Handler,
        on_retry: Handler,
        on_renew: Handler,
    ) -> None:
        super().__init__()
        ui.add_css((Path(__file__).parent / "stage.css").read_text(encoding="utf-8"))
        self._props["active"] = True
        self.show(view)
        self.on("answer", lambda event: on_answer(event.args))
        self.on("undo", lambda _: on_undo())
        self.on("retry", lambda _: on_retry())
        self.on("renew", lambda _: on_renew())

    def show(self, view: Mapping[str, Any]) -> None:
        """Draw what the desk shows now."""
        keys = keys_of(view["mode"], view["answers"])
        self._props["view"] = dict(view)
        self._props["keys"] = [asdict(key) for key in keys]
        self._props["lines"] = list(listed(keys))
        self.update()

    def activate(self, *, on: bool) -> None:
        """Listen to keys, or not."""
        self._props["active"] = on
        self.update()
