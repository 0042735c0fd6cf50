"""Scale and ramps that the counts leave free: from the sum of all patterns, and from the factors of the frames."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from diptych.ptycho.engines.problem import Problem, in_order, sweep_batch, zero_masked
from diptych.ptycho.engines.starts.beam import slope_over_scan
from diptych.ptycho.physics.forward import intensity
from diptych.ptycho.physics.modes import orthogonal_modes
from diptych.ptycho.physics.propagators import FarField
from diptych.ptycho.physics.varying.probe import VaryingForward, varies


def in_gauge(problem: Problem, image: Tensor, probe: Tensor) -> Tensor | None:
    """``image`` (H, W) with the scale and phase ramp that explain the sum of all patterns under ``probe`` (P, N, N).

    The counts leave an object's scale and ramp free where the probe may take the opposite ones; a given probe fixes
    them. The ramp moves the far field, so it follows from the centres of mass; of near fields it is left as it is.

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
    if not isinstance(problem.forward.propagator, FarField):
        y = x = 0.0
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


def without_factor_ramp(problem: Problem, image: Tensor, probe: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Object (H, W), probe (P, N, N) and factors (M,) in the gauge where factors vary over time, not over the scan.

    ``O exp(a r)``, ``P exp(-a r)`` and ``f exp(-2 a r_m)`` predict the same counts, for any a: where factors of the
    frames and the probe are both fitted, a ramp in the log modulus is free. A beam varies in time, so the slope over
    positions that time does not explain (:func:`~diptych.ptycho.engines.starts.beam.slope_over_scan`) is taken to be
    the object's. For factors that are independent from frame to frame, its uncertainty is their spread over the root of
    the number of frames: 1 % in the modulus for 18 % and 144 frames.
    """
    factors = problem.forward.factors
    assert factors is not None
    corners = torch.from_numpy(problem.forward.corners).double()
    middle = corners.mean(0)
    values = factors.values.double().cpu()
    # Empty frames have the least factor, and no say.
    known = values > 0.1 * values.median()
    slope = torch.from_numpy(slope_over_scan(values[known].log().numpy(), corners[known].numpy()))

    def ramp(shape: torch.Size, centre: Tensor, sign: float) -> Tensor:
        y, x = (torch.arange(side, dtype=torch.float64) - c for side, c in zip(shape[-2:], centre, strict=True))
        return torch.exp(sign * 0.5 * (slope[0] * y[:, None] + slope[1] * x)).to(problem.device, problem.counts.dtype)

    half = torch.full((2,), float(problem.size // 2), dtype=torch.float64)
    flat = (values * torch.exp(-(corners - middle) @ slope)).to(factors.values)
    on_probe = ramp(probe.shape, half, -1.0)
    if isinstance(problem.forward, VaryingForward):
        problem.forward.multiply(on_probe)
    return image * ramp(image.shape, middle + half, 1.0), probe * on_probe, flat


def photons_on_probe(problem: Problem, image: Tensor, probe: Tensor) -> tuple[Tensor, Tensor]:
    """Object (H, W) and orthogonal probe modes (P, N, N) with the free scale between them fixed: the probe carries the
    photons. Where the first mode varies, the modes are left as they are: what varies would be spread over all.
    """
    scale = (problem.power / intensity(probe).sum()).sqrt()
    probe = probe * scale
    return image / scale, probe if varies(problem.forward) else orthogonal_modes(probe)


def varied_probe(problem: Problem, probe: Tensor) -> dict[str, Any]:
    """Fields of a result with the components of a probe (P, N, N) that varies, and their coefficients; else none."""
    forward = problem.forward
    if not isinstance(forward, VaryingForward) or forward.variation is None:
        return {}
    components, coefficients = (
        each.to(torch.complex64).cpu().numpy() for each in (forward.components(probe), forward.variation.coefficients)
    )
    return {"probe_components": components, "probe_coefficients": coefficients}
