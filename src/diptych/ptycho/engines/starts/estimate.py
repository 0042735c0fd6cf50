"""Initial guess of the probe from the mean pattern, and refocusing of a given one, both by short reconstructions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.engines.starts.trial import Trial, central_part, try_out
from diptych.ptycho.physics.probe import defocused, pupil_edge, to_pupil
from diptych.ptycho.physics.propagators import propagator_of
from diptych.ptycho.scan import Scan

PATTERNS = 150
"""Patterns at the centre of the scan on which the defoci are tried."""

EPOCHS = 6
"""Epochs of each trial."""

STEPS = 4
"""Defoci tried on each side of the focus, before the best is refined by half a step either way."""

POOR = ((3.0, 0.01), (1.3, 0.1))
"""A trial is poor when it exceeds both fit and excess (deviance above that of shot noise, per photon) of one pair. Good
initial guesses reach an excess of 0.002 to 0.006 at any dose, but a fit of a thousand at 1e9 photons."""

CLEARLY_BETTER = 0.8
"""A refocused probe is used when its trial fit is below this fraction of the given one's."""


def estimate_probe(scan: Scan) -> NDArray[np.complex64]:
    """A probe (1, N, N) whose far-field modulus is the root of the mean pattern, with the defocus that fits best.

    The mean pattern is the intensity of the probe's far field, blurred by the object. Its phase is unknown and modelled
    as quadratic: a defocus, found by short reconstructions, up to the one at which the beam fills two thirds of the
    window.

    Of a near-field scan, the root of the mean pattern with a flat phase, propagated back to the sample: the object
    moves in the window, so that its structure averages out, and the curvature of a diverging beam only magnifies.

    Raises
    ------
    InputError
        If the mean pattern holds no signal above the background.
    """
    if is_near(scan):
        return _propagated_back(scan)
    pupil, edge = mean_pupil(scan)
    part = central_part(scan, PATTERNS)
    return _best_focus(part, pupil.astype(np.complex128)[None], edge, _widest(edge), {})[0]


def refocus(scan: Scan, probe: NDArray[np.complex64]) -> tuple[NDArray[np.complex64], str]:
    """The probe (P, N, N), refocused where a short trial shows that it is far out of focus; and a note on the change.

    A wrong defocus is the most common error of an initial probe, and beyond a few radians no engine recovers from it.
    The trial costs about one epoch of a thousand patterns; defoci are scanned only when it fits poorly. A near-field
    probe is returned as it is.
    """
    if is_near(scan):
        return probe, ""
    part = central_part(scan, PATTERNS)
    given = try_out(part, probe, EPOCHS)
    if not is_poor(given):
        return probe, ""
    _, edge = mean_pupil(scan)
    pupil = to_pupil(probe)
    best, trial, phase = _best_focus(part, pupil, edge, _widest(edge), {0.0: given})
    if is_poor(trial) and len(probe) == 1:
        other = estimate_probe(scan)
        found = try_out(part, other, EPOCHS)
        if found.fit < CLEARLY_BETTER * min(trial.fit, given.fit):
            fits = f"trial fit {given.fit:.2f} before, {found.fit:.2f} after"
            note = f"the initial probe fitted poorly: estimated from the mean pattern instead ({fits})"
            return other, note
    if trial.fit > CLEARLY_BETTER * given.fit:
        return probe, ""
    change = f"trial fit {given.fit:.2f} before, {trial.fit:.2f} after"
    return best, f"the initial probe was out of focus: refocused by {phase:.1f} rad at its edge ({change})"


def is_near(scan: Scan) -> bool:
    """Whether the patterns are near-field images."""
    return scan.geometry is not None and scan.geometry.propagation == "near"


def _propagated_back(scan: Scan) -> NDArray[np.complex64]:
    """The probe (1, N, N) of a near-field scan."""
    field = torch.from_numpy(mean_pupil(scan)[0].astype(np.complex128))
    propagator = propagator_of(scan.geometry, scan.size, torch.complex128, torch.device("cpu"))
    # Fields at the detector and entered probes carry the same ramp: one is put on, and taken off.
    probe = propagator.leave(propagator.adjoint(propagator.enter(field)))
    return probe.numpy()[None].astype(np.complex64)


def is_poor(trial: Trial) -> bool:
    """Whether a trial fits so poorly that its initial probe is doubted."""
    return any(trial.fit > fit and trial.excess > excess for fit, excess in POOR)


def _widest(edge: float) -> float:
    """The defocus that fills two thirds of the window: a phase c (q / edge)^2 puts the ray at the edge N c / (pi edge)
    pixels off axis.
    """
    return float(np.pi * edge / 3)


def _best_focus(
    scan: Scan, pupil: NDArray[np.complexfloating[Any, Any]], edge: float, widest: float, tried: dict[float, Trial]
) -> tuple[NDArray[np.complex64], Trial, float]:
    """The best of evenly spaced defoci up to ``widest`` radians at the edge, refined once: probe, trial, defocus."""

    def value(phase: float) -> float:
        if phase not in tried:
            tried[phase] = try_out(scan, defocused(pupil, edge, phase), EPOCHS)
        return tried[phase].fit

    best = float(min(np.linspace(-widest, widest, 2 * STEPS + 1), key=value))
    half = widest / STEPS / 2
    best = min((best - half, best, best + half), key=value)
    return defocused(pupil, edge, best), tried[best], best


def mean_pupil(scan: Scan) -> tuple[NDArray[np.float64], float]:
    """Root of the mean valid pattern less background, (N, N), and the radius in pixels that holds 95 % of it."""
    total, seen = np.zeros((scan.size, scan.size)), np.zeros((scan.size, scan.size))
    for i, pattern in enumerate(scan.counts):
        valid = np.ones_like(seen, bool) if scan.mask is None else (scan.mask if scan.mask.ndim == 2 else scan.mask[i])
        total += np.where(valid, pattern, 0)
        seen += valid
    mean = total / np.maximum(seen, 1)
    mean = np.maximum(mean if scan.background is None else mean - scan.background, 0)
    if mean.sum() <= 0:
        raise InputError(
            scan.name,
            "the mean pattern holds no signal above the background",
            "patterns from which to estimate a probe",
        )
    return np.sqrt(mean), pupil_edge(mean)
