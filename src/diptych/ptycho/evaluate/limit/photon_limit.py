"""``bound``: the least error and the resolution that the photons of a scan allow, and the dose that a wish needs."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError, to_type
from diptych.ptycho.error_bars import MISFIT, UNIFORM, as_reconstructed, misfit_of, point_of
from diptych.ptycho.evaluate.gauge import REMOVED
from diptych.ptycho.evaluate.limit.options import BoundOptions
from diptych.ptycho.evaluate.limit.result import THRESHOLD, Limit, Spectrum
from diptych.ptycho.evaluate.report import UndefinedMetricError
from diptych.ptycho.evaluate.resolution import fluctuation_of, fourier_ring_correlation, ring_index, ring_sum, window_of
from diptych.ptycho.scan import Reconstruction, Scan
from diptych.runtime.progress import Progress, ProgressCallback

if TYPE_CHECKING:
    import torch

    from diptych.ptycho.physics.information import Curvature, Point, Variances

_FEW = 8.0
"""Rings of fewer independent samples say nothing of the resolution."""


def bound(
    scan: Scan | str | Path,
    result: Reconstruction | str | Path | None = None,
    options: BoundOptions | None = None,
    *,
    progress: ProgressCallback | None = None,
    **overrides: Any,
) -> Limit:
    """The limit that photon noise sets: no unbiased reconstruction of this scan has a smaller error on average.

    Parameters
    ----------
    scan : Scan or path
        M patterns of N x N counts.
    result : Reconstruction or path, optional
        Object and probe to compute it for. Default: the true ones of a simulated scan.
    options : BoundOptions, optional
        The scan that is planned, and what is wanted of it.
    progress : callable, optional
        Called after each group of solves.
    **overrides
        Single options by name.

    Returns
    -------
    Limit
        ``complex_error`` is the one that :func:`diptych.evaluate` reports: on the lit pixels between the positions,
        after removing what the data leave free. With maps, spectrum and resolution.

    Raises
    ------
    InputError
        If there is neither a result nor a truth, or a wish has no meaning for this scan.

    Notes
    -----
    The Cramer-Rao bound of the Poisson model, J^T diag(1 / I) J inverted by conjugate gradients and probing
    (:mod:`diptych.ptycho.physics.information`). Below about one photon per pixel and pattern, estimates are biased and
    may lie below it. Without a background it scales with 1 / sqrt(dose) as far as each lit pixel sees some photons.

    Examples
    --------
    >>> import diptych
    >>> scan = diptych.simulate(object="blocks", size=16, patterns=64, step=2.0, dose=1e5, seed=0)
    >>> limit = diptych.bound(scan)
    >>> 0.001 < limit.complex_error < 0.1
    True
    """
    options = (options or BoundOptions()).with_changes(**overrides)
    scan, result = _opened(scan, result)
    point, source = _point(scan, result, options)
    point = _planned(point, options)
    pixel_m = point.canvas.pixel_m or scan.pixel_m
    wanted_px = _wanted_px(options, pixel_m)
    from diptych.ptycho.physics.detector.read_noise import read_variance

    gain = _gain(scan) if result is None else float(result.provenance.get("counts_per_photon", 1.0))
    point = _at_dose(point, options.dose, read_variance(scan) / gain**2)
    curvature, found, rings = _least_variances(point, options, progress)
    image = curvature.information.image.numpy()
    scored = curvature.scored.numpy()
    error = math.sqrt(found.total / float((np.abs(image[scored]) ** 2).sum()))
    spectrum = rings.spectrum(result is not None, pixel_m)
    dose = _dose(point)
    with np.errstate(divide="ignore", invalid="ignore"):
        phase = np.minimum(np.sqrt(found.across) / np.abs(image), UNIFORM)
    notes = _notes(curvature, result)
    return Limit(
        complex_error=error,
        complex_error_noise=found.total_noise / 2,
        dose=dose,
        patterns=len(point.positions),
        overlap=_overlap(point),
        photons_per_pixel=float((np.abs(image[scored]) ** 2).sum() / (1 / curvature.light.values[scored]).sum()),
        amplitude_error=np.sqrt(found.along).astype(np.float32),
        phase_error=phase.astype(np.float32),
        origin=curvature.origin,
        box=curvature.box,
        pixel_m=pixel_m,
        spectrum=spectrum,
        gauge=REMOVED["full" if point.refined.probe else "phase"] + (_RASTER if curvature.raster else ""),
        refined=point.unknowns,
        source=source,
        needs=_needs(options, error, spectrum, dose, wanted_px),
        notes=notes,
    )


_RASTER = ", and factors that repeat with the raster, which an unknown probe leaves free"


def _opened(scan: Any, result: Any) -> tuple[Scan, Reconstruction | None]:
    from diptych.ptycho.io import load_result, load_scan

    data = load_scan(scan) if isinstance(scan, str | Path) else scan
    if not isinstance(data, Scan):
        raise InputError("bound", f"scan is a {type(data).__name__}", "a Scan", "diptych.load(path) reads one.")
    found = load_result(result) if isinstance(result, str | Path) else result
    if found is not None and not isinstance(found, Reconstruction):
        raise InputError("bound", f"result is a {type(found).__name__}", "a Reconstruction")
    return data, found


def _point(scan: Scan, result: Reconstruction | None, options: BoundOptions) -> tuple[Point, str]:
    """Object, probe and positions as measured, in photons, and where they came from."""
    from diptych.ptycho.physics.detector.read_noise import photon_background
    from diptych.ptycho.physics.information import Point, Refined

    if result is not None:
        refined = Refined(options.refine_probe, options.refine_positions, result.frame_factors is not None)
        same = scan if len(scan) == len(result.positions) else as_reconstructed(result, scan)
        return replace(point_of(result, same), refined=refined), f"the result {result.name}"
    if scan.truth is None or scan.true_probe is None:
        raise InputError(
            f"bound {scan.name}",
            "no object is known: the scan has no truth, and no result is given",
            "a result of this scan (--result FILE), or a simulated scan",
            to_type("To reconstruct it first", "diptych reconstruct SCAN --out result.h5"),
        )
    if scan.true_slices is not None:
        raise InputError(f"bound {scan.name}", f"the true object has {len(scan.true_slices)} slices", "one slice")
    said = scan.metadata.get("simulation", {})
    true = np.asarray(said.get("true_positions", scan.positions), np.float64)
    refined = Refined(options.refine_probe, options.refine_positions)
    mask = scan.mask
    shown = photon_background(scan, _gain(scan))
    return Point(scan.truth, scan.true_probe, true, mask, shown, refined=refined), "the truth of the scan"


def _gain(scan: Scan) -> float:
    """Counts per photon, as the scan states."""
    return 1.0 if scan.scale is None else 1 / scan.scale


def _planned(point: Point, options: BoundOptions) -> Point:
    """The point with the positions of the planned scan."""
    if options.step is None:
        return point
    from diptych.ptycho.simulate.trajectories import make_trajectory

    low, high = point.positions.min(0), point.positions.max(0)
    field = (float(high[0] - low[0]), float(high[1] - low[1]))
    if min(field) < 2 * options.step:
        raise InputError(
            "bound: step",
            f"is {options.step:g} px, and the scan covers {field[0]:.0f} x {field[1]:.0f} px",
            "a step of which at least two fit into the field",
        )
    planned = make_trajectory(options.trajectory, options.step, np.random.default_rng(options.seed), field=field)
    planned = planned - planned.min(0) + low
    inside = (planned <= high + 1e-9).all(1)
    if point.mask is not None and point.mask.ndim == 3:
        raise InputError("bound: step", "the mask differs from pattern to pattern", "one mask for all, for planning")
    constant = replace(point, components=None, coefficients=None, factors=None)
    return replace(constant, positions=planned[inside], refined=replace(point.refined, factors=False))


def _at_dose(point: Point, dose: float | None, read_variance: float = 0.0) -> Point:
    """The point with the probe scaled to a dose; the background grows with it, as in a longer exposure, but for the
    variance of the read noise in it, photons^2.
    """
    if dose is None:
        return point
    scale = dose / _dose(point)
    background = None if point.background is None else (point.background - read_variance) * scale + read_variance
    return replace(point, probe=point.probe * np.sqrt(scale), background=background)


def _least_variances(
    point: Point, options: BoundOptions, progress: ProgressCallback | None
) -> tuple[Curvature, Variances, _Rings]:
    """The curvature of the likelihood at the point, the variances that it allows, and their spectrum."""
    import torch

    from diptych.ptycho.physics.information import Curvature

    report = None
    if progress is not None:

        def report(done: int, most: int) -> None:
            progress(Progress("limit", done, most))

    with torch.no_grad():
        curvature = Curvature(point)
        rings = _Rings(curvature)
        found = curvature.variances(
            pixel_noise=2 * options.map_accuracy, seed=options.seed, visit=rings.add, report=report
        )
    return curvature, found, rings


def _dose(point: Point) -> float:
    """Mean signal photons per pattern, through the object, before masks."""
    from diptych.ptycho.physics.illumination import illumination
    from diptych.ptycho.physics.patches import canvas_box

    origin, shape = canvas_box(point.positions, point.probe.shape[-1])
    light = illumination(point.probe, point.positions, origin, shape).astype(np.float64)
    y, x = origin
    image = point.canvas.crop(y, y + shape[0], x, x + shape[1]).values
    return float((light * np.abs(image) ** 2).sum() / len(point.positions))


def _overlap(point: Point) -> float | None:
    """1 - step / diameter, with the median distance to the nearest neighbour and the diameter of 90 % of the light."""
    if len(point.positions) < 2:
        return None
    from scipy.spatial import cKDTree

    from diptych.ptycho.physics.probe import probe_diameter

    step = float(np.median(cKDTree(point.positions).query(point.positions, k=2)[0][:, 1]))
    return 1 - step / probe_diameter(point.probe)


def _notes(curvature: Curvature, result: Reconstruction | None) -> tuple[str, ...]:
    notes = []
    if curvature.raster:
        notes.append(
            "the positions lie on an exact raster and the probe is unknown: errors that repeat with the raster are not "
            "bounded and left out; jitter the positions"
        )
    if result is not None and (misfit := misfit_of(result)) > MISFIT:
        notes.append(
            f"the result explains its data to {misfit:.2f} times photon noise; the limit is that of photon noise alone"
        )
    return tuple(notes)


def _wanted_px(options: BoundOptions, pixel_m: tuple[float, float] | None) -> float | None:
    """The wanted half-period in object pixels."""
    if options.resolution_nm is None:
        return options.resolution_px
    if pixel_m is None:
        raise InputError(
            "bound: resolution_nm", "the size of the object pixel is not known", "resolution_px, or a geometry"
        )
    wanted = options.resolution_nm * 1e-9 / max(pixel_m)
    if wanted < 1:
        raise InputError(
            "bound: resolution_nm",
            f"is {options.resolution_nm:g} nm, and the object pixel {max(pixel_m) * 1e9:.3g} nm",
            "at least one pixel",
        )
    return wanted


def _needs(
    options: BoundOptions, error: float, spectrum: Spectrum | None, dose: float, wanted_px: float | None
) -> dict[str, float]:
    """Dose per pattern for the wanted error and resolution: variances fall with 1 / dose."""
    needs: dict[str, float] = {}
    if options.wanted_error is not None:
        needs["dose_for_wanted_error"] = dose * (error / options.wanted_error) ** 2
    if wanted_px is not None:
        if spectrum is None:
            raise InputError(
                "bound: resolution", "the scored area is too small or flat for a spectrum", "a larger scan"
            )
        needs["dose_for_wanted_resolution"] = dose * spectrum_factor(spectrum, 1 / wanted_px)
    return needs


def spectrum_factor(spectrum: Spectrum, frequency: float) -> float:
    """Factor of the dose at which the expected correlation stays above the threshold up to a frequency (fraction of
    Nyquist); infinite where the object has no power below it.
    """
    curve = spectrum.curve
    level = curve.threshold(THRESHOLD)
    asked = (curve.frequency <= frequency + 1e-9) & (curve.samples >= _FEW)
    if not asked.any():
        asked = np.arange(len(curve.frequency)) == 0
    with np.errstate(divide="ignore"):
        factors = level / (1 - level) * 2 * spectrum.noise / spectrum.signal
    return float(factors[asked].max())


class _Rings:
    """Power of the least errors in each ring of the spectrum of the scored box, from the probing vectors."""

    def __init__(self, curvature: Curvature) -> None:
        y0, y1, x0, x1 = curvature.box
        (oy, ox), (h, w) = curvature.origin, curvature.shape
        self._part = slice(max(y0 - oy, 0), min(y1 - oy, h)), slice(max(x0 - ox, 0), min(x1 - ox, w))
        self._image = curvature.information.image.numpy()[self._part].astype(np.complex128)
        self._mask = curvature.light.lit[self._part]
        self._sum: Any = 0.0
        self._vectors = 0
        self._window: NDArray[np.float64] | None = None
        try:
            # The rings, samples and refusals of the correlation of two images.
            self._like = fourier_ring_correlation(self._image, self._image, mask=self._mask)
            self._window = window_of(self._image.shape, True, self._mask)
        except UndefinedMetricError:
            return
        self._ring = ring_index(self._image.shape)

    def add(self, vectors: torch.Tensor, errors: torch.Tensor) -> None:
        """Take probing vectors (K, H, W) and the covariance times them."""
        if self._window is None:
            return
        for x, y in zip(vectors.numpy(), errors.numpy(), strict=True):
            power = (self._transform(y[self._part]) * self._transform(x[self._part]).conj()).real
            self._sum = self._sum + ring_sum(power, self._ring)
        self._vectors += len(vectors)

    def spectrum(self, noisy: bool, pixel_m: tuple[float, float] | None) -> Spectrum | None:
        """Signal and noise; that of a ``noisy`` object, a result, without the expected power of its own errors."""
        from diptych.ptycho.physics.information.curvature import COLOURS

        if self._window is None:
            return None
        count = len(self._like.frequency) + 1
        noise = np.maximum(self._sum[1:count] * COLOURS**2 / self._vectors, 1e-300)
        w = self._window
        image = fluctuation_of(np.where(w > 0, self._image, 0), w) * w
        signal = ring_sum(np.abs(np.fft.fft2(image)) ** 2, self._ring)[1:count]
        if noisy:
            signal = np.maximum(signal - noise, 0)
        ratio = signal / (2 * noise)
        pixel = None if pixel_m is None else float(np.max(pixel_m))
        curve = replace(self._like, correlation=ratio / (1 + ratio), pixel_m=pixel, label="expected, two halves")
        return Spectrum(signal, noise, curve)

    def _transform(self, field: NDArray[Any]) -> NDArray[Any]:
        w = self._window
        assert w is not None
        field = np.where(w > 0, field, 0)
        return np.fft.fft2((field - (w * field).sum() / w.sum()) * w)
