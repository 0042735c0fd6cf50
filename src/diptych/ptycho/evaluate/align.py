"""Registration of a reconstruction on a reference: first by coordinates, then by what the data leave undetermined.

Ptychography with an unknown probe determines the object up to a global complex scale, a linear phase ramp and a shift
(the probe takes the opposite ramp and shift). The canvases give the coordinates; scale, ramp and shift are then
estimated by least squares.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.evaluate.options import Gauge
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
from diptych.ptycho.evaluate.report import Box
from diptych.ptycho.scan import Canvas

ComplexImage = NDArray[np.complex128]

_MARGIN = 16
"""Margin around the compared box during Fourier shifts, px, so that the taper at the border lies outside the box."""

_MIN_SIDE = 8
"""Smallest side of an area that can be compared, px."""


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
    doubt : str
        Why the shift is unknown, and with it every metric; empty where it was found.
    """

    result: Canvas
    truth: Canvas
    gauge: Gauge
    scale: complex = 1.0
    ramp: tuple[float, float] = (0.0, 0.0)
    shift: tuple[float, float] = (0.0, 0.0)
    doubt: str = ""

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
    result: Canvas, truth: Canvas, box: Box | None = None, gauge: Gauge = "full", max_shift: int | None = None
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

    Returns
    -------
    Alignment
        With a shift, its box lacks the edge that the shifted result does not cover.

    Raises
    ------
    InputError
        If the images do not overlap by at least 8 px, or one of them is zero there.

    Notes
    -----
    The initial shift is the peak of the normalised cross-correlation of the lag-one products of the fields, whose
    modulus does not depend on the ramp (:mod:`diptych.ptycho.evaluate.registration.shift`). A box may be stated in the
    coordinates of either image: after a shift both are tried, and the better match is kept. The initial ramp is the
    peak of the Fourier transform of result * conj(truth). Both are refined together by least squares on ||c S_d[result
    exp(-i k r)] - truth||^2 with Fourier shifts S_d (image registration with sub-pixel accuracy, Guizar-Sicairos et al.
    2008, extended by the ramp).
    """
    if gauge == "full":
        return _align_full(result, truth, box, max_shift)
    box = common_box(result, truth, box)
    reference = _checked(result, truth, box, (0, 0))
    image = _values(result, box)
    factor = {
        "none": lambda: 1.0 + 0j,
        "phase": lambda: _unit(complex(np.vdot(image, reference))),
        "scale": lambda: _best_scale(image, reference),
    }[gauge]()
    return Alignment(_canvas(truth, factor * image, box), _canvas(truth, reference, box), gauge, scale=_inverse(factor))


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


def displacement(result: Canvas, truth: Canvas, box: Box | None = None) -> tuple[int, int]:
    """The shift (y, x) of the result on the truth in whole pixels; (0, 0) unless one stands out of the whole field."""
    shifts, _ = _shifts(result, truth, box, None)
    return (0, 0) if (0, 0) in shifts else shifts[-1]


def _shifts(result: Canvas, truth: Canvas, box: Box | None, max_shift: int | None) -> tuple[list[tuple[int, int]], str]:
    """Shifts to be tried, the best last, and why none of them can be trusted."""
    best: tuple[Surface, Canvas, Peak] | None = None
    for part in _searched(result, box):
        surface = agreement(part.values, truth.values, _offset(part, truth))
        if surface is not None and (best is None or surface.peak(max_shift).agreement > best[2].agreement):
            best = surface, part, surface.peak(max_shift)
    if best is None:
        return [(0, 0)], ""
    surface, part, whole = best
    least = min(*part.shape, *truth.shape) // 4
    near = surface.peak(min(NEAR_PX, least, *([] if max_shift is None else [max_shift])))
    here = surface.peak(HERE_PX)
    if whole.agreement >= FAR:
        exact = refined(part.values, truth.values, _offset(part, truth), whole, surface.step)
        others = [(0, 0)] if 2 * here.agreement >= whole.agreement else []
        others += [near.shift] if 2 * near.agreement >= whole.agreement else []
        return list(dict.fromkeys([*others, exact])), ""
    doubt = ""
    if max_shift is None and near.agreement < NEAR and here.agreement < HERE:
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
    boxes = [box] if max(abs(down), abs(across)) <= HERE_PX else [box, _displaced(box, (down, across))]
    parts = [part for each in boxes if (part := _intersection(result.extent, each)) is not None]
    large = [part for part in parts if 2 * _area(part) >= _area(box) and min(_sides(part)) >= _MIN_SIDE]
    return [result.crop(*part) for part in large] or [result]


def _offset(image: Canvas, reference: Canvas) -> tuple[int, int]:
    return image.origin[0] - reference.origin[0], image.origin[1] - reference.origin[1]


def _align_full(result: Canvas, truth: Canvas, box: Box | None, max_shift: int | None) -> Alignment:
    shifts, doubt = _shifts(result, truth, box, max_shift)
    starts = []
    for shift in shifts:
        for placed in _placed(result, truth, box, shift):
            if min(_sides(placed)) >= _MIN_SIDE:
                _checked(result, truth, placed, shift)
                starts.append(_coarse_ramp(result, truth, placed, shift))
    if not starts:
        _checked(result, truth, common_box(result, truth, box), (0, 0))
    _, coarse, ramp, inner = max(starts, key=lambda start: start[0])
    reference = _values(truth, inner)
    patch, edge = _patch(result, inner, coarse, ramp)
    fine_ramp, fine_shift, factor, image = _refine(patch, edge, reference)
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
        doubt=doubt,
    )


def _checked(result: Canvas, truth: Canvas, box: Box, shift: tuple[int, int]) -> ComplexImage:
    """The truth in ``box``. Raises InputError when the area is too small, or an image is zero there."""
    if min(_sides(box)) < _MIN_SIDE:
        raise InputError(
            "evaluate",
            f"the compared area is {box[1] - box[0]} x {box[3] - box[2]} px",
            f"at least {_MIN_SIDE} px on a side",
            "For a scan along a line, or with very few positions, pass crop='all' (--crop all).",
        )
    reference = _values(truth, box)
    for name, values in (("result", _values(result, _displaced(box, shift))), ("truth", reference)):
        if not np.any(values):
            raise InputError("evaluate", f"the {name} is zero everywhere in the compared area", "an image")
    return reference


def _placed(result: Canvas, truth: Canvas, box: Box | None, shift: tuple[int, int]) -> list[Box]:
    """What the displaced result and the truth share, inside ``box`` in the coordinates of the truth or of the result.

    Both are listed only where they differ by more than a few pixels: a result with other coordinates may state its
    positions in them or not.
    """
    back = (-shift[0], -shift[1])
    both = _intersection(truth.extent, _displaced(result.extent, back))
    if both is None:
        return []
    boxes = [both] if box is None else [box]
    if box is not None and max(map(abs, shift)) > HERE_PX:
        boxes.append(_displaced(box, back))
    parts = [part for each in boxes if (part := _intersection(both, each)) is not None]
    largest = max(map(_area, parts), default=0)
    return [part for part in parts if 2 * _area(part) >= largest]


def _coarse_ramp(
    result: Canvas, truth: Canvas, box: Box, shift: tuple[int, int]
) -> tuple[float, tuple[int, int], tuple[float, float], Box]:
    """Correlation, shift, ramp (rad per pixel) and usable box for one whole-pixel shift."""
    (ry0, ry1, rx0, rx1), (dy, dx) = result.extent, shift
    # Where the result has no margin around the box, one pixel is reserved for the sub-pixel part of the shift.
    inner = (max(box[0], ry0 - dy + 1), min(box[1], ry1 - dy - 1), max(box[2], rx0 - dx + 1), min(box[3], rx1 - dx - 1))
    image = _values(result, _displaced(inner, shift))
    reference = _values(truth, inner)
    # Zero-padded to twice the size, the peak is at most a quarter of a cycle over the box from the true ramp: within
    # the range in which the refinement converges.
    shape = [2 * n for n in image.shape]
    surface = np.abs(np.fft.fft2(image * reference.conj(), shape))
    ky, kx = np.unravel_index(int(surface.argmax()), surface.shape)
    ramp = (2 * np.pi * float(np.fft.fftfreq(shape[0])[ky]), 2 * np.pi * float(np.fft.fftfreq(shape[1])[kx]))
    norm = float(np.linalg.norm(image) * np.linalg.norm(reference))
    return float(surface[ky, kx]) / max(norm, np.finfo(float).tiny), shift, ramp, inner


def _patch(result: Canvas, box: Box, shift: tuple[int, int], ramp: tuple[float, float]) -> tuple[ComplexImage, int]:
    """The result on the box displaced by ``shift``, without the ramp, with a tapered margin on all sides."""
    wanted = _displaced(box, shift)
    grown = (wanted[0] - _MARGIN, wanted[1] + _MARGIN, wanted[2] - _MARGIN, wanted[3] + _MARGIN)
    ry0, ry1, rx0, rx1 = result.extent
    have = (max(grown[0], ry0), min(grown[1], ry1), max(grown[2], rx0), min(grown[3], rx1))
    values = _values(result, have)
    centre = ((wanted[0] + wanted[1] - 1) / 2, (wanted[2] + wanted[3] - 1) / 2)
    y = np.arange(have[0], have[1]) - centre[0]
    x = np.arange(have[2], have[3]) - centre[1]
    values = values * np.exp(-1j * ramp[0] * y)[:, None] * np.exp(-1j * ramp[1] * x)
    # Outside the result, its mirror image keeps the field continuous.
    missing = ((have[0] - grown[0], grown[1] - have[1]), (have[2] - grown[2], grown[3] - have[3]))
    values = np.pad(values, missing, mode="reflect" if min(values.shape) > 1 else "edge")
    return values * _taper(values.shape[0])[:, None] * _taper(values.shape[1]), _MARGIN


def _taper(length: int) -> NDArray[np.float64]:
    """Window that is 1 inside and falls smoothly to 0 over the outer half of each margin, for Fourier shifts."""
    window = np.ones(length)
    rise = np.sin(np.pi / 2 * (np.arange(_MARGIN // 2) + 0.5) / (_MARGIN // 2)) ** 2
    window[: len(rise)] = rise
    window[-len(rise) :] = rise[::-1]
    return window


def _refine(
    patch: ComplexImage, edge: int, reference: ComplexImage
) -> tuple[tuple[float, float], tuple[float, float], complex, ComplexImage]:
    """Least squares over ramp and shift by L-BFGS-B, the complex scale eliminated.

    Gauss-Newton converges slowly here, because noise inflates the gradients that scale its steps.
    Returns the ramp (rad per pixel), the shift (px), the factor that brings the image to the reference, and the image.
    """
    from scipy.optimize import minimize

    y, x = (np.arange(n) - (n - 1) / 2 for n in patch.shape)
    inside = (slice(edge, -edge), slice(edge, -edge))
    yi, xi = y[edge:-edge, None], x[None, edge:-edge]
    power = float(np.vdot(reference, reference).real)
    # The curvatures of the noise-free problem give all four parameters the same scale.
    slopes = [float(np.linalg.norm(np.gradient(reference, axis=axis))) for axis in (0, 1)]
    levers = [float(np.linalg.norm(yi * reference)), float(np.linalg.norm(xi * reference))]
    unit = np.sqrt(power) / np.maximum([*levers, *slopes], 1e-3 * np.sqrt(power))

    def relative_error(scaled: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        image, down, across = _shifted(patch, y, x, scaled * unit, inside)
        factor = _best_scale(image, reference)
        residual = factor * image - reference
        # The derivative with respect to the eliminated factor is zero at its optimum.
        columns = (-1j * yi * image, -1j * xi * image, down, across)
        gradient = np.array([2 * np.vdot(residual, factor * column).real for column in columns]) * unit / power
        return float(np.vdot(residual, residual).real) / power, gradient

    # Bounds: the shift stays inside the margin, the ramp near the Fourier peak.
    reach = np.array([2 * np.pi / len(yi), 2 * np.pi / xi.size, edge / 2, edge / 2]) / unit
    found = minimize(
        relative_error,
        np.zeros(4),
        jac=True,
        method="L-BFGS-B",
        bounds=np.stack([-reach, reach], axis=1),
        options={"maxiter": 100, "ftol": 1e-16, "gtol": 1e-10},
    )
    best = np.asarray(found.x * unit, np.float64)
    image = _shifted(patch, y, x, best, inside)[0]
    return (float(best[0]), float(best[1])), (float(best[2]), float(best[3])), _best_scale(image, reference), image


def _shifted(
    patch: ComplexImage,
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    parameters: NDArray[np.float64],
    inside: tuple[slice, slice],
) -> tuple[ComplexImage, ComplexImage, ComplexImage]:
    """A(r + d) with A = patch exp(-i k r), and its derivatives along y and x; all cut to the box."""
    ky, kx, dy, dx = parameters
    spectrum = np.fft.fft2(patch * np.exp(-1j * ky * y)[:, None] * np.exp(-1j * kx * x))
    wy, wx = (2j * np.pi * np.fft.fftfreq(n) for n in patch.shape)
    spectrum = spectrum * np.exp(wy * dy)[:, None] * np.exp(wx * dx)
    image, down, across = (np.fft.ifft2(field)[inside] for field in (spectrum, spectrum * wy[:, None], spectrum * wx))
    return image, down, across


def _best_scale(image: ComplexImage, reference: ComplexImage) -> complex:
    """The factor c that minimises ||c image - reference||."""
    return complex(np.vdot(image, reference) / max(np.vdot(image, image).real, np.finfo(float).tiny))


def _unit(value: complex) -> complex:
    return value / abs(value) if value else 1.0 + 0j


def _inverse(factor: complex) -> complex:
    return 1 / factor if factor else complex(np.inf)


def _values(canvas: Canvas, box: Box) -> ComplexImage:
    return canvas.crop(*box).values.astype(np.complex128)


def _canvas(like: Canvas, values: ComplexImage, box: Box) -> Canvas:
    return replace(like, values=values, origin=(box[0], box[2]))


def _displaced(box: Box, shift: tuple[int, int]) -> Box:
    return box[0] + shift[0], box[1] + shift[0], box[2] + shift[1], box[3] + shift[1]


def _intersection(a: Box, b: Box) -> Box | None:
    y0, y1, x0, x1 = max(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), min(a[3], b[3])
    return (y0, y1, x0, x1) if y0 < y1 and x0 < x1 else None


def _sides(box: Box) -> tuple[int, int]:
    return box[1] - box[0], box[3] - box[2]


def _area(box: Box) -> int:
    return _sides(box)[0] * _sides(box)[1]
