"""Registration of a reconstruction on a reference: first by coordinates, then by what the data leave undetermined.

Ptychography with an unknown probe determines the object up to a global complex scale, a linear phase ramp and a shift
(the probe takes the opposite ramp and shift). The canvases give the coordinates; scale, ramp and shift are then
estimated by least squares.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from diptych.errors import InputError
from diptych.ptycho.evaluate.options import Gauge
from diptych.ptycho.evaluate.registration.refinement import (
    ComplexImage,
    Weights,
    best_scale,
    displaced,
    finer_peak,
    patch_of,
    refine,
    values_in,
)
from diptych.ptycho.evaluate.registration.shift import (
    FAR,
    HERE,
    HERE_PX,
    NEAR,
    NEAR_PX,
    Peak,
    Surface,
    agreement,
    refined,
)
from diptych.ptycho.physics.illumination import Mask
from diptych.ptycho.physics.measured import LEAST_SIDE, Box, Light
from diptych.ptycho.scan import Canvas

NO_LIGHT = "no light reached the compared area"


LEAST_AREA = 64**2
"""Pixels below which the agreement of two images cannot tell chance from a shift: even a right image with 1 % of noise
reaches 11 on 10 x 10 px. Such images are compared by their coordinates, or at the nearest best shift."""


@dataclass(frozen=True, eq=False)
class Alignment:
    """An aligned result, the truth on the same box, and the parameters that were removed.

    Before alignment the result was, up to its errors, ``scale * exp(i ramp . (r - centre)) * truth(r - shift)`` with
    ``centre`` the middle of the box.

    Parameters
    ----------
    result, truth : Canvas
        complex128 values on the same box of coordinates.
    gauge : str
        ``full``, ``scale``, ``phase`` or ``none``.
    scale : complex
        Global factor of the result.
    ramp : (float, float)
        Phase ramp of the result (y, x), rad per object pixel.
    shift : (float, float)
        Displacement of the result (y, x), object pixels.
    mask : (h, w) bool, optional
        Pixels of the box that light reached, and that therefore count; None: not known, all count.
    doubt : str
        Why the shift is unknown, and with it every metric; empty where it was found.
    """

    result: Canvas
    truth: Canvas
    gauge: Gauge
    scale: complex = 1.0
    ramp: tuple[float, float] = (0.0, 0.0)
    shift: tuple[float, float] = (0.0, 0.0)
    mask: Mask | None = None
    doubt: str = ""

    @property
    def counted(self) -> Mask:
        """Pixels of the box that count, (h, w) bool."""
        return np.ones(self.truth.shape, bool) if self.mask is None else self.mask

    @property
    def lit_share(self) -> float | None:
        """Share of the box that counts; None where it is not known which pixels light reached."""
        return None if self.mask is None else float(self.mask.mean())

    def counting(self, light: Light | None) -> Alignment:
        """The same alignment, where pixels also count only if they are lit in ``light``, in the truth's coordinates."""
        if light is None:
            return self
        mask = light.mask(self.truth.extent) & self.counted
        if not mask.any():
            raise InputError("evaluate", NO_LIGHT, "positions and object in the same coordinates")
        return replace(self, mask=mask)

    def to_dict(self) -> dict[str, Any]:
        """The removed parameters as JSON values, units in the names."""
        return {
            "gauge": self.gauge,
            "scale_modulus": float(abs(self.scale)),
            "scale_phase_rad": float(np.angle(self.scale)),
            "ramp_rad_per_px": list(self.ramp),
            "shift_px": list(self.shift),
        }


def align(
    result: Canvas,
    truth: Canvas,
    box: Box | None = None,
    gauge: Gauge = "full",
    max_shift: int | None = None,
    light: Light | None = None,
) -> Alignment:
    """Align ``result`` with ``truth`` inside ``box``, removing no more than ``gauge`` allows.

    Parameters
    ----------
    result, truth : Canvas
        (H, W) complex images, compared by coordinates.
    box : (y0, y1, x0, x1), optional
        Half-open box of coordinates to compare, clipped to where both images are defined. Default: all of that.
    gauge : {"full", "scale", "phase", "none"}
        ``full`` removes the complex scale, ramp and shift that minimise the squared difference; ``scale`` the complex
        scale; ``phase`` the global phase; ``none`` nothing.
    max_shift : int, optional
        Largest shift searched, object pixels (``full`` only). None: the whole field; where no shift makes the images
        agree better than unrelated ones do, the alignment says so in ``doubt``.
    light : Light, optional
        Illumination of the result, in its coordinates. It weighs the squared difference, and unlit pixels have no
        influence.

    Returns
    -------
    Alignment
        With a shift, its box lacks the edge that the shifted result does not cover.

    Raises
    ------
    InputError
        If the images do not overlap by at least 8 px, no light reached the overlap, or one of them is zero there.

    Notes
    -----
    The initial shift is the peak of the normalised cross-correlation of the lag-one products of the fields, whose
    modulus does not depend on the ramp (:mod:`diptych.ptycho.evaluate.registration.shift`). A box may be stated in the
    coordinates of either image: after a shift both are tried, and the better match is kept. The initial ramp is the
    peak of the Fourier transform of result * conj(truth). Both are refined together by weighted least squares on
    ||c S_d[result exp(-i k r)] - truth||^2 with Fourier shifts S_d (image registration with sub-pixel accuracy,
    Guizar-Sicairos et al. 2008, extended by the ramp).
    """
    if gauge == "full":
        return _align_full(result, truth, box, max_shift, light)
    box = common_box(result, truth, box)
    reference, weight = _checked(result, truth, box, (0, 0), light), _weight(light, box)
    image = values_in(result, box)
    factor = {
        "none": lambda: 1.0 + 0j,
        "phase": lambda: _unit(complex(np.vdot(weight * image, reference))),
        "scale": lambda: best_scale(image, reference, weight),
    }[gauge]()
    images = _canvas(truth, factor * image, box), _canvas(truth, reference, box)
    return Alignment(*images, gauge, scale=_inverse(factor), mask=None if light is None else light.mask(box))


def common_box(result: Canvas, truth: Canvas, box: Box | None = None) -> Box:
    """The part of ``box`` where both images are defined. Raises InputError when it is empty."""
    a, b = result.extent, truth.extent
    c = box if box is not None else a
    y0, x0 = max(a[0], b[0], c[0]), max(a[2], b[2], c[2])
    y1, x1 = min(a[1], b[1], c[1]), min(a[3], b[3], c[3])
    if y0 >= y1 or x0 >= x1:
        where = "" if box is None else f" inside the box y {c[0]}..{c[1]}, x {c[2]}..{c[3]}"
        raise InputError(
            "evaluate",
            f"result (y {a[0]}..{a[1]}, x {a[2]}..{a[3]}) and truth (y {b[0]}..{b[1]}, x {b[2]}..{b[3]}) do not "
            f"overlap{where}",
            "images in the same coordinates",
            "Check the origin of each Canvas.",
        )
    return y0, y1, x0, x1


def displacement(result: Canvas, truth: Canvas, box: Box | None = None, light: Light | None = None) -> tuple[int, int]:
    """The shift (y, x) of the result on the truth in whole pixels; (0, 0) unless one stands out of the whole field."""
    shifts, _ = _shifts(result, truth, box, None, light)
    return (0, 0) if (0, 0) in shifts else shifts[-1]


def _shifts(
    result: Canvas, truth: Canvas, box: Box | None, max_shift: int | None, light: Light | None
) -> tuple[list[tuple[int, int]], str]:
    """Shifts to be tried, the best last, and why none of them can be trusted."""
    best: tuple[Surface, Canvas, Peak] | None = None
    for part in _searched(result, box):
        weight = None if light is None else light.fade(part.extent)
        surface = agreement(part.values, truth.values, _offset(part, truth), weight)
        if surface is not None and (best is None or surface.peak(max_shift).agreement > best[2].agreement):
            best = surface, part, surface.peak(max_shift)
    if best is None:
        return [(0, 0)], ""
    surface, part, whole = best
    least = min(*part.shape, *truth.shape) // 4
    near = surface.peak(min(NEAR_PX, least, *([] if max_shift is None else [max_shift])))
    here = surface.peak(HERE_PX)
    if whole.agreement >= FAR:
        weight = None if light is None else light.fade(part.extent)
        exact = refined(part.values, truth.values, _offset(part, truth), whole, surface.step, weight)
        others = [(0, 0)] if 2 * here.agreement >= whole.agreement else []
        others += [near.shift] if 2 * near.agreement >= whole.agreement else []
        return list(dict.fromkeys([*others, exact])), ""
    doubt = ""
    large = _area(part.extent) >= LEAST_AREA
    if max_shift is None and large and near.agreement < NEAR and here.agreement < HERE:
        doubt = (
            f"no shift makes the images agree better than unrelated images do (agreement {whole.agreement:.0f}, "
            f"expected at least {FAR:.0f}); gauge='scale' (--gauge scale) compares them by their coordinates"
        )
    return list(dict.fromkeys([(0, 0), near.shift])), doubt


def _searched(result: Canvas, box: Box | None) -> list[Canvas]:
    """Parts of the result to look for in the truth: what lies in ``box``, and as much in the middle of the result.

    The middle is what was scanned where the origin of the result, or its positions, are in other coordinates. What lies
    outside was hardly illuminated, and may hold anything.
    """
    if box is None:
        return [result]
    y0, y1, x0, x1 = result.extent
    down, across = (y0 + y1 - box[0] - box[1]) // 2, (x0 + x1 - box[2] - box[3]) // 2
    boxes = [box] if max(abs(down), abs(across)) <= HERE_PX else [box, displaced(box, (down, across))]
    parts = [part for each in boxes if (part := _intersection(result.extent, each)) is not None]
    large = [part for part in parts if 2 * _area(part) >= _area(box) and min(_sides(part)) >= LEAST_SIDE]
    return [result.crop(*part) for part in large] or [result]


def _offset(image: Canvas, reference: Canvas) -> tuple[int, int]:
    return image.origin[0] - reference.origin[0], image.origin[1] - reference.origin[1]


def _align_full(
    result: Canvas, truth: Canvas, box: Box | None, max_shift: int | None, light: Light | None
) -> Alignment:
    shifts, doubt = _shifts(result, truth, box, max_shift, light)
    # Unlit pixels, faded out here, would reach lit ones by the Fourier shifts.
    result = result if light is None else replace(result, values=result.values * light.fade(result.extent))
    candidates = [(shift, placed) for shift in shifts for placed in _placed(result, truth, box, shift)]
    starts = []
    for shift, placed in _lit_candidates(candidates, light):
        _checked(result, truth, placed, shift, light)
        starts.append(_coarse_ramp(result, truth, placed, shift, light))
    if not starts:
        common = common_box(result, truth, box)
        _checked(result, truth, common, (0, 0), light)
        starts = [_coarse_ramp(result, truth, common, (0, 0), light)]
        doubt = doubt or "no light reached what the images share at the shift where they agree best"
    _, coarse, ramp, inner = max(starts, key=lambda start: start[0])
    reference = values_in(truth, inner)
    patch, edge = patch_of(result, inner, coarse, ramp)
    there = displaced(inner, coarse)
    fine_ramp, fine_shift, factor, image = refine(patch, edge, reference, _weight(light, there))
    total = (ramp[0] + fine_ramp[0], ramp[1] + fine_ramp[1])
    # The ramp was removed about the middle of the shifted box; its phase there belongs to the scale.
    phase_factor = np.exp(-1j * (total[0] * coarse[0] + total[1] * coarse[1]))
    return Alignment(
        _canvas(truth, factor * image, inner),
        _canvas(truth, reference, inner),
        "full",
        scale=_inverse(factor) * phase_factor,
        ramp=total,
        shift=(coarse[0] + fine_shift[0], coarse[1] + fine_shift[1]),
        mask=None if light is None else light.mask(there),
        doubt=doubt,
    )


def _lit_candidates(
    candidates: list[tuple[tuple[int, int], Box]], light: Light | None
) -> list[tuple[tuple[int, int], Box]]:
    """Shifts and boxes that are large enough, with at least half as much light in them as in the brightest."""
    large = [(shift, box) for shift, box in candidates if min(_sides(box)) >= LEAST_SIDE]
    if light is None:
        return large
    sums = [float(light.weight(displaced(box, shift)).sum()) for shift, box in large]
    return [each for each, lit in zip(large, sums, strict=True) if lit > 0 and 2 * lit >= max(sums)]


def _checked(result: Canvas, truth: Canvas, box: Box, shift: tuple[int, int], light: Light | None) -> ComplexImage:
    """The truth in ``box``. Raises InputError when the area is too small or unlit, or an image is zero there."""
    if min(_sides(box)) < LEAST_SIDE:
        raise InputError(
            "evaluate",
            f"the compared area is {box[1] - box[0]} x {box[3] - box[2]} px",
            f"at least {LEAST_SIDE} px on a side",
            "For a scan along a line, or with very few positions, pass crop='all' (--crop all).",
        )
    if not _weight(light, displaced(box, shift)).any():
        raise InputError("evaluate", NO_LIGHT, "positions and object in the same coordinates")
    reference = values_in(truth, box)
    for name, values in (("result", values_in(result, displaced(box, shift))), ("truth", reference)):
        if not np.any(values):
            raise InputError("evaluate", f"the {name} is zero everywhere in the compared area", "an image")
    return reference


def _placed(result: Canvas, truth: Canvas, box: Box | None, shift: tuple[int, int]) -> list[Box]:
    """What the displaced result and the truth share, inside ``box`` in the coordinates of the truth or of the result.

    Both are listed only where they differ by more than a few pixels: a result with other coordinates may state its
    positions in them or not.
    """
    back = (-shift[0], -shift[1])
    both = _intersection(truth.extent, displaced(result.extent, back))
    if both is None:
        return []
    boxes = [both] if box is None else [box]
    if box is not None and max(map(abs, shift)) > HERE_PX:
        boxes.append(displaced(box, back))
    parts = [part for each in boxes if (part := _intersection(both, each)) is not None]
    largest = max(map(_area, parts), default=0)
    return [part for part in parts if 2 * _area(part) >= largest]


def _coarse_ramp(
    result: Canvas, truth: Canvas, box: Box, shift: tuple[int, int], light: Light | None
) -> tuple[float, tuple[int, int], tuple[float, float], Box]:
    """Correlation, shift, ramp (rad per pixel) and usable box for one whole-pixel shift."""
    (ry0, ry1, rx0, rx1), (dy, dx) = result.extent, shift
    # Where the result has no margin around the box, one pixel is reserved for the sub-pixel part of the shift.
    inner = (max(box[0], ry0 - dy + 1), min(box[1], ry1 - dy - 1), max(box[2], rx0 - dx + 1), min(box[3], rx1 - dx - 1))
    root = np.sqrt(_weight(light, displaced(inner, shift)))
    image = values_in(result, displaced(inner, shift)) * root
    reference = values_in(truth, inner) * root
    # Zero-padded to twice the size, the peak is at most a quarter of a cycle over the box from the true ramp: within
    # the range in which the refinement converges.
    shape = [2 * n for n in image.shape]
    product = image * reference.conj()
    surface = np.abs(np.fft.fft2(product, shape))
    ky, kx = np.unravel_index(int(surface.argmax()), surface.shape)
    near = (2 * np.pi * float(np.fft.fftfreq(shape[0])[ky]), 2 * np.pi * float(np.fft.fftfreq(shape[1])[kx]))
    height, ramp = finer_peak(product, near)
    norm = float(np.linalg.norm(image) * np.linalg.norm(reference))
    return height / max(norm, np.finfo(float).tiny), shift, ramp, inner


def _weight(light: Light | None, box: Box) -> Weights:
    """Weights of the squared differences in a box, mean 1 (h, w): the illumination of lit pixels, or 1."""
    if light is None:
        return np.ones((box[1] - box[0], box[3] - box[2]))
    weight = light.weight(box)
    return weight / max(float(weight.mean()), np.finfo(float).tiny)


def _unit(value: complex) -> complex:
    return value / abs(value) if value else 1.0 + 0j


def _inverse(factor: complex) -> complex:
    return 1 / factor if factor else complex(np.inf)


def _canvas(like: Canvas, values: ComplexImage, box: Box) -> Canvas:
    return replace(like, values=values, origin=(box[0], box[2]))


def _intersection(a: Box, b: Box) -> Box | None:
    y0, y1, x0, x1 = max(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), min(a[3], b[3])
    return (y0, y1, x0, x1) if y0 < y1 and x0 < x1 else None


def _sides(box: Box) -> tuple[int, int]:
    return box[1] - box[0], box[3] - box[2]


def _area(box: Box) -> int:
    return _sides(box)[0] * _sides(box)[1]
