"""Lengths that the formats of other programs state in metres, where diptych counts in object pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.scan import Reconstruction, Scan


def pixel_m(item: Scan | Reconstruction, path: Path, format_: str) -> tuple[float, float]:
    """The object pixel (y, x) in metres.

    Raises
    ------
    InputError
        If it is not known: the format has no place for lengths in pixels.
    """
    if isinstance(item, Scan):
        found = item.pixel_m
    else:
        stated = item.geometry.object_pixel_m(item.probe.shape[-1]) if item.geometry is not None else None
        found = item.object.pixel_m or stated
    if found is None:
        raise InputError(
            path,
            f"the object pixel of {item.name} is not known, and {format_} holds lengths in metres",
            "energy, distance and detector pixel",
            "Pass them when the scan is read (--energy-eV, --distance-m, --detector-pixel-m), or write .h5 or .npz.",
        )
    return found


def corners(result: Reconstruction) -> NDArray[np.float64]:
    """First pixel (M, 2) of each window, counted from the object's pixel [0, 0]; fractional."""
    first: NDArray[np.float64] = result.positions - np.asarray(result.object.origin) - result.probe.shape[-1] // 2
    return first


def losses(result: Reconstruction) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Epochs and losses (or fits, where there are no losses), of equal length."""
    column = next((name for name in ("loss", "fit") if name in result.history), None)
    values = np.asarray(result.history[column] if column else [], np.float64)
    epochs = np.asarray(result.history.get("epoch", []), np.float64)
    if epochs.shape != values.shape or not np.isfinite(epochs).all():
        epochs = np.arange(1.0, len(values) + 1)
    return np.rint(epochs).astype(np.int64), values


def photons(probe: NDArray[Any]) -> float:
    """Sum of the squared modulus over all modes."""
    return float(np.sum(np.abs(probe.astype(np.complex128)) ** 2))


def square(pixel: tuple[float, float], path: Path, format_: str) -> float:
    """The side of a square object pixel.

    Raises
    ------
    InputError
        If height and width differ by more than 1e-9.
    """
    if abs(pixel[0] - pixel[1]) > 1e-9 * max(pixel):
        raise InputError(
            path,
            f"the object pixel is {pixel[0]:.6g} x {pixel[1]:.6g} m, and {format_} holds one length",
            "a square pixel",
            "Write another format.",
        )
    return pixel[0]
