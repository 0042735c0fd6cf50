"""Viewer images of results and of differences between aligned results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.evaluate.gauge import resolve_gauge
from diptych.ptycho.figures.area import shown_box
from diptych.ptycho.figures.colours import mean_ramp
from diptych.ptycho.figures.panels import length_text
from diptych.ptycho.physics.illumination import Mask
from diptych.ptycho.physics.measured import Box, light_of
from diptych.ptycho.scan import Reconstruction
from diptych.studio.components.viewer.pyramid import Pyramid
from diptych.studio.components.viewer.source import ComplexLayers, ImageSource, PixelSize, Quantity, Unwrapped, real

ERRORS = (
    ("error", "Standard error", ""),
    ("amplitude_error", "Standard error of the amplitude", ""),
    ("phase_error", "Standard error of the phase", "rad"),
)
"""Error maps of a result: field, label and unit."""


def image_of_file(path: Path) -> ImageSource:
    """The image of a result file. Raises InputError where it holds none."""
    from diptych.ptycho.io import load_result

    return image_of_result(load_result(path), path.name)


def image_of_result(result: Reconstruction, name: str | None = None) -> ImageSource:
    """The image of a result, with its illumination and error maps where they are known.

    The phase has mean 0 over the lit pixels; its mean ramp is removed when the probe was refined, because the data do
    not determine it then.
    """
    light = light_of(result)
    mask, weight = None, None
    if light is not None and (inside := light.mask(result.object.extent)).any():
        mask, weight = inside, np.asarray(light.weight(result.object.extent), np.float32)
    ramp = resolve_gauge("auto", result)[0] == "full"
    values = levelled(result.object.values, mask, weight, ramp=ramp)
    more = {}
    if light is not None:
        shown = light.values if light.values.shape == result.object.shape else None
        if shown is not None:
            more["illumination"] = ("Illumination", "photons", np.asarray(shown, np.float32))
    for key, label, unit in ERRORS:
        if (found := getattr(result, key)) is not None:
            more[key] = (label, unit, np.asarray(found, np.float32))
    return image_of_values(
        values,
        name or result.name,
        mask=mask,
        origin=result.object.origin,
        pixel_m=result.object.pixel_m,
        focus=shown_box(result.positions, light),
        phase_label="Phase, ramp removed" if ramp else "Phase",
        more=more,
    )


def slice_of_file(path: Path, index: int) -> ImageSource:
    """One slice (from 0) of the result of a thick object, levelled and lit as the whole. Raises InputError without."""
    from diptych.ptycho.io import load_result

    found = load_result(path)
    if found.slices is None or not 0 <= index < len(found.slices):
        has = "one slice" if found.slices is None else f"{len(found.slices)} slices"
        raise InputError(path.name, f"has {has}, and slice {index + 1} was asked for", "a slice that it has")
    # Error maps are those of the product.
    alone = replace(found, object=replace(found.object, values=found.slices[index]), slices=None)
    alone = replace(alone, error=None, amplitude_error=None, phase_error=None)
    return image_of_result(alone, f"{path.name}, {slice_names(found)[index]}")


def slice_names(result: Reconstruction) -> list[str]:
    """What each slice is called, with its depth where that is known; empty for a thin object."""
    if result.slices is None:
        return []
    apart, count = result.slice_distance_m, len(result.slices)
    deep = ["" if apart is None else f", at {length_text(k * apart)}" if k else ", at 0" for k in range(count)]
    return [f"slice {k + 1} of {count}{depth}" for k, depth in enumerate(deep)]


def image_of_values(
    values: NDArray[Any],
    name: str,
    *,
    mask: Mask | None = None,
    origin: tuple[int, int] = (0, 0),
    pixel_m: PixelSize = None,
    focus: Box | None = None,
    phase_label: str = "Phase",
    more: dict[str, tuple[str, str, NDArray[np.float32]]] | None = None,
) -> ImageSource:
    """The image of a complex field (H, W).

    Parameters
    ----------
    values : (H, W) complex
        Shown as it is.
    name : str
        Heading.
    mask : (H, W) bool, optional
        Pixels that light reached.
    origin, pixel_m, focus
        As in :class:`~diptych.studio.components.viewer.source.ImageSource`.
    phase_label : str
        What the phase is called.
    more : dict of str to (label, unit, (H, W) float32), optional
        Further maps of the same size.
    """
    layers = ComplexLayers(np.ascontiguousarray(values, np.complex64))
    lit = _lit_levels(mask)
    quantities = [
        Quantity("amplitude", "Amplitude", "", "sequential", layers.amplitude),
        Quantity("phase", phase_label, "rad", "cyclic", layers.phase),
        Quantity("unwrapped", "Unwrapped phase", "rad", "sequential", Unwrapped(layers, lit)),
        Quantity("complex", "Hue: phase, brightness: amplitude", "", "complex", layers.amplitude, layers.phase),
    ]
    size = layers.nbytes
    for key, (label, unit, array) in (more or {}).items():
        pyramid = Pyramid.of(array)
        size += pyramid.nbytes
        quantities.append(Quantity(key, label, unit, "sequential", real(pyramid)))
    return ImageSource(
        name,
        (int(values.shape[0]), int(values.shape[1])),
        layers.levels,
        {each.name: each for each in quantities},
        (int(origin[0]), int(origin[1])),
        pixel_m,
        lit,
        focus,
        size,
    )


def image_of_difference(
    first: NDArray[Any],
    second: NDArray[Any],
    name: str,
    *,
    mask: Mask | None = None,
    origin: tuple[int, int] = (0, 0),
    pixel_m: PixelSize = None,
) -> ImageSource:
    """Differences ``first - second`` of two aligned complex fields (H, W): of phase, of amplitude, and complex."""
    product = np.asarray(first * second.conj(), np.complex64)
    maps = {
        "phase-difference": ("Phase difference", "rad", np.angle(product)),
        "amplitude-difference": ("Amplitude difference", "", np.abs(first) - np.abs(second)),
        "complex-difference": ("Modulus of the complex difference", "", np.abs(first - second)),
    }
    pyramids = {key: Pyramid.of(np.asarray(array, np.float32)) for key, (_, _, array) in maps.items()}
    quantities = {
        key: Quantity(key, label, unit, "sequential" if key.startswith("complex") else "diverging", real(pyramids[key]))
        for key, (label, unit, _) in maps.items()
    }
    levels = len(next(iter(pyramids.values())).levels)
    size = sum(each.nbytes for each in pyramids.values())
    shape = (int(product.shape[0]), int(product.shape[1]))
    return ImageSource(name, shape, levels, quantities, origin, pixel_m, _lit_levels(mask), None, size)


def levelled(
    values: NDArray[Any], mask: Mask | None, weight: NDArray[np.float32] | None, *, ramp: bool
) -> NDArray[np.complex64]:
    """The field (H, W) with mean phase 0 over the lit pixels; with ``ramp``, without their mean phase ramp."""
    field = np.asarray(values, np.complex64)
    counted = field if mask is None else np.where(mask, field, np.complex64(0))
    if ramp:
        slope = mean_ramp(counted, weight)
        y, x = (np.arange(n) - (n - 1) / 2 for n in field.shape)
        turn = [np.exp(-1j * s * axis).astype(np.complex64) for s, axis in zip(slope, (y, x), strict=True)]
        field = field * turn[0][:, None] * turn[1]
        counted = counted * turn[0][:, None] * turn[1]
    mean = complex((counted if weight is None else counted * weight).sum(dtype=np.complex128))
    return field * np.complex64(np.exp(-1j * np.angle(mean))) if mean else field


def _lit_levels(mask: Mask | None) -> tuple[Mask, ...] | None:
    if mask is None or mask.all():
        return None
    shares = Pyramid.of(mask.astype(np.float32))
    return tuple(np.asarray(level >= 0.5) for level in shares.levels)
