"""Whether error bars hold: the share of pixels whose true value lies inside them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diptych.ptycho.evaluate.align import Alignment
from diptych.ptycho.evaluate.report import Collector, UndefinedMetricError
from diptych.ptycho.scan import Reconstruction

NINETY = 1.6448536269514722
"""Half-width of the central 90 % of a normal distribution, in standard deviations."""

CERTAIN = 3.0
"""Pixels count where their amplitude exceeds this many standard errors: the phase of others is not normal."""


def covered(result: Reconstruction, alignment: Alignment) -> dict[str, NDArray[np.bool_]]:
    """Whether the truth lies inside the 90 % interval of each counted pixel: ``amplitude`` and ``phase``, (K,) bool.

    Empty where the result has no error bars, or no pixel is certain enough.

    Parameters
    ----------
    result : Reconstruction
        With ``amplitude_error`` and ``phase_error``.
    alignment : Alignment
        Of its object with the truth.
    """
    if result.amplitude_error is None or result.phase_error is None:
        return {}
    y0, y1, x0, x1 = alignment.truth.extent
    dy, dx = (round(float(s)) for s in alignment.shift)
    rows, columns = np.arange(y0, y1) + dy - result.object.origin[0], np.arange(x0, x1) + dx - result.object.origin[1]
    h, w = result.object.shape
    rows_in, columns_in = (rows >= 0) & (rows < h), (columns >= 0) & (columns < w)
    bars = [np.full(alignment.truth.shape, np.nan) for _ in range(2)]
    for bar, source in zip(bars, (result.amplitude_error, result.phase_error), strict=True):
        bar[np.ix_(rows_in, columns_in)] = source[np.ix_(rows[rows_in], columns[columns_in])]
    along, across = bars[0] / abs(alignment.scale), bars[1]
    image, truth = alignment.result.values, alignment.truth.values
    with np.errstate(invalid="ignore"):
        counted = alignment.counted & np.isfinite(along) & (np.abs(image) > CERTAIN * along)
        counted &= np.abs(image) > CERTAIN * across * np.abs(image)
    difference = np.abs(np.abs(image) - np.abs(truth))
    turned = np.abs(np.angle(image * np.conj(truth)))
    return {
        "amplitude": (difference <= NINETY * along)[counted],
        "phase": (turned <= NINETY * across)[counted],
    }


def add_coverage(collector: Collector, result: Reconstruction, alignment: Alignment) -> None:
    """Add ``amplitude_coverage90`` and ``phase_coverage90`` to the metrics of a result that has error bars."""
    for name, hits in covered(result, alignment).items():

        def share(hits: NDArray[np.bool_] = hits) -> float:
            if not hits.size:
                raise UndefinedMetricError(f"no pixel's amplitude exceeds {CERTAIN:g} standard errors")
            return float(hits.mean())

        collector.add(f"{name}_coverage90", share, note="0.9 is right; bias and model errors lower it")
