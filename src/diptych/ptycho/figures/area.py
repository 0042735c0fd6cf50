"""What figures show of a result: the area that was scanned, and which of its pixels light reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.ptycho.evaluate.align import common_box
from diptych.ptycho.figures.colours import RGB, level_phase
from diptych.ptycho.physics.illumination import Mask
from diptych.ptycho.physics.measured import Box, Light, compared_box, light_of
from diptych.ptycho.scan import Canvas, Reconstruction

UNLIT = (0.80, 0.82, 0.86)
"""Colour of pixels that no light reached; stripes in :data:`STRIPE` tell it from a value."""

STRIPE = (0.55, 0.57, 0.62)

UNLIT_LABEL = "not illuminated"

ISOLATED = 0.02
"""A connected lit area with less than this share of the light of the brightest one is left out of figures: one position
far from hundreds of others would shrink these to a dot."""


@dataclass(frozen=True, eq=False)
class Shown:
    """The part of a result that a figure shows.

    Parameters
    ----------
    canvas : Canvas
        (H, W) object.
    lit : (H, W) bool
        Pixels that light reached; all where that is not known.
    weight : (H, W)
        Illumination of the lit pixels, 0 elsewhere; 1 where it is not known.
    """

    canvas: Canvas
    lit: Mask
    weight: NDArray[np.float64]

    def levelled(self, ramp: bool) -> NDArray[Any]:
        """The object with mean phase 0 over the lit pixels; with ``ramp``, without their mean phase ramp."""
        return level_phase(np.where(self.lit, self.canvas.values, 1), ramp, self.weight)


def shown_part(result: Reconstruction, box: Box | None = None) -> Shown:
    """What a figure shows of a result: a box of coordinates, by default :func:`shown_box`."""
    light = light_of(result)
    wanted = box or shown_box(result.positions, light)
    image = result.object
    canvas = image if wanted is None else image.crop(*common_box(image, image, wanted))
    return shown_canvas(canvas, light)


def shown_canvas(canvas: Canvas, light: Light | None) -> Shown:
    """A canvas with its lit pixels; all of them count where the illumination is not known, or none was lit."""
    if light is not None and (mask := light.mask(canvas.extent)).any():
        return Shown(canvas, mask, light.weight(canvas.extent))
    return Shown(canvas, np.ones(canvas.shape, bool), np.ones(canvas.shape))


def shown_box(positions: NDArray[np.float64], light: Light | None) -> Box | None:
    """The box between the outermost positions, without isolated ones (:data:`ISOLATED`); None for all of the object,
    where neither positions nor illumination bound an area.
    """
    if not len(positions):
        return None
    box = compared_box(positions, light)
    if light is not None:
        box = _without_isolated(box, light)
    return box if min(box[1] - box[0], box[3] - box[2]) >= 2 else None


def _without_isolated(box: Box, light: Light) -> Box:
    """The bounding box of the lit areas that are not isolated, inside ``box``."""
    from scipy.ndimage import find_objects, label

    parts, count = label(light.mask(box))
    if not count:
        return box
    power = np.bincount(parts.ravel(), light.weight(box).ravel())
    power[0] = 0
    kept = power >= ISOLATED * power.max()
    rows, columns = find_objects(kept[parts].astype(np.int8))[0]
    return box[0] + rows.start, box[0] + rows.stop, box[2] + columns.start, box[2] + columns.stop


def striped(image: RGB, lit: Mask) -> RGB:
    """An RGB image (H, W, 3) with diagonal stripes where no light came, for pictures without axes."""
    y, x = np.indices(lit.shape)
    stripes = np.where((((y + x) // 3) % 3 == 0)[..., None], STRIPE, UNLIT)
    return np.where(lit[..., None], image, stripes)
