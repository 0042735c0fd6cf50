"""Metrics as defined for the published PtychoPINN tables; textbook values are not comparable with these tables.

Differences from the textbook: magnitudes are registered to 0.02 px; the amplitude is scaled by its mean; a plane is
subtracted from each wrapped phase; PSNR has peak 255 on data of order 1 (48.13 dB above peak 1); MS-SSIM is the product
of full SSIM values of decimated images; FRC has no window, and its crossing is reported as a ring index.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.evaluate import metrics
from diptych.ptycho.evaluate.align import common_box
from diptych.ptycho.evaluate.report import Collector, Detail, UndefinedMetricError
from diptych.ptycho.evaluate.resolution import FLAT, ONE_SEVENTH, ring_index, ring_sum
from diptych.ptycho.physics.measured import Box, Light
from diptych.ptycho.scan import Canvas

Image = NDArray[np.float64]

PEAK = 255.0
EXTENSION = 10
"""Pixels by which the scanned box is extended: half the default stitching crop of 20."""

GAUGE = (
    "sub-pixel shift of the magnitudes, mean amplitude and a plane of each phase removed (fixed by the convention; the "
    "gauge option is not used)"
)
_BORDER, _TRIM = 2, 2
_MIN_SIDE = 16


def ptychopinn_metrics(result: Canvas, truth: Canvas, box: Box | None, light: Light | None = None) -> Collector:
    """MAE, MSE, PSNR, SSIM, MS-SSIM and FRC of amplitude and phase; keys end in ``_ptychopinn``.

    Parameters
    ----------
    result, truth : Canvas
        (H, W) complex images in the same coordinates.
    box : (y0, y1, x0, x1) or None
        Scanned area, which is extended by 10 px; None for the whole overlap.
    light : Light, optional
        Illumination of the result. The convention has no mask: unlit pixels count, and a note says how many there are.

    Raises
    ------
    InputError
        If the images do not overlap by at least 16 px.
    """
    if box is not None:
        box = (box[0] - EXTENSION, box[1] + EXTENSION, box[2] - EXTENSION, box[3] + EXTENSION)
    image, reference, inner = register_magnitudes(result, truth, common_box(result, truth, box))
    collector = Collector(Detail("ptychopinn", GAUGE, inner))
    amplitude, true_amplitude = np.abs(image), np.abs(reference)
    amplitude = amplitude * (true_amplitude.mean() / max(float(amplitude.mean()), np.finfo(float).tiny))
    phase, true_phase = remove_plane(np.angle(image)), remove_plane(np.angle(reference))
    _add(collector, "amplitude", amplitude, true_amplitude, "")
    _add(collector, "phase", phase, true_phase, "rad")
    if metrics.wraps(np.angle(image)):
        for key in collector.values:
            if key.startswith("phase"):
                collector.remark(key, "the phase of the result wraps, which this convention counts as an error")
    unlit = 0.0 if light is None else 1 - float(light.mask(inner).mean())
    if unlit > 0:
        for key in collector.values:
            collector.remark(key, f"no light reached {100 * unlit:.2g} % of the area, which this convention counts too")
    return collector


def register_magnitudes(
    result: Canvas, truth: Canvas, box: Box
) -> tuple[NDArray[np.complex128], NDArray[np.complex128], Box]:
    """Shift the result onto the truth by phase correlation of the magnitudes (1/50 px).

    Returns
    -------
    (H, W) complex128, (H, W) complex128, Box
        Result and truth without the border, and the box that they cover.
    """
    from skimage.registration import phase_cross_correlation

    if min(box[1] - box[0], box[3] - box[2]) < _MIN_SIDE:
        raise InputError(
            "evaluate",
            f"the compared area is {box[1] - box[0]} x {box[3] - box[2]} px",
            f"at least {_MIN_SIDE} px on a side for the convention ptychopinn",
            "Use convention='textbook' (--convention textbook).",
        )
    image, reference = (canvas.crop(*box).values.astype(np.complex128) for canvas in (result, truth))
    moduli = [np.abs(field).astype(np.float32) for field in (reference, image)]
    shift, _, _ = phase_cross_correlation(moduli[0], moduli[1], upsample_factor=50)  # type: ignore[no-untyped-call]
    fy, fx = (np.fft.fftfreq(n) for n in image.shape)
    phase = np.exp(-2j * np.pi * (fy[:, None] * shift[0] + fx * shift[1]))
    image = np.fft.ifft2(np.fft.fft2(image) * phase)
    cut = _BORDER + _TRIM
    inner = (box[0] + cut, box[1] - cut, box[2] + cut, box[3] - cut)
    return image[cut:-cut, cut:-cut], reference[cut:-cut, cut:-cut], inner


def remove_plane(phase: NDArray[np.floating]) -> Image:
    """Subtract the least-squares plane a x + b y + c from a wrapped phase."""
    y, x = np.mgrid[: phase.shape[0], : phase.shape[1]]
    columns = np.stack([x.ravel(), y.ravel(), np.ones(phase.size)], axis=1)
    plane = columns @ np.linalg.lstsq(columns, phase.ravel(), rcond=None)[0]
    return np.asarray(phase - plane.reshape(phase.shape), np.float64)


def psnr(image: Image, reference: Image) -> float:
    """PSNR with peak 255, dB."""
    return metrics.psnr(image, reference, peak=PEAK)


def ms_ssim(image: Image, reference: Image, range_: float) -> float:
    """Product of SSIM at up to five scales, raised to the textbook exponents; each scale keeps every second pixel.

    It stops where the next side is smaller than 7 px, without renormalising the exponents. A negative SSIM counts as
    1e-4.
    """
    value = 1.0
    for weight in metrics.MS_SSIM_WEIGHTS:
        value *= max(metrics.ssim(image, reference, range_), 1e-4) ** weight
        image, reference = image[::2, ::2], reference[::2, ::2]
        if min(image.shape) < 7:
            break
    return value


def ring_curve(image: Image, reference: Image) -> Image:
    """|sum F1 conj F2| / sqrt(sum |F1|^2 sum |F2|^2) over rings of the central square.

    The corners beyond Nyquist are included.
    """
    side = min(image.shape)
    top = [(n - side) // 2 for n in image.shape]
    square = (slice(top[0], top[0] + side), slice(top[1], top[1] + side))
    for field in (image, reference):
        # Relative to data of order 1: a phase without its plane has mean 0.
        if np.std(field[square]) <= FLAT * max(1.0, float(np.abs(field[square]).max())):
            raise UndefinedMetricError("an image is flat: its ring correlation would be that of rounding errors")
    spectra = [np.fft.fft2(field[square]) for field in (image, reference)]
    ring = ring_index((side, side))
    cross = spectra[0] * spectra[1].conj()
    total = np.hypot(ring_sum(cross.real, ring), ring_sum(cross.imag, ring))
    norm = np.sqrt(ring_sum(np.abs(spectra[0]) ** 2, ring) * ring_sum(np.abs(spectra[1]) ** 2, ring))
    return np.divide(total, norm, out=np.zeros_like(total), where=norm > 0)


def ring_crossing(curve: Image, threshold: float) -> float:
    """Index of the ring where the curve first falls below the threshold, interpolated.

    0 for the first ring; the number of rings if the curve never does.
    """
    below = np.flatnonzero(curve < threshold)
    if not len(below):
        return float(len(curve))
    i = int(below[0])
    return 0.0 if i == 0 else float(i - 1 + (curve[i - 1] - threshold) / (curve[i - 1] - curve[i]))


def _add(collector: Collector, name: str, image: Image, reference: Image, unit: str) -> None:
    """Add the seven metrics of one channel.

    SSIM is computed on the phase mapped to (phi + pi) / (2 pi), MS-SSIM on the amplitude smoothed by 1 px.
    """
    from scipy.ndimage import gaussian_filter

    if name == "phase":
        range_ = 1.0
        scaled = smooth = [(field + np.pi) / (2 * np.pi) for field in (image, reference)]
    else:
        range_ = metrics.data_range(reference)
        scaled = [image, reference]
        smooth = [gaussian_filter(field, 1.0) for field in scaled]

    def add(metric: str, compute: Callable[..., float], *args: Any, **shown: Any) -> None:
        collector.add(f"{name}_{metric}_ptychopinn", partial(compute, *args), **shown)

    add("mae", metrics.mean_absolute_error, image, reference, unit=unit)
    add("mse", metrics.mean_square_error, image, reference, unit=f"{unit}^2" if unit else "")
    add(
        "psnr",
        psnr,
        image,
        reference,
        unit="dB",
        data_range=PEAK,
        note="peak 255 on data of order 1: 48.13 dB above peak 1",
    )
    add("ssim", metrics.ssim, *scaled, range_, data_range=range_)
    add("ms_ssim", ms_ssim, *smooth, range_, data_range=range_)
    add("frc50", _ring_resolution, image, reference, 0.5, unit="rings")
    add("frc1over7", _ring_resolution, image, reference, ONE_SEVENTH, unit="rings")


def _ring_resolution(image: Image, reference: Image, threshold: float) -> float:
    return ring_crossing(ring_curve(image, reference), threshold)
