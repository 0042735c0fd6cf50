"""Slider whose value is set in the browser alone."""

from __future__ import annotations

from nicegui import ui


class Slider(ui.slider):
    """A slider that keeps the browser's value.

    Otherwise, the server sends each value back, and one that is late takes the slider back to it while a key is held.
    The value cannot be set from the server.
    """

    LOOPBACK = None
