"""Least-squares refinement of ramp and shift of one complex image on another, in a box."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diptych.ptycho.physics.measured import Box
from diptych.ptycho.scan import Canvas

ComplexImage = NDArray[np.complex128]
Weights = NDArray[np.float64]

_MARGIN = 16
"""Margin around the compared box during Fourier shifts, px, so that the taper at the border lies outside the box."""


def patch_of(result: Canvas, box: Box, shift: tuple[int, int], ramp: tuple[float, float]) -> tuple[ComplexImage, int]:
    """The result on the box displaced by ``shift``, without the ramp, with a tapered margin on all sides."""
    wanted = displaced(box, shift)
    grown = (wanted[0] - _MARGIN, wanted[1] + _MARGIN, wanted[2] - _MARGIN, wanted[3] + _MARGIN)
    ry0, ry1, rx0, rx1 = result.extent
    have = (max(grown[0], ry0), min(grown[1], ry1), max(grown[2], rx0), min(grown[3], rx1))
    values = values_in(result, have)
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


def refine(
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
        factor = best_scale(image, reference, weight)
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
    return ramp, shift, best_scale(image, reference, weight), image


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


def best_scale(image: ComplexImage, reference: ComplexImage, weight: Weights) -> complex:
    """The factor c that minimises the weighted ||c image - reference||."""
    weighted = weight * image
    return complex(np.vdot(weighted, reference) / max(np.vdot(weighted, image).real, np.finfo(float).tiny))


def values_in(canvas: Canvas, box: Box) -> ComplexImage:
    """The values (h, w) of a canvas in a box of coordinates."""
    return canvas.crop(*box).values.astype(np.complex128)


def displaced(box: Box, shift: tuple[int, int]) -> Box:
    """The box moved by ``shift`` (y, x)."""
    return box[0] + shift[0], box[1] + shift[0], box[2] + shift[1], box[3] + shift[1]


def finer_peak(product: ComplexImage, near: tuple[float, float]) -> tuple[float, tuple[float, float]]:
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
