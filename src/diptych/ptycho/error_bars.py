"""Error bars of a reconstruction: the standard error of amplitude and phase per pixel, from the likelihood's curvature.

At the maximum of the likelihood the covariance of what was estimated is the inverse of the Fisher information (Kay,
1993, section 7.5): :mod:`diptych.ptycho.physics.information`. What was refined with the object widens them, and so do
detector pixels that expect about one photon: :class:`~diptych.ptycho.physics.information.curvature.Curvature`.
"""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.errors import InputError
from diptych.ptycho.scan import Reconstruction, Scan
from diptych.runtime.progress import Progress, ProgressCallback

if TYPE_CHECKING:
    from diptych.ptycho.physics.information import Point

log = logging.getLogger("diptych")

UNIFORM = math.pi / math.sqrt(3)
"""Standard deviation of a phase of which nothing is known, rad."""

MISFIT = 1.1
"""Misfit above which the errors of the data exceed photon noise; the error bars then grow by its root. The misfit is
the geometric mean of the fits on fitted and on held-out pixels: the one falls below 1 by about as much as the other
rises above it."""


def error_bars(
    result: Reconstruction,
    scan: Scan,
    *,
    accuracy: float = 0.05,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Reconstruction:
    """Add the standard errors of amplitude and phase to a result.

    Parameters
    ----------
    result : Reconstruction
        Made from ``scan``.
    scan : Scan
        M patterns of N x N counts.
    accuracy : float
        Relative standard error of the error bar of a single pixel at which to stop, 0.005 to 0.5. The work grows with
        1 / accuracy^2: about 50 solves of 10 to 30 steps each for 0.05.
    seed : int
        Of the random vectors.
    progress : callable, optional
        Called after each group of solves.

    Returns
    -------
    Reconstruction
        With ``amplitude_error`` (units of the modulus), ``phase_error`` (rad) and ``error`` (of the complex value),
        each (H, W) and NaN where no light reached; ``provenance["error_bars"]`` says what they hold for. They are
        those of the object as :func:`diptych.evaluate` aligns it: what the data leave free is no error.

    Raises
    ------
    InputError
        If the result has no positions, or was not made from this scan.

    Notes
    -----
    Error bars know photon noise and what it does through the refined probe, positions and frame factors. They do not
    know a bias: that of a wrong model, of a regularisation, or of an engine stopped far from the maximum. Where the
    data are fitted worse than to 1.1 times photon noise (geometric mean of the fits on fitted and on held-out pixels),
    they are multiplied by the root of that.

    Examples
    --------
    >>> import diptych
    >>> scan = diptych.simulate(object="blocks", size=16, patterns=36, step=2.0, dose=1e5, seed=0)
    >>> result = diptych.error_bars(diptych.reconstruct(scan), scan, accuracy=0.2)
    >>> result.phase_error.shape == result.object.shape
    True
    """
    if not 0.005 <= accuracy <= 0.5:
        raise InputError("error_bars: accuracy", f"is {accuracy}", "a number from 0.005 to 0.5")
    cleaned = as_reconstructed(result, scan)
    return with_error_bars(result, cleaned, accuracy=accuracy, seed=seed, progress=progress)


def with_error_bars(
    result: Reconstruction,
    scan: Scan,
    *,
    accuracy: float = 0.05,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Reconstruction:
    """:func:`error_bars` for the scan as the engine saw it: one pattern for each position of the result."""
    import torch

    from diptych.ptycho.physics.information import Curvature

    point = point_of(result, scan)
    report = None
    if progress is not None:

        def report(done: int, most: int) -> None:
            progress(Progress("error bars", done, most))

    with torch.no_grad():
        curvature = Curvature(point, attained=True)
        found = curvature.variances(pixel_noise=2 * accuracy, seed=seed, report=report)
    scale = math.sqrt(misfit) if (misfit := misfit_of(result)) > MISFIT else 1.0
    along, across = (scale * _on(result, curvature.origin, np.sqrt(part)) for part in (found.along, found.across))
    modulus = np.abs(result.object.values)
    with np.errstate(divide="ignore", invalid="ignore"):
        phase = np.fmin(across / modulus, UNIFORM)
    phase[np.isnan(across)] = np.nan
    record = {
        "refined": list(point.unknowns),
        "accuracy": found.noise / 2,
        "solves": found.solves,
        "steps": found.steps,
        "scaled_by": scale,
        "raster_gauge": curvature.raster,
        "expected_complex_error": scale * math.sqrt(found.total / _energy(curvature)),
    }
    if result.provenance.get("regularisation", {}).get("strength"):
        record["not_covered"] = "the bias of the total variation"
        log.warning("error bars do not cover the bias of the total variation that regularised this result")
    log.info("error bars: %d solves of up to %d steps, known to %.1f %%", found.solves, found.steps, 50 * found.noise)
    return replace(
        result,
        error=np.hypot(along, across).astype(np.float32),
        amplitude_error=along.astype(np.float32),
        phase_error=phase.astype(np.float32),
        provenance={**result.provenance, "error_bars": record},
    )


def misfit_of(result: Reconstruction) -> float:
    """Deviance of the data over that of photon noise, 1 where it is not recorded; see :data:`MISFIT`."""
    fits = [float(result.provenance.get(name, math.nan)) for name in ("fit", "held_out_fit")]
    known = [fit for fit in fits if math.isfinite(fit) and fit > 0]
    return math.exp(sum(map(math.log, known)) / len(known)) if known else 1.0


def point_of(result: Reconstruction, scan: Scan) -> Point:
    """Where the information of a result is computed, in photons; ``scan`` as the engine saw it."""
    from diptych.ptycho.physics.detector.point_spread import recorded_widths
    from diptych.ptycho.physics.detector.read_noise import photon_background
    from diptych.ptycho.physics.illumination import measured_frames
    from diptych.ptycho.physics.information import Point, Refined

    if len(result.positions) != len(scan):
        raise InputError(
            "error bars",
            f"the result {result.name!r} has {len(result.positions)} positions, the scan {scan.name!r} "
            f"{len(scan)} patterns",
            "the scan that the result was made from",
        )
    if result.slices is not None:
        raise InputError("error bars", f"the result {result.name!r} has {len(result.slices)} slices", "one slice")
    gain = float(result.provenance.get("counts_per_photon", 1.0))
    options: Any = result.provenance.get("options", {})
    moved = not np.array_equal(result.positions, scan.positions) and options.get("correct_positions", "off") != "off"
    kept = measured_frames(scan.mask, len(scan))
    mask = scan.mask if scan.mask is None or scan.mask.ndim == 2 else scan.mask[kept]
    components, coefficients = result.probe_components, result.probe_coefficients
    return Point(
        result.object,
        result.probe / np.sqrt(gain),
        result.positions[kept],
        mask,
        photon_background(scan, gain) if result.background is None else result.background / gain,
        None if result.frame_factors is None else result.frame_factors[kept],
        None if components is None else components / np.sqrt(gain),
        None if coefficients is None else coefficients[kept],
        recorded_widths(result.provenance, result.name),
        Refined(options.get("probe") != "fixed", bool(moved), result.frame_factors is not None),
    )


def as_reconstructed(result: Reconstruction, scan: Scan) -> Scan:
    """The scan after the cleaning that the result's options ask for."""
    from diptych.ptycho.engines.options import ReconstructionOptions
    from diptych.ptycho.prepare.clean import clean

    recorded = result.provenance.get("options", {})
    options = ReconstructionOptions.build(recorded, origin="options recorded in the result")
    cleaned = clean(
        scan,
        drop=options.drop,
        bad_frames=options.bad_frames,
        auto_mask=options.auto_mask,
        saturated=options.saturated,
    ).scan
    return cleaned if len(cleaned) == len(result.positions) else scan


def _on(result: Reconstruction, origin: tuple[int, int], part: Any) -> Any:
    """A map on the canvas of the result, NaN where it is not known."""
    out = np.full(result.object.shape, np.nan)
    y, x = (origin[k] - result.object.origin[k] for k in (0, 1))
    out[y : y + part.shape[0], x : x + part.shape[1]] = part
    return out


def _energy(curvature: Any) -> float:
    """Sum of |O|^2 over the scored pixels."""
    return float(curvature.information.image[curvature.scored].abs().square().sum())
