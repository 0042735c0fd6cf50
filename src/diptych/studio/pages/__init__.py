"""The pages. Each module has ``register(studio)``, which declares its routes."""

from __future__ import annotations

import asyncio
from importlib import import_module

from diptych.studio.context import Studio

FIRST = ("home",)
"""Modules of this package whose pages are there when the port opens."""

REST = ("reconstruct", "train", "compare", "jobs", "prefer")
"""Modules that import half of the program; loaded while the first page is looked at."""


def register(studio: Studio) -> None:
    """Declare the routes of every page, and those of the image viewer."""
    from diptych.studio.components.viewer.routes import register as register_viewer

    register_viewer(studio.images)
    for name in (*FIRST, *REST):
        import_module(f"{__name__}.{name}").register(studio)


def register_first(studio: Studio) -> None:
    """Declare the routes of the first page only; :func:`register_rest` declares the others."""
    for name in FIRST:
        import_module(f"{__name__}.{name}").register(studio)


async def register_rest(studio: Studio) -> None:
    """Declare the routes that :func:`register_first` left out. Modules are imported in a thread."""
    viewer = await asyncio.to_thread(import_module, "diptych.studio.components.viewer.routes")
    viewer.register(studio.images)
    for name in REST:
        module = await asyncio.to_thread(import_module, f"{__name__}.{name}")
        module.register(studio)
