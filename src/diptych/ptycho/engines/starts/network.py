"""Initial guess from a trained network: its image of the scan, or a flat object where that is as good."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.ptycho.engines.request import Request, TrainedNetwork
from diptych.ptycho.engines.starts.initial import InitialGuess, copy_overlap, probe_modes
from diptych.ptycho.scan import Scan

if TYPE_CHECKING:
    from torch import Tensor

    from diptych.ptycho.engines.problem import Problem

log = logging.getLogger("diptych")

PATTERNS = 150
"""Patterns at the centre of the scan on which both initial guesses are tried."""

EPOCHS = 3
"""Epochs of each trial."""

CLEARLY_BETTER = 0.4
"""A network's image is used when its trial leaves less than this share of what a flat object's leaves above noise (a
fit of 1). Images wrong by 5 to 20 % reach 0.05 to 0.4; of those that lead nowhere (shifted, conjugated, half wrong) the
best reached 0.66."""

CERTAIN = 0.8
"""Its fit must also be below this share of the flat one's: near the noise, smaller differences are chance."""

GOOD_FIT = 3.0
"""An image with a held-out fit below this that also meets :data:`GOOD_SHARE` needs no trial: only noise is left."""

GOOD_SHARE = 1 / 3
"""Share of the flat object's held-out fit; at low dose any object fits well."""

AHEAD = 1.5
"""An image that meets :data:`GOOD_SHARE` is also used when its fit is at most this many times that of a flat object
after its trial, and its own trial ends no worse. This matters where something other than noise limits the fit: there
all trials end alike."""

SAME = 0.9999
"""Probes with a normalised overlap |<a, b>| above this are not both tried."""


def opened(model: TrainedNetwork | str | Path, options: ReconstructionOptions) -> TrainedNetwork:
    """The trained network that ``model`` is or names.

    Raises
    ------
    InputError
        If it is neither, the file holds none, or the options name another initial object.
    """
    if options.start != "flat":
        raise InputError("reconstruct", f"start = {options.start} and a model", "only one initial object")
    if isinstance(model, str | Path):
        from diptych.ptycho.neural.model import load_model

        return load_model(model)
    if not callable(getattr(model, "reconstruct", None)):
        raise InputError("reconstruct", f"model is a {type(model).__name__}", "a trained Model or the path of its file")
    return model


def network_guess(request: Request, start: NDArray[np.complex64], problem: Problem) -> InitialGuess:
    """The network's image of the scan, or a flat object where that promises no less.

    The network is given the scan under its own probe and, where the probe is refined anyway, under the one of the
    training scans: a probe recovered earlier on the same instrument is often the better guess. Each image is rated
    under its probe, in that probe's gauge (:func:`~diptych.ptycho.engines.starts.gauge.in_gauge`). The better one must
    fit better than a flat object on the held-out pixels, which the network does not see, and either fit nearly to the
    noise or do clearly better in a short trial: under a wrong probe a few epochs of the engine are a better criterion
    than the fit of the initial guess.

    Parameters
    ----------
    start : (P, N, N) complex64
        Initial probe.
    problem : Problem
        Made of the request's scan.
    """
    network, options = request.network, request.options
    assert network is not None
    candidates = _Candidates(request, problem, hide_held_out(request.scan, problem))
    flat, probe = problem.flat_object(), probe_modes(problem, start, options.first_modes)
    record: dict[str, Any] = {
        "object": "flat",
        "model": network.digest,
        "network_fit": None,
        "flat_fit": candidates.held_out(flat, probe),
    }
    modes, (fit, image) = probe, candidates.rated(start, probe)
    other = _training_probe(network, request.scan, start, options)
    if other is not None:
        other_modes = probe_modes(problem, other, options.first_modes)
        there = candidates.rated(other, other_modes)
        record |= {"probe": "scan", "fit_scan_probe": _known(fit), "fit_network_probe": _known(there[0])}
        if there[0] < CERTAIN * fit:
            record["probe"], modes, (fit, image) = "network", other_modes, there
    record["network_fit"] = _known(fit)
    if image is None:
        return _rejected(flat, probe, record, "its image is not finite or predicts no photons")
    flat_fit = record["flat_fit"]
    if not fit < flat_fit:
        return _rejected(flat, probe, record, "it fits no better")
    if not (fit <= GOOD_FIT and fit <= GOOD_SHARE * flat_fit):
        part = _Part.of(request.scan, problem, options)
        record |= {"network_trial_fit": part.trial(image, modes), "flat_trial_fit": part.trial(flat, probe)}
        network_trial, flat_trial = record["network_trial_fit"], record["flat_trial_fit"]
        ahead = fit <= GOOD_SHARE * flat_fit and fit <= AHEAD * flat_trial and network_trial <= flat_trial
        if not (ahead or _clearly_better(network_trial, flat_trial)):
            return _rejected(flat, probe, record, f"{EPOCHS} epochs from it lead to no clearly better fit")
    log.info("network image accepted as initial guess: held-out fit %.4g, that of a flat object %.4g", fit, flat_fit)
    return InitialGuess(image, modes, fit, {**record, "object": "network", "why": "it fits better"})


@dataclass(frozen=True, eq=False)
class _Candidates:
    """Rates objects by their fit at the held-out pixels of the whole scan."""

    request: Request
    problem: Problem
    counts: NDArray[np.float32]

    def held_out(self, image: Tensor, modes: Tensor) -> float:
        """The held-out fit, or the fit where nothing is held out."""
        from diptych.ptycho.engines.fit_monitor import full_fit
        from diptych.ptycho.engines.problem import sweep_batch

        fits = full_fit(self.problem, image, modes, sweep_batch(self.problem))
        return fits["held_out_fit"] if math.isfinite(fits["held_out_fit"]) else fits["fit"]

    def rated(self, probe: NDArray[np.complex64], modes: Tensor) -> tuple[float, Tensor | None]:
        """The network's image under a probe, in gauge, and its held-out fit (infinite where there is none)."""
        request = self.request
        shown = replace(request.scan, counts=self.counts, probe=probe, probe_calibrated=request.keeps_scale, truth=None)
        image = image_under(request, self.problem, shown, modes)
        fit = math.nan if image is None else self.held_out(image, modes)
        return (fit if math.isfinite(fit) else math.inf), image


def image_under(request: Request, problem: Problem, shown: Scan, modes: Tensor) -> Tensor | None:
    """The network's image of a scan on the problem's canvas (H, W), in the gauge of the probe ``modes`` (P, N, N).

    None where it is not finite, or predicts no photons.
    """
    from diptych.ptycho.engines.starts.gauge import in_gauge

    network = request.network
    assert network is not None
    threads = problem.workers.count if problem.device.type == "cpu" else request.execution.threads
    execution = request.execution.with_changes(device=str(problem.device), threads=threads)
    found = network.reconstruct(shown, request.progress, execution=execution, **_alone(request, network)).object
    return in_gauge(problem, copy_overlap(found, problem.flat_object(), problem.origin), modes)


def _alone(request: Request, network: TrainedNetwork) -> dict[str, Any]:
    """How the network is run: without passes on the whole canvas, which the engine makes anyway."""
    from diptych.ptycho.neural.model import Model
    from diptych.ptycho.neural.options import InferenceOptions

    given = dict(request.inference)
    if isinstance(network, Model):
        chosen = given.get("options") or InferenceOptions()
        given["options"] = chosen.with_changes(canvas_passes=0, network_prior=False)
    return given


def _training_probe(
    network: TrainedNetwork, scan: Scan, start: NDArray[np.complex64], options: ReconstructionOptions
) -> NDArray[np.complex64] | None:
    """The probe of the training scans, if it differs from ``start``, has its shape, and the probe is refined."""
    other: NDArray[np.complex64] | None = getattr(network, "probe", None)
    if options.probe != "refine" or scan.probe_calibrated or other is None or other.shape != start.shape:
        return None
    length = float(np.linalg.norm(start)) * float(np.linalg.norm(other))
    return None if not length > 0 or abs(np.vdot(start, other)) > SAME * length else other


def _known(fit: float) -> float | None:
    """A fit as a JSON value."""
    return fit if math.isfinite(fit) else None


def hide_held_out(scan: Scan, problem: Problem) -> NDArray[np.float32]:
    """The scan's counts (M, N, N) with each held-out pixel replaced by the mean of its valid neighbours.

    A network that saw the held-out pixels could not be rated by them. Neighbours are correlated (patterns are
    oversampled), their noise is not.
    """
    if not problem.held.numel():
        return scan.counts
    hidden, size = np.array(scan.counts), scan.size
    mask = np.broadcast_to(True if scan.mask is None else scan.mask, hidden.shape)
    pattern = np.arange(len(hidden))[:, None]
    y, x = np.divmod(problem.held.cpu().numpy(), size)
    total, valid = np.zeros(y.shape, np.float32), np.zeros(y.shape, np.float32)
    for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        row, column = y + down, x + right
        inside = (row >= 0) & (row < size) & (column >= 0) & (column < size)
        there = pattern, np.where(inside, row, y), np.where(inside, column, x)
        shown = inside & mask[there]
        total += np.where(shown, scan.counts[there], 0)
        valid += shown
    hidden[pattern, y, x] = total / np.maximum(valid, 1)
    return hidden


def _clearly_better(network: float, flat: float) -> bool:
    """Whether the trial fit from a network's image is clearly better than that from a flat object."""
    return network - 1 <= CLEARLY_BETTER * (flat - 1) and network <= CERTAIN * flat


def _rejected(flat: Tensor, probe: Tensor, record: dict[str, Any], why: str) -> InitialGuess:
    fit, flat_fit = record["network_fit"], record["flat_fit"]
    message = "network image rejected as initial guess (%s): held-out fit %s, that of a flat object %.4g"
    log.info(message, why, fit, flat_fit)
    return InitialGuess(flat, probe, None, {**record, **({"probe": "scan"} if "probe" in record else {}), "why": why})


@dataclass(frozen=True, eq=False)
class _Part:
    """The centre of a scan, for trials."""

    problem: Problem
    origin: tuple[int, int]
    refine_probe: bool

    @classmethod
    def of(cls, scan: Scan, problem: Problem, options: ReconstructionOptions) -> _Part:
        import torch

        from diptych.ptycho.engines.problem import make_problem
        from diptych.ptycho.engines.starts.trial import SEED, central_part

        part = make_problem(
            central_part(scan, PATTERNS),
            device=problem.device,
            double=problem.complex_dtype == torch.complex128,
            subpixel=options.subpixel != "round",
            held_out=0.0,
            seed=SEED,
            power=problem.power,
            workers=problem.workers,
        )
        return cls(part, problem.origin, options.probe != "fixed")

    def trial(self, image: Tensor, probe: Tensor) -> float:
        """The fit after a few epochs of PIE from an object (H, W) on the whole scan's canvas."""
        from diptych.ptycho.engines.starts.trial import run_trial

        (top, left), (height, width) = np.subtract(self.problem.origin, self.origin), self.problem.shape
        start = image[top : top + height, left : left + width]
        return run_trial(self.problem, start, probe, EPOCHS, refine_probe=self.refine_probe).fit
