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
from diptych.ptycho.physics.illumination import Mask
from diptych.ptycho.physics.measured import LEAST_SIDE, Box, Light
from diptych.ptycho.scan import Canvas

ComplexImage = NDArray[np.complex128]
Weights = NDArray[np.float64]

NO_LIGHT = "no light reached the compared area"

_MARGIN = 16
"""Margin around the compared box during Fourier shifts, px, so that the taper at the border lies outside the box."""


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
    """

    result: Canvas
    truth: Canvas
    gauge: Gauge
    scale: complex = 1.0
    ramp: tuple[float, float] = (0.0, 0.0)
    shift: tuple[float, float] = (0.0, 0.0)
    mask: Mask | None = None

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
    max_shift: int = 16,
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
    max_shift : int
        Largest shift searched, object pixels (``full`` only).
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
    The initial shift is the peak of the cross-correlation of the lag-one products of the fields, whose modulus does not
    depend on the ramp. The initial ramp is the peak of the Fourier transform of result * conj(truth). Both are refined
    together by weighted least squares on ||c S_d[result exp(-i k r)] - truth||^2 with Fourier shifts S_d (image
    registration with sub-pixel accuracy, Guizar-Sicairos et al. 2008, extended by the ramp).
    """
    box = common_box(result, truth, box)
    if min(box[1] - box[0], box[3] - box[2]) < LEAST_SIDE:
        raise InputError(
            "evaluate",
            f"the compared area is {box[1] - box[0]} x {box[3] - box[2]} px",
            f"at least {LEAST_SIDE} px on a side",
            "For a scan along a line, or with very few positions, pass crop='all' (--crop all).",
        )
    reference, weight = _values(truth, box), _weight(light, box)
    if not weight.any():
        raise InputError("evaluate", NO_LIGHT, "positions and object in the same coordinates")
    for name, values in (("result", _values(result, box)), ("truth", reference)):
        if not np.any(values):
            raise InputError("evaluate", f"the {name} is zero everywhere in the compared area", "an image")
    if gauge == "full":
        return _align_full(result, truth, box, min(max_shift, min(reference.shape) // 4), light)
    image = _values(result, box)
    factor = {
        "none": lambda: 1.0 + 0j,
        "phase": lambda: _unit(complex(np.vdot(weight * image, reference))),
        "scale": lambda: _best_scale(image, reference, weight),
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


def _align_full(result: Canvas, truth: Canvas, box: Box, max_shift: int, light: Light | None) -> Alignment:
    # Unlit pixels, faded out here, would reach lit ones by the Fourier shifts.
    result = result if light is None else replace(result, values=result.values * light.fade(result.extent))
    whole = _coarse_shift(_values(truth, box), _values(result, box), max_shift)
    starts = [_coarse_ramp(result, truth, box, shift, light) for shift in dict.fromkeys([(0, 0), whole])]
    _, coarse, ramp, inner = max(starts, key=lambda start: start[0])
    reference = _values(truth, inner)
    patch, edge = _patch(result, inner, coarse, ramp)
    there = _displaced(inner, coarse)
    fine_ramp, fine_shift, factor, image = _refine(patch, edge, reference, _weight(light, there))
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
    )


def _coarse_shift(reference: ComplexImage, image: ComplexImage, reach: int) -> tuple[int, int]:
    """Whole-pixel displacement of ``image`` on ``reference``, independent of phase ramps.

    A ramp multiplies the lag-one product X(r + 1) conj(X(r)) by a constant phase, so the modulus of the products'
    cross-correlation peaks at the displacement.
    """
    if reach == 0 or min(reference.shape) < 4:
        return 0, 0
    shape = [n + reach for n in reference.shape]
    surface = np.zeros(shape)
    for axis in (0, 1):
        spectra = [np.fft.fft2(_lag_one(field, axis), shape) for field in (image, reference)]
        surface += np.abs(np.fft.ifft2(spectra[0] * spectra[1].conj()))
    lags = np.arange(-reach, reach + 1)
    near = surface[np.ix_(lags, lags)]
    y, x = np.unravel_index(int(near.argmax()), near.shape)
    return int(lags[y]), int(lags[x])


def _lag_one(field: ComplexImage, axis: int) -> ComplexImage:
    ahead, here = (field[1:], field[:-1]) if axis == 0 else (field[:, 1:], field[:, :-1])
    product = ahead * here.conj()
    return np.asarray(product - product.mean())


def _coarse_ramp(
    result: Canvas, truth: Canvas, box: Box, shift: tuple[int, int], light: Light | None
) -> tuple[float, tuple[int, int], tuple[float, float], Box]:
    """Correlation, shift, ramp (rad per pixel) and usable box for one whole-pixel shift."""
    (ry0, ry1, rx0, rx1), (dy, dx) = result.extent, shift
    # Where the result has no margin around the box, one pixel is reserved for the sub-pixel part of the shift.
    inner = (max(box[0], ry0 - dy + 1), min(box[1], ry1 - dy - 1), max(box[2], rx0 - dx + 1), min(box[3], rx1 - dx - 1))
    root = np.sqrt(_weight(light, _displaced(inner, shift)))
    image = _values(result, _displaced(inner, shift)) * root
    reference = _values(truth, inner) * root
    # Zero-padded to twice the size, the peak is at most a quarter of a cycle over the box from the true ramp: within
    # the range in which the refinement converges.
    shape = [2 * n for n in image.shape]
    product = image * reference.conj()
    surface = np.abs(np.fft.fft2(product, shape))
    ky, kx = np.unravel_index(int(surface.argmax()), surface.shape)
    near = (2 * np.pi * float(np.fft.fftfreq(shape[0])[ky]), 2 * np.pi * float(np.fft.fftfreq(shape[1])[kx]))
    height, ramp = _finer_peak(product, near)
    norm = float(np.linalg.norm(image) * np.linalg.norm(reference))
    return height / max(norm, np.finfo(float).tiny), shift, ramp, inner


def _finer_peak(product: ComplexImage, near: tuple[float, float]) -> tuple[float, tuple[float, float]]:
    """Height and place (rad per pixel) of the highest value of a Fourier transform within two cycles of ``near``.

    Between lit areas with a gap the peak has side lobes of nearly its height, and the grid of an FFT may meet one of
    them better.
    """
    cycles = np.arange(-16, 17) / 8
    ramps = [k + 2 * np.pi * cycles / n for k, n in zip(near, product.shape, strict=True)]
    down, across = (np.exp(-1j * k[:, None] * np.arange(n)) for k, n in zip(ramps, product.shape, strict=True))
    surface = np.abs(down @ product @ across.T)
    y, x = np.unravel_index(int(surface.argmax()), surface.shape)
    return float(surface[y, x]), (float(ramps[0][y]), float(ramps[1][x]))


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
    patch: ComplexImage, edge: int, reference: ComplexImage, weight: Weights
) -> tuple[tuple[float, float], tuple[float, float], complex, ComplexImage]:
    """Least squares over ramp and shift by L-BFGS-B, the complex scale eliminated.

    Gauss-Newton converges slowly here, because noise inflates the gradients that scale its steps.
    Returns the ramp (rad per pixel), the shift (px), the factor that brings the image to the reference, and the image.
    """
    from scipy.optimize import minimize

    y, x = (np.arange(n) - (n - 1) / 2 for n in patch.shape)
    inside = (slice(edge, -edge), slice(edge, -edge))
    yi, xi = y[edge:-edge, None], x[None, edge:-edge]
    power = float(np.vdot(reference, weight * reference).real)
    root = np.sqrt(weight)
    # The curvatures of the noise-free problem give all four parameters the same scale.
    slopes = [float(np.linalg.norm(root * np.gradient(reference, axis=axis))) for axis in (0, 1)]
    levers = [float(np.linalg.norm(root * yi * reference)), float(np.linalg.norm(root * xi * reference))]
    unit = np.sqrt(power) / np.maximum([*levers, *slopes], 1e-3 * np.sqrt(power))

    def relative_error(scaled: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        image, down, across = _shifted(patch, y, x, scaled * unit, inside)
        factor = _best_scale(image, reference, weight)
        residual = factor * image - reference
        weighted = weight * residual
        # The derivative with respect to the eliminated factor is zero at its optimum.
        columns = (-1j * yi * image, -1j * xi * image, down, across)
        gradient = np.array([2 * np.vdot(weighted, factor * column).real for column in columns]) * unit / power
        return float(np.vdot(weighted, residual).real) / power, gradient

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
    ramp, shift = (float(best[0]), float(best[1])), (float(best[2]), float(best[3]))
    return ramp, shift, _best_scale(image, reference, weight), image


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


def _best_scale(image: ComplexImage, reference: ComplexImage, weight: Weights) -> complex:
    """The factor c that minimises the weighted ||c image - reference||."""
    weighted = weight * image
    return complex(np.vdot(weighted, reference) / max(np.vdot(weighted, image).real, np.finfo(float).tiny))


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


def _values(canvas: Canvas, box: Box) -> ComplexImage:
    return canvas.crop(*box).values.astype(np.complex128)


def _canvas(like: Canvas, values: ComplexImage, box: Box) -> Canvas:
    return replace(like, values=values, origin=(box[0], box[2]))


def _displaced(box: Box, shift: tuple[int, int]) -> Box:
    return box[0] + shift[0], box[1] + shift[0], box[2] + shift[1], box[3] + shift[1]
