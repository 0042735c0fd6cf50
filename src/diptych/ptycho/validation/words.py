"""Sizes in words, for the text that stands for a data type."""

from __future__ import annotations

from collections.abc import Sized


def pixel_words(pixel_m: tuple[float, float] | None) -> str:
    """Pixel height and width, after a comma; nothing where they are not known."""
    return "" if pixel_m is None else f", pixel {1e9 * pixel_m[0]:.3g} x {1e9 * pixel_m[1]:.3g} nm"


def mode_words(probe: Sized) -> str:
    """Number of probe modes."""
    return f"{len(probe)} probe mode{'s' if len(probe) > 1 else ''}"
