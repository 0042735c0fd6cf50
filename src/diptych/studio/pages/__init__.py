"""The pages. Each module has ``register(studio)``, which declares its routes."""

from __future__ import annotations

from importlib import import_module

from diptych.studio.context import Studio

PAGES = ("home", "prefer")
"""Modules of this package, in the order of the navigation."""


def register(studio: Studio) -> None:
    """Declare the routes of every page."""
    for name in PAGES:
        import_module(f"{__name__}.{name}").register(studio)
