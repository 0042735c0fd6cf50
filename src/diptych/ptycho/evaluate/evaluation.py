"""Evaluate a reconstruction against a truth, or two halves of its data against each other."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.evaluate import metrics
from diptych.ptycho.evaluate.align import Alignment, align
from diptych.ptycho.evaluate.gauge import resolve_gauge
from diptych.ptycho.evaluate.halves import half_scan_frc
from diptych.ptycho.evaluate.limit.coverage import add_coverage
from diptych.ptycho.evaluate.options import EvaluationOptions
from diptych.ptycho.evaluate.report import Collector, Detail, Metrics, UndefinedMetricError
from diptych.ptycho.evaluate.resolution import ONE_SEVENTH, RingCorrelation, Threshold, fourier_ring_correlation
from diptych.ptycho.physics.measured import Light, compared_box, light_of
from diptych.ptycho.scan import Canvas, Reconstruction, Scan

if TYPE_CHECKING:
    from diptych.runtime.progress import ProgressCallback

_PIXEL_TOLERANCE = 0.01


def evaluate(
    result: Reconstruction | Canvas | str | Path,
    truth: Canvas | Scan | Reconstruction | str | Path | None = None,
    options: EvaluationOptions | None = None,
    **overrides: Any,
) -> Metrics:
    """Compare a reconstruction with the truth, after removing only what the data leave undetermined.

    Parameters
    ----------
    result : Reconstruction, Canvas or path
        The reconstructed object; a path is loaded.
    truth : Canvas, Scan, Reconstruction or path
        The true object: a canvas, a simulated scan, or a reference reconstruction.
    options : EvaluationOptions, optional
        Gauge, convention, area.
    **overrides
        Single options by name.

    Notes
    -----
    Compared are the pixels inside the box of the positions that light reached (``illumination`` of the result, or of
    the scan that is given as truth); ``details[...].lit_share`` is their share of the box. With ``crop="all"``, or
    where the illumination is not known, every pixel of the area counts.

    Returns
    -------
    Metrics
        Under the textbook convention: ``complex_error``, ``phase_rms_rad``, ``amplitude_`` and ``phase_`` ``mae``,
        ``psnr`` (peak 1), ``ssim``, ``ms_ssim``, and ``frc50``, ``frc1over7`` of the complex field (fractions of
        Nyquist) with their half-period resolutions in px and m. For a result with error bars also
        ``amplitude_coverage90`` and ``phase_coverage90``, the shares of pixels whose true value lies inside its 90 %
        interval. Under the convention of PtychoPINN: see
        :mod:`diptych.ptycho.evaluate.ptychopinn`.

    Raises
    ------
    InputError
        If there is no truth, the images do not overlap or differ in pixel size, or an option is wrong.

    Examples
    --------
    >>> import diptych
    >>> scan = diptych.simulate(object="blocks", size=16, patterns=64, step=2.0, dose=1e6, seed=0)
    >>> metrics = diptych.evaluate(diptych.reconstruct(scan), truth=scan.truth)
    >>> metrics["complex_error"] < 0.1
    True
    """
    options = _options(options, overrides)
    subject, known = _result(result), _opened(truth)
    reference, positions = _reference(known)
    if isinstance(subject, Reconstruction) and len(subject.positions):
        # Results of other programs may have no positions.
        positions = subject.positions
    light = light_of(subject) or light_of(known)
    counted = light_of(known) if isinstance(known, Reconstruction) else None
    return evaluate_images(subject, reference, positions, options, light, counted)


def evaluate_images(
    subject: Reconstruction | Canvas,
    reference: Canvas,
    positions: NDArray[np.float64] | None,
    options: EvaluationOptions,
    light: Light | None = None,
    counted: Light | None = None,
) -> Metrics:
    """The metrics of :func:`evaluate`, with all that it finds out for itself.

    Parameters
    ----------
    subject : Reconstruction or Canvas
        The reconstructed object.
    reference : Canvas
        The true object.
    positions : (M, 2) float64, optional
        Their box is compared.
    options : EvaluationOptions
        Gauge, convention, area.
    light : Light, optional
        Illumination of the result.
    counted : Light, optional
        In the coordinates of the reference; pixels that are unlit here do not count either.
    """
    image = subject if isinstance(subject, Canvas) else subject.object
    _same_pixels(image, reference)
    if options.crop == "all":
        positions = light = counted = None
    box = None if positions is None else compared_box(positions, light)
    gauge, why = resolve_gauge(options.gauge, subject)
    values: dict[str, float] = {}
    details: dict[str, Detail] = {}
    curves: dict[str, RingCorrelation] = {}
    alignment: Alignment | None = None
    if options.convention != "ptychopinn":
        alignment = align(image, reference, box, gauge, options.max_shift, light).counting(counted)
        collector, curves = _textbook(alignment, why, image.pixel_m or reference.pixel_m)
        if isinstance(subject, Reconstruction):
            add_coverage(collector, subject, alignment)
        values |= collector.values
        details |= collector.details
    if options.convention != "textbook":
        from diptych.ptycho.evaluate.ptychopinn import ptychopinn_metrics

        collector = ptychopinn_metrics(image, reference, box, light)
        values |= collector.values
        details |= collector.details
    return Metrics(values, details, alignment, curves)


def evaluate_without_truth(
    scan: Scan | str | Path,
    result: Reconstruction | str | Path | None = None,
    options: EvaluationOptions | None = None,
    *,
    reconstruct: Callable[[Scan], Reconstruction] | None = None,
    progress: ProgressCallback | None = None,
    **overrides: Any,
) -> Metrics:
    """Resolution of a measured scan: reconstruct two halves of the data and correlate the images.

    Parameters
    ----------
    scan : Scan or path
        M patterns of N x N counts.
    result : Reconstruction or path, optional
        The halves are reconstructed with the options recorded in it; without it, with the defaults.
    options : EvaluationOptions, optional
        ``split``, ``gauge``, ``crop``, ``max_shift`` and ``seed`` are used.
    reconstruct : callable, optional
        Turns a scan into a Reconstruction; :func:`diptych.reconstruct` by default.
    progress : callable, optional
        Progress of the two reconstructions.
    **overrides
        Single options by name.

    Returns
    -------
    Metrics
        ``frc1over7`` and ``frc_half_bit`` (fractions of Nyquist), the half-period resolution in px and m, and
        ``half_difference``, the relative difference of the halves.

    Raises
    ------
    InputError
        If the scan cannot be split into halves, or an option is wrong.
    """
    options = _options(options, overrides)
    data: Scan = _loaded(scan, "scan", Scan)
    if reconstruct is None:
        reconstruct = _with_recorded_options(
            None if result is None else _loaded(result, "result", Reconstruction), progress
        )
    halves = half_scan_frc(
        data,
        reconstruct,
        split=options.split,
        gauge=options.gauge,
        crop=options.crop,
        max_shift=16 if options.max_shift is None else options.max_shift,
        seed=options.seed,
    )
    alignment = halves.alignment
    collector = Collector(Detail("textbook", halves.gauge, alignment.truth.extent, lit_share=alignment.lit_share))
    first, second = (canvas.values[alignment.counted] for canvas in (alignment.truth, alignment.result))
    collector.add("half_difference", lambda: metrics.complex_error(second, first))
    curve = _attempt(lambda: halves.curve)
    _add_resolution(collector, curve, {"frc1over7": ONE_SEVENTH, "frc_half_bit": "half-bit"}, halves.note)
    return Metrics(
        collector.values, collector.details, alignment, {"halves": curve} if isinstance(curve, RingCorrelation) else {}
    )


def _textbook(
    alignment: Alignment, gauge: str, pixel_m: tuple[float, float] | None
) -> tuple[Collector, dict[str, RingCorrelation]]:
    image, truth, counted = alignment.result.values, alignment.truth.values, alignment.counted
    detail = Detail("textbook", gauge, alignment.truth.extent, lit_share=alignment.lit_share)
    collector = Collector(detail, alignment.doubt)
    difference = metrics.phase_difference(image, truth)[counted]
    phase, true_phase = metrics.phases(image, truth)
    collector.add("complex_error", lambda: metrics.complex_error(image[counted], truth[counted]))
    collector.add("phase_rms_rad", lambda: float(np.sqrt(np.mean(difference**2))), unit="rad")
    channels = {"amplitude": (np.abs(image), np.abs(truth), ""), "phase": (phase, true_phase, "rad")}
    for name, (a, b, unit) in channels.items():
        _add_channel(collector, name, a, b, counted, unit)
    curve = _attempt(
        lambda: fourier_ring_correlation(
            truth, image, mask=alignment.mask, pixel_m=pixel_m, label="result against truth"
        )
    )
    _add_resolution(collector, curve, {"frc50": 0.5, "frc1over7": ONE_SEVENTH})
    return collector, {"truth": curve} if isinstance(curve, RingCorrelation) else {}


def _add_channel(
    collector: Collector, name: str, image: metrics.Image, truth: metrics.Image, counted: metrics.Mask, unit: str
) -> None:
    extent = metrics.data_range(truth[counted])
    collector.add(f"{name}_mae", lambda: metrics.mean_absolute_error(image[counted], truth[counted]), unit=unit)
    collector.add(f"{name}_psnr", lambda: metrics.psnr(image[counted], truth[counted]), unit="dB", data_range=1.0)
    collector.add(f"{name}_ssim", lambda: metrics.ssim(image, truth, extent, counted), data_range=extent)
    collector.add(f"{name}_ms_ssim", lambda: metrics.ms_ssim(image, truth, extent, counted), data_range=extent)


def _attempt(compute: Callable[[], RingCorrelation]) -> RingCorrelation | UndefinedMetricError:
    try:
        return compute()
    except UndefinedMetricError as error:
        return error


def _add_resolution(
    collector: Collector,
    curve: RingCorrelation | UndefinedMetricError,
    thresholds: dict[str, Threshold],
    note: str | None = None,
) -> None:
    """Crossing and half-period resolution at each threshold, or the reason why there is no curve."""

    def read(method: Callable[[RingCorrelation, Threshold], float], threshold: Threshold) -> float:
        if isinstance(curve, UndefinedMetricError):
            raise curve
        return method(curve, threshold)

    for key, threshold in thresholds.items():
        collector.add(key, partial(read, RingCorrelation.crossing, threshold), unit="of Nyquist", note=note)
        if collector.values[key] == 1.0:
            collector.remark(
                key, "the correlation exceeds the threshold up to Nyquist: the pixel size limits the resolution"
            )
        collector.add(f"{key}_half_period_px", partial(read, RingCorrelation.half_period_px, threshold), unit="px")
        collector.add(f"{key}_half_period_m", partial(read, RingCorrelation.half_period_m, threshold), unit="m")


def _options(options: EvaluationOptions | None, overrides: dict[str, Any]) -> EvaluationOptions:
    return (options or EvaluationOptions()).with_changes(**overrides) if overrides else options or EvaluationOptions()


def _with_recorded_options(
    result: Reconstruction | None, progress: ProgressCallback | None
) -> Callable[[Scan], Reconstruction]:
    """:func:`diptych.reconstruct` with the options recorded in ``result``."""
    from diptych.ptycho.engines.options import ReconstructionOptions
    from diptych.ptycho.reconstruct import reconstruct

    recorded = {} if result is None else result.provenance.get("options", {})
    options = ReconstructionOptions.build(recorded, origin="options recorded in the result").with_changes(
        error_bars=False
    )
    return lambda scan: reconstruct(scan, options=options, progress=progress)


def _loaded(value: Any, what: str, kind: type[Any]) -> Any:
    """``value``, or the content of its file. Raises InputError when it is not a ``kind``."""
    found = value
    if isinstance(value, str | Path):
        from diptych.ptycho.io import load

        found = load(value)
    if not isinstance(found, kind):
        from_file = isinstance(value, str | Path)
        raise InputError(
            value if from_file else "evaluate",
            f"{'contains' if from_file else f'the {what} is'} a {type(found).__name__}",
            f"{_ARTICLES[kind]} as the {what}",
        )
    return found


_ARTICLES: dict[type[Any], str] = {Scan: "a Scan (diffraction counts)", Reconstruction: "a Reconstruction"}


def _result(result: Any) -> Reconstruction | Canvas:
    if isinstance(result, Canvas):
        return result
    found: Reconstruction = _loaded(result, "result", Reconstruction)
    return found


def _opened(truth: Any) -> Any:
    """The truth; that of a file where it is a path.

    Raises
    ------
    InputError
        If there is none, or the file holds none.
    """
    if truth is None:
        raise InputError(
            "evaluate",
            "no truth is given",
            "a Canvas, a simulated Scan or a file (--truth FILE)",
            "For the resolution of measured data, use evaluate_without_truth(scan) (--scan FILE).",
        )
    if not isinstance(truth, str | Path):
        return truth
    from diptych.ptycho.io import load

    found = load(truth)
    if isinstance(found, Scan) and found.truth is None:
        raise _no_truth(truth, found)
    return found


def _reference(truth: Any) -> tuple[Canvas, NDArray[np.float64] | None]:
    """The true object and, where known, the scan positions."""
    if isinstance(truth, Canvas):
        return truth, None
    if isinstance(truth, Reconstruction):
        return truth.object, truth.positions
    if not isinstance(truth, Scan):
        raise InputError(
            "evaluate", f"the truth is a {type(truth).__name__}", "a Canvas, a Scan with its truth or a Reconstruction"
        )
    if truth.truth is None:
        raise _no_truth("evaluate", truth)
    return truth.truth, truth.positions


def _no_truth(where: str | Path, scan: Scan) -> InputError:
    return InputError(
        where,
        f"the scan {scan.name!r} has no true object",
        "a simulated scan, a Canvas or a reference result",
        "For measured data, use evaluate_without_truth(scan) (--scan FILE).",
    )


def _same_pixels(image: Canvas, reference: Canvas) -> None:
    if image.pixel_m is None or reference.pixel_m is None:
        return
    if not np.allclose(image.pixel_m, reference.pixel_m, rtol=_PIXEL_TOLERANCE, atol=0):
        raise InputError(
            "evaluate",
            f"the pixels of the result are {image.pixel_m[0]:.4g} x {image.pixel_m[1]:.4g} m, those of the truth "
            f"{reference.pixel_m[0]:.4g} x {reference.pixel_m[1]:.4g} m",
            "the same pixel size",
            "Resample one of them.",
        )
