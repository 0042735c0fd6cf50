"""The detector: from expected intensities to counts and a mask, in chunks of bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError

if TYPE_CHECKING:
    from diptych.ptycho.physics.forward import ForwardModel, Views
    from diptych.ptycho.scan import Canvas, Geometry
    from diptych.ptycho.simulate.slices import Slices

_CHUNK_BYTES = 32 * 2**20


@dataclass(frozen=True, eq=False)
class Reading:
    """A charge-integrating detector.

    Parameters
    ----------
    gain : float
        Units (ADU) per photon.
    noise : float
        Read noise, rms, units.
    rng : numpy Generator or None
        Draws the read noise; none without it.
    """

    gain: float
    noise: float
    rng: np.random.Generator | None

    def of(self, photons: NDArray[Any]) -> NDArray[np.float64]:
        """Readings of detected photons, any shape."""
        read = np.asarray(self.gain * photons, np.float64)
        if self.rng is not None and self.noise:
            read += self.noise * self.rng.standard_normal(read.shape)
        return read


def signal_totals(
    truth: Canvas,
    probe: NDArray[Any],
    positions: NDArray[np.float64],
    geometry: Geometry | None = None,
    slices: Slices | None = None,
) -> NDArray[np.float64]:
    """Expected signal photons (M,) of each pattern: sum |P O|^2, which Parseval's theorem makes the sum over the
    detector.

    Parameters
    ----------
    truth : Canvas
        The object; must hold every window.
    probe : (P, N, N) complex
        Mutually incoherent modes.
    positions : (M, 2) float64
        (y, x) in object pixels.
    geometry : Geometry, optional
        Needed by slices.
    slices : Slices, optional
        Of a thick object, on the canvas of ``truth``.
    """
    # Summed by NumPy, whose order of additions does not depend on the number of threads.
    chunks = _chunks(truth, probe, positions, geometry, slices)
    return np.concatenate([(np.abs(views.exit_waves().numpy()) ** 2).sum((1, 2, 3)) for _, _, views in chunks])


def expected_intensities(
    truth: Canvas,
    probe: NDArray[Any],
    positions: NDArray[np.float64],
    geometry: Geometry | None = None,
    slices: Slices | None = None,
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Noise-free signal of a few patterns at a time, in double precision.

    Parameters
    ----------
    truth, probe, positions
        As for :func:`signal_totals`.
    geometry : Geometry, optional
        Far or near field; the far field without it.
    slices : Slices, optional
        Of a thick object.

    Yields
    ------
    (slice, (B, N, N) float64)
        Which patterns, and their intensities with zero frequency at [N // 2, N // 2].
    """
    for part, model, views in _chunks(truth, probe, positions, geometry, slices):
        yield part, model.detect(views.exit_waves())[1].numpy()


def dead_pixels(size: int, fraction: float, beam_stop: float, rng: np.random.Generator) -> NDArray[np.bool_] | None:
    """Mask (N, N), True = valid; False at round(fraction N^2) random pixels and in a disc of radius ``beam_stop`` px.
    None where all pixels are valid.

    Raises
    ------
    InputError
        If no pixel is valid.
    """
    mask: NDArray[np.bool_] = np.ones((size, size), bool)
    mask.flat[rng.permutation(size * size)[: round(fraction * size * size)]] = False
    axis = np.arange(size) - size // 2
    if beam_stop > 0:
        mask &= np.hypot(axis[:, None], axis) > beam_stop
    if not mask.any():
        raise InputError(
            "simulate",
            f"dead = {fraction:g} and beam_stop = {beam_stop:g} px leave no valid pixel of {size} x {size}",
            "fewer dead pixels or a smaller beam stop",
        )
    return None if mask.all() else mask


def expose(
    truth: Canvas,
    probe: NDArray[Any],
    positions: NDArray[np.float64],
    rng: np.random.Generator | None,
    *,
    background: float = 0.0,
    point_spread: float = 0.0,
    mask: NDArray[np.bool_] | None = None,
    saturation: float | None = None,
    geometry: Geometry | None = None,
    slices: Slices | None = None,
    reading: Reading | None = None,
    report: Callable[[int], None] | None = None,
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Detected counts: expected counts with noise, saturation and masked pixels.

    Parameters
    ----------
    truth, probe, positions
        As for :func:`signal_totals`; sum |probe|^2 is photons per pattern.
    rng : numpy Generator or None
        Draws Poisson counts; None gives the expected counts themselves.
    background : float
        Expected background, counts per pixel.
    point_spread : float
        Its width, standard deviation in detector pixels.
    mask : (N, N) bool, optional
        True = valid; the other pixels read 0.
    saturation : float, optional
        Counts at which a pixel saturates.
    geometry : Geometry, optional
        Far or near field; the far field without it.
    slices : Slices, optional
        Of a thick object.
    reading : Reading, optional
        Gain and read noise of a charge-integrating detector; photons are counted without it.
    report : callable, optional
        Called with the number of patterns done.

    Returns
    -------
    counts : (M, N, N) uint16, uint32 or uint64, the first in which they fit, or float32 without noise or as readings
    mask : (N, N) or (M, N, N) bool, or None
        With the saturated pixels of each pattern, if there are any.

    Raises
    ------
    InputError
        If no valid pixel is left.
    """
    import torch

    from diptych.ptycho.physics.detector.point_spread import PointSpread

    shape = (len(positions), *probe.shape[-2:])
    whole = rng is not None and reading is None
    counts: NDArray[Any] = np.empty(shape, np.uint16 if whole else np.float32)
    full = None if saturation is None else np.zeros(shape, bool)
    spread = PointSpread((point_spread, point_spread), shape[-1], torch.float64, torch.device("cpu"))
    for part, values in expected_intensities(truth, probe, positions, geometry, slices):
        expected = (spread(torch.from_numpy(values)).numpy() if point_spread else values) + background
        found: NDArray[Any] = expected if rng is None else rng.poisson(expected)
        if reading is not None:
            found = reading.of(found)
        if full is not None and saturation is not None:
            level = int(saturation) if whole else saturation
            full[part] = found >= level
            found = np.minimum(found, level)
        if mask is not None:
            found = np.where(mask, found, 0)
        if whole:
            counts = _widened(counts, int(found.max()))
        counts[part] = found
        if report is not None:
            report(part.stop)
    if full is None or not full.any():
        return counts, mask
    valid = ~full if mask is None else mask & ~full
    if not valid.any():
        raise InputError(
            "simulate: saturation", f"{saturation:g} counts mask every pixel of every pattern", "a higher level"
        )
    return counts, valid


def _chunks(
    truth: Canvas,
    probe: NDArray[Any],
    positions: NDArray[np.float64],
    geometry: Geometry | None = None,
    slices: Slices | None = None,
) -> Iterator[tuple[slice, ForwardModel, Views]]:
    """Forward model, and object patches with probe modes of a few patterns at a time, in complex128."""
    import torch

    from diptych.ptycho.physics.forward import ForwardModel
    from diptych.ptycho.physics.propagators import propagator_of
    from diptych.ptycho.physics.thick.slices import SlicedForward, between_slices

    modes = torch.from_numpy(np.array(probe, np.complex128))
    canvas = torch.from_numpy(np.array(truth.values if slices is None else slices.values, np.complex128))
    shape, double, cpu = truth.shape, torch.complex128, torch.device("cpu")
    size = modes.shape[-1]
    propagator = propagator_of(geometry, size, double, cpu)
    model = ForwardModel.placed(propagator, positions, size, truth.origin, shape, dtype=double, device=cpu)
    if slices is not None:
        between = between_slices(geometry, size, slices.distance_m, double, cpu, "simulate: slices")
        model = SlicedForward.of(model, between)
    step = max(1, _CHUNK_BYTES // (modes.numel() * modes.element_size()))
    for start in range(0, len(positions), step):
        part = slice(start, min(start + step, len(positions)))
        yield part, model, model.views(canvas, modes, np.arange(part.start, part.stop))


def _widened(counts: NDArray[Any], largest: int) -> NDArray[Any]:
    """``counts`` in the first unsigned type whose largest value, a common mark of bad pixels, is above ``largest``."""
    fitting = (dtype for dtype in (np.uint16, np.uint32) if largest < np.iinfo(dtype).max)
    return counts.astype(np.promote_types(counts.dtype, next(fitting, np.uint64)), copy=False)
