"""The viewer as an element of a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nicegui.element import Element

from diptych.studio.components.viewer.routes import BASE


class ImageViewer(Element, component="viewer.js"):
    """One image, with quantities, zoom, histogram, line profile and values under the cursor.

    Parameters
    ----------
    keys : str or sequence of str
        Keys of images in the :class:`~diptych.studio.components.viewer.store.ImageStore`. Of several one is shown at a
        time, for flicker: they share view and colours.
    title : str
        Heading; by default the name of the image.
    group : str
        Viewers of one group on a page share region, zoom and cursor.
    quantity : str
        What is shown first.
    height : str
        CSS height of the image.
    """

    def __init__(
        self,
        keys: str | Sequence[str],
        *,
        title: str = "",
        group: str = "",
        quantity: str = "phase",
        height: str = "60vh",
    ) -> None:
        super().__init__()
        self._props.update(base=BASE, title=title, group=group, quantity=quantity, height=height)
        self._props["keys"] = [keys] if isinstance(keys, str) else list(keys)
        self.classes("w-full")

    def show(self, keys: str | Sequence[str], title: str = "") -> None:
        """Show other images, by default under their own names; region and quantity stay where they fit."""
        self._props["keys"] = [keys] if isinstance(keys, str) else list(keys)
        self._props["title"] = title
        self.update()

    def set_quantity(self, name: str) -> None:
        """Show another quantity."""
        self._props["quantity"] = name
        self.update()

    def flicker(self, milliseconds: int) -> None:
        """Show the images in turn, each for this long; 0 stops."""
        self.run_method("setFlicker", milliseconds)

    async def state(self) -> dict[str, Any]:
        """What the browser shows: ``y``, ``x`` of the centre, ``scale`` (screen pixels per pixel), ``quantity``."""
        found: dict[str, Any] = await self.run_method("state", timeout=5)
        return found
