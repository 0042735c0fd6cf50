"""Image metrics of an aligned result and its truth.

All take arrays on the same pixels: (H, W), or for metrics without a window also the (n,) values of the pixels that
count. Metrics with a window take a mask (H, W), and average over the windows that lie inside it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.ptycho.evaluate.report import UndefinedMetricError

Image = NDArray[np.floating[Any]]
Field = NDArray[np.complexfloating[Any, Any]]
Mask = NDArray[np.bool_]

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales (Wang, Simoncelli and Bovik 2003)."""

MS_SSIM_MIN_SIDE = 11 * 2 ** (len(MS_SSIM_WEIGHTS) - 1)
"""Smallest side for which the 11-pixel window fits the coarsest scale: 176."""

_SSIM_K = (0.01, 0.03)
_SSIM_WINDOW = 7


def complex_error(result: Field, truth: Field) -> float:
    """Relative error of the complex field, ||result - truth|| / ||truth||."""
    return float(np.linalg.norm(result - truth) / np.linalg.norm(truth))


def phase_difference(result: Field, truth: Field) -> Image:
    """Phase of result minus phase of truth, wrapped to (-pi, pi], rad."""
    return np.asarray(np.angle(result * truth.conj()))


def phases(result: Field, truth: Field) -> tuple[Image, Image]:
    """Unwrapped phases of result and truth, rad.

    The phase of the truth is unwrapped if it wraps anywhere. The phase of the result is that of the truth plus the
    wrapped difference, so that a wrap in only one of them does not count as an error.
    """
    reference = np.asarray(np.angle(truth))
    if wraps(reference):
        from skimage.restoration import unwrap_phase

        reference = np.asarray(unwrap_phase(reference))  # type: ignore[no-untyped-call]
        reference -= 2 * np.pi * np.rint(reference.mean() / (2 * np.pi))
    return reference + phase_difference(result, truth), reference


def wraps(phase: Image) -> bool:
    """Whether neighbouring pixels of a phase differ by more than pi anywhere."""
    return any(bool((np.abs(np.diff(phase, axis=axis)) > np.pi).any()) for axis in (0, 1))


def data_range(reference: Image) -> float:
    """Largest minus smallest value."""
    return float(np.ptp(reference))


def mean_absolute_error(image: Image, reference: Image) -> float:
    """Mean of |image - reference|."""
    return float(np.abs(image - reference).mean())


def mean_square_error(image: Image, reference: Image) -> float:
    """Mean of (image - reference)^2."""
    return float(np.mean((np.asarray(image, np.float64) - reference) ** 2))


def psnr(image: Image, reference: Image, peak: float = 1.0) -> float:
    """Peak signal-to-noise ratio in dB, 20 log10(peak / rms difference); infinite for equal images."""
    rms = math.sqrt(mean_square_error(image, reference))
    return math.inf if rms == 0 else 20 * math.log10(peak / rms)


def ssim(image: Image, reference: Image, range_: float, mask: Mask | None = None) -> float:
    """Structural similarity (Wang et al. 2004) as in scikit-image, with a 7 x 7 uniform window.

    Parameters
    ----------
    image, reference : (H, W)
        Images.
    range_ : float
        Data range, which sets the stabilising constants.
    mask : (H, W) bool, optional
        Pixels that count. Default: all.

    Raises
    ------
    UndefinedMetricError
        If the range is 0, or no window fits into the images or the mask.
    """
    from skimage.metrics import structural_similarity

    _check_range(range_)
    if min(image.shape) < _SSIM_WINDOW:
        raise UndefinedMetricError(
            f"images of {image.shape[0]} x {image.shape[1]} px are smaller than the window of {_SSIM_WINDOW} px"
        )
    if mask is None:
        return float(structural_similarity(reference, image, data_range=range_))  # type: ignore[no-untyped-call]
    # Outside the mask both are flat, so that no value there can overflow.
    a, b = (np.where(mask, field, 0.0) for field in (reference, image))
    similarity = structural_similarity(a, b, data_range=range_, full=True)[1]  # type: ignore[no-untyped-call]
    return float(similarity[_windows_inside(mask, _SSIM_WINDOW)].mean())


def ms_ssim(image: Image, reference: Image, range_: float, mask: Mask | None = None) -> float:
    """Multi-scale structural similarity of Wang, Simoncelli and Bovik (2003).

    Gaussian window of 11 pixels and sigma 1.5; contrast-structure at five scales, luminance at the coarsest; each scale
    is the previous one averaged over 2 x 2 pixels.

    Parameters
    ----------
    image, reference : (H, W)
        Images of at least 176 pixels a side.
    range_ : float
        Data range, which sets the stabilising constants.
    mask : (H, W) bool, optional
        Pixels that count. Default: all.

    Raises
    ------
    UndefinedMetricError
        If the range is 0, a side is under 176 pixels, no window of the coarsest scale fits into the mask, or the images
        are anticorrelated at some scale (a power of a negative number).
    """
    _check_range(range_)
    if min(image.shape) < MS_SSIM_MIN_SIDE:
        raise UndefinedMetricError(
            f"the area of {image.shape[0]} x {image.shape[1]} px is smaller than {MS_SSIM_MIN_SIDE} px a side, which "
            "5 scales of an 11 px window need"
        )
    counted = np.ones(image.shape, bool) if mask is None else mask
    a: Image = np.where(counted, np.asarray(image, np.float64), 0.0)
    b: Image = np.where(counted, np.asarray(reference, np.float64), 0.0)
    value = 1.0
    for scale, weight in enumerate(MS_SSIM_WEIGHTS):
        luminance, structure = ssim_parts(a, b, range_)
        inside = _windows_inside(counted, 11)[5:-5, 5:-5]
        last = scale == len(MS_SSIM_WEIGHTS) - 1
        term = float((luminance * structure if last else structure)[inside].mean())
        if term < 0:
            raise UndefinedMetricError(f"the images are anticorrelated at scale {scale + 1} of {len(MS_SSIM_WEIGHTS)}")
        value *= term**weight
        a, b = half_size(a), half_size(b)
        counted = half_size(counted.astype(np.float64)) == 1
    return value


def ssim_parts(image: Image, reference: Image, range_: float) -> tuple[Image, Image]:
    """Luminance and contrast-structure maps of SSIM with an 11-pixel Gaussian window of sigma 1.5.

    The border where the window does not fit is left out.
    """
    from scipy.ndimage import gaussian_filter

    def mean(field: Image) -> Image:
        return np.asarray(gaussian_filter(field, 1.5, truncate=3.5)[5:-5, 5:-5])

    c1, c2 = ((k * range_) ** 2 for k in _SSIM_K)
    ma, mb = mean(image), mean(reference)
    variances = mean(image * image) - ma * ma + mean(reference * reference) - mb * mb
    covariance = mean(image * reference) - ma * mb
    return (2 * ma * mb + c1) / (ma * ma + mb * mb + c1), (2 * covariance + c2) / (variances + c2)


def half_size(image: Image) -> Image:
    """Mean over 2 x 2 blocks; an odd last row or column is dropped."""
    h, w = image.shape[0] // 2, image.shape[1] // 2
    return np.asarray(image[: 2 * h, : 2 * w].reshape(h, 2, w, 2).mean(axis=(1, 3)))


def _windows_inside(mask: Mask, side: int) -> Mask:
    """Centres of the windows of ``side`` pixels that lie inside a mask (H, W).

    Raises UndefinedMetricError when there are none.
    """
    from scipy.ndimage import minimum_filter

    inside = np.asarray(minimum_filter(mask, side, mode="constant", cval=False), bool)
    if not inside.any():
        raise UndefinedMetricError(f"no window of {side} px lies inside the illuminated area")
    return inside


def _check_range(range_: float) -> None:
    if not range_ > 0:
        raise UndefinedMetricError("the truth is flat: its range is 0")
