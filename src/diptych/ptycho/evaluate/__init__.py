"""How good a reconstruction is: alignment, metrics, resolution and figures.

Figures live in :mod:`diptych.ptycho.figures.overview`, which loads matplotlib and is therefore not imported here;
alignment by itself in :mod:`diptych.ptycho.evaluate.align`.
"""

from diptych.ptycho.evaluate.evaluation import evaluate, evaluate_without_truth
from diptych.ptycho.evaluate.halves import HalfScanResult, checkerboard, half_scan_frc, thin
from diptych.ptycho.evaluate.options import EvaluationOptions
from diptych.ptycho.evaluate.report import Detail, Metrics, UndefinedMetricError
from diptych.ptycho.evaluate.resolution import RingCorrelation, fourier_ring_correlation

__all__ = [
    "Detail",
    "EvaluationOptions",
    "HalfScanResult",
    "Metrics",
    "RingCorrelation",
    "UndefinedMetricError",
    "checkerboard",
    "evaluate",
    "evaluate_without_truth",
    "fourier_ring_correlation",
    "half_scan_frc",
    "thin",
]
