"""Scale and phase ramp of an object of unknown gauge, from the sum of all patterns."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from diptych.ptycho.engines.problem import Problem, in_order, sweep_batch, zero_masked


def in_gauge(problem: Problem, image: Tensor, probe: Tensor) -> Tensor | None:
    """``image`` (H, W) with the scale and phase ramp that explain the sum of all patterns under ``probe`` (P, N, N).

    The counts leave an object's scale and ramp free where the probe may take the opposite ones; a given probe fixes
    them. The ramp moves the far field, so it follows from the centres of mass.

    Returns
    -------
    (H, W) complex tensor or None
        None where ``image`` is not finite, or predicts no photons.
    """
    measured, predicted = _summed_patterns(problem, image, probe)
    if not (math.isfinite(float(predicted.sum())) and float(measured.sum()) > 0 and float(predicted.sum()) > 0):
        return None
    frequencies = torch.fft.fftshift(torch.fft.fftfreq(problem.size, dtype=torch.float64, device=problem.device))

    def centre(field: Tensor) -> list[float]:
        return [float((field.sum(axis) * frequencies).sum() / field.sum()) for axis in (1, 0)]

    y, x = (a - b for a, b in zip(centre(measured), centre(predicted), strict=True))
    rows, columns = (torch.arange(side, dtype=torch.float64, device=problem.device) for side in image.shape)
    ramp = torch.exp(2j * math.pi * (y * rows[:, None] + x * columns))
    scale = math.sqrt(float(measured.sum()) / float(predicted.sum()))
    return (scale * image * ramp).to(image.dtype)


def _summed_patterns(problem: Problem, image: Tensor, probe: Tensor) -> tuple[Tensor, Tensor]:
    """Measured and predicted counts less background, summed over patterns at fitted pixels: (N, N) in float64."""
    measured = torch.zeros((problem.size, problem.size), dtype=torch.float64, device=problem.device)
    predicted = torch.zeros_like(measured)
    dark = 0.0 if problem.forward.background is None else problem.forward.background
    for batch in in_order(len(problem), sweep_batch(problem)):
        views = problem.forward.views(image, probe, batch)
        _, expected = problem.forward.detect(views.exit_waves())
        fitted = torch.ones_like(expected)
        zero_masked(problem, batch, fitted)
        measured += ((problem.counts[views.rows] - dark) * fitted).sum(0)
        predicted += ((expected - dark) * fitted).sum(0)
    return measured, predicted
