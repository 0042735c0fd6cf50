"""The pages. Each module has ``register(studio)``, which declares its routes."""

from __future__ import annotations

from importlib import import_module

from diptych.studio.context import Studio

PAGES = ("home", "reconstruct", "train", "compare", "jobs", "prefer")
"""Modules of this package, in the order of the navigation."""


def register(studio: Studio) -> None:
    """Declare the routes of every page, and those of the image viewer."""
    from diptych.studio.components.viewer.routes import register as register_viewer

    register_viewer(studio.images)
    for name in PAGES:
        import_module(f"{__name__}.{name}").register(studio)
