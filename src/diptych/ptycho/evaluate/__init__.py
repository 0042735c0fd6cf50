"""Quality of a reconstruction: alignment with a reference, image metrics and Fourier ring correlation.

:func:`evaluate` compares with a truth, :func:`evaluate_without_truth` compares two halves of the data, and
:func:`diptych.compare` evaluates several methods alike. Figures are in :mod:`diptych.ptycho.figures`.
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
