"""Where the engines start when there is a trained network: from its image, or from a flat object where that promises no
less.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.ptycho.scan import Canvas, Reconstruction, Scan
from diptych.runtime.device import ExecutionOptions
from diptych.runtime.progress import ProgressCallback

if TYPE_CHECKING:
    from torch import Tensor

    from diptych.ptycho.engines.problem import Problem

log = logging.getLogger("diptych")

PATTERNS = 150
"""Patterns of the scan's middle on which both starts are tried."""

EPOCHS = 3
"""Epochs of each trial."""

CLEARLY_BETTER = 0.4
"""A network's start is taken when its trial leaves less than this share of what a flat object's leaves above noise (a
fit of 1). Images wrong by 5 to 20 % come to 0.05 to 0.4; of those that lead nowhere (shifted, conjugated, half wrong)
the best was at 0.66."""

CERTAIN = 0.8
"""Its fit must be below this share of the flat one's, too: near the noise, smaller differences are chance."""

GOOD_FIT = 3.0
"""At a held-out fit below this, a start that also meets :data:`GOOD_SHARE` needs no trial: nothing but noise is left to
explain."""

GOOD_SHARE = 1 / 3
"""Share of the flat start's held-out fit; at a low dose anything fits well."""

AHEAD = 1.5
"""A start that meets :data:`GOOD_SHARE` is also taken when it fits, as it is, nearly as well as a flat one after its
trial (this many times its fit), and does no worse in its own. So it is where something other than noise limits the fit:
there all trials end alike."""

SAME = 0.9999
"""Probes that are as much alike as this need not both be tried: |<a, b>| of the two at unit power."""


class Starter(Protocol):
    """What the engines can start from: a trained :class:`~diptych.ptycho.neural.model.Model`."""

    @property
    def digest(self) -> str:
        """Tells one network from another, also in another process."""
        ...

    @property
    def probe(self) -> NDArray[np.complex64] | None:
        """The probe (P, N, N) that it was trained with, if one is known."""
        ...

    def reconstruct(
        self, scan: Scan, progress: ProgressCallback | None = None, *, execution: ExecutionOptions, **inference: Any
    ) -> Reconstruction:
        """Its image of a scan."""
        ...


@dataclass(frozen=True, eq=False)
class Start:
    """What to start from.

    Parameters
    ----------
    image : (H, W) complex tensor
        The object, on the problem's canvas.
    probe : (P, N, N) complex tensor
        The probe modes.
    fit : float, optional
        Its held-out fit, where it is a network's; None for any other.
    record : dict
        How the choice between network and flat was made, as JSON values; empty where there was none.
    """

    image: Tensor
    probe: Tensor
    fit: float | None = None
    record: dict[str, Any] = field(default_factory=dict)


def opened(model: Starter | str | Path, options: ReconstructionOptions) -> Starter:
    """The trained network that ``model`` is or names.

    Raises
    ------
    InputError
        If it is neither, the file holds none, or the options name another start.
    """
    if options.start != "flat":
        raise InputError(
            f"reconstruct: start = {options.start} and a model are two objects to start from; choose one of them."
        )
    if isinstance(model, str | Path):
        from diptych.ptycho.neural.model import load_model

        return load_model(model)
    if not callable(getattr(model, "reconstruct", None)):
        raise InputError(
            f"reconstruct: model is a {type(model).__name__}; expected a trained Model or the path of its file."
        )
    return model


def network_start(
    model: Starter,
    scan: Scan,
    start: NDArray[np.complex64],
    problem: Problem,
    ready: Callable[[NDArray[np.complex64]], Tensor],
    options: ReconstructionOptions,
    execution: ExecutionOptions,
    progress: ProgressCallback | None,
    inference: dict[str, Any],
) -> Start:
    """The network's image of the scan, or a flat object where that promises no less.

    The network sees the scan under the probe that it has, and under the one that the network was trained with, where
    the probe is to be refined anyway: the same instrument's, as it was found before, is often the better start. Each
    image is judged under its probe, in the gauge that this means (:func:`_in_gauge`). The better one must fit better
    than a flat object on the held-out pixels, which the network is not shown, and either fit nearly to the noise, or do
    clearly better in a short trial: under a wrong probe the fit of a start says little, what the engine makes of it
    says more.

    Parameters
    ----------
    start : (P, N, N) complex64
        Start of the probe.
    problem : Problem
        Made of ``scan``.
    ready : callable
        From a start of the probe to its modes as the engine gets them, (P', N, N) complex tensor.
    inference : dict
        Further arguments of the model's ``reconstruct``.
    """
    import torch

    from diptych.ptycho.engines.fit_monitor import full_fit
    from diptych.ptycho.engines.problem import sweep_batch

    counts = _unseen(scan, problem)
    threads = problem.workers.count if problem.device.type == "cpu" else execution.threads
    where = execution.with_changes(device=str(problem.device), threads=threads)
    flat = torch.ones(problem.shape, dtype=problem.complex_dtype, device=problem.device)

    def held_out(image: Tensor, modes: Tensor) -> float:
        fits = full_fit(problem, image, modes, sweep_batch(problem))
        return fits["held_out_fit"] if math.isfinite(fits["held_out_fit"]) else fits["fit"]

    def seen(shown: NDArray[np.complex64], modes: Tensor) -> tuple[float, Tensor | None]:
        calibrated = scan.probe_calibrated and options.probe in ("refine", "fixed")
        hidden = replace(scan, counts=counts, probe=shown, probe_calibrated=calibrated, truth=None)
        found = model.reconstruct(hidden, progress, execution=where, **inference).object
        image = _in_gauge(problem, place(found, flat.clone(), problem.origin), modes)
        fit = math.nan if image is None else held_out(image, modes)
        return (fit if math.isfinite(fit) else math.inf), image

    probe = modes = ready(start)
    record: dict[str, Any] = {
        "object": "flat",
        "model": model.digest,
        "network_fit": None,
        "flat_fit": held_out(flat, probe),
    }
    fit, image = seen(start, probe)
    other = _trained_with(model, scan, start, options)
    if other is not None:
        there = seen(other, ready(other))
        record |= {"probe": "scan", "fit_scan_probe": _known(fit), "fit_network_probe": _known(there[0])}
        if there[0] < CERTAIN * fit:
            record["probe"], modes, (fit, image) = "network", ready(other), there
    record["network_fit"] = _known(fit)
    if image is None:
        return _dropped(flat, probe, record, "its image is not finite or lets no light through")
    flat_fit = record["flat_fit"]
    if not fit < flat_fit:
        return _dropped(flat, probe, record, "it fits no better")
    if not (fit <= GOOD_FIT and fit <= GOOD_SHARE * flat_fit):
        part = _Part.of(scan, problem, options)
        record |= {"network_trial_fit": part.trial(image, modes), "flat_trial_fit": part.trial(flat, probe)}
        network, flat_one = record["network_trial_fit"], record["flat_trial_fit"]
        ahead = fit <= GOOD_SHARE * flat_fit and fit <= AHEAD * flat_one and network <= flat_one
        if not (ahead or _leads(network, flat_one)):
            return _dropped(flat, probe, record, f"{EPOCHS} epochs from it lead to no clearly better fit")
    log.info("starting from the network's image: held-out fit %.4g, a flat object's is %.4g", fit, flat_fit)
    return Start(image, modes, fit, {**record, "object": "network", "why": "it fits better"})


def _trained_with(
    model: Starter, scan: Scan, start: NDArray[np.complex64], options: ReconstructionOptions
) -> NDArray[np.complex64] | None:
    """The probe that the network was trained with, if it is another one of the same shape and no probe is to be
    kept.
    """
    other: NDArray[np.complex64] | None = getattr(model, "probe", None)
    if options.probe != "refine" or scan.probe_calibrated or other is None or other.shape != start.shape:
        return None
    length = float(np.linalg.norm(start)) * float(np.linalg.norm(other))
    return None if not length > 0 or abs(np.vdot(start, other)) > SAME * length else other


def _known(fit: float) -> float | None:
    """A fit as a JSON value."""
    return fit if math.isfinite(fit) else None


def _unseen(scan: Scan, problem: Problem) -> NDArray[np.float32]:
    """The scan's counts (M, N, N) with the held-out pixels replaced by the mean of their valid neighbours: a network
    that saw them could not be judged by them. Neighbours are correlated (patterns are oversampled) and their noise is
    not.
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


def place(canvas: Canvas, image: Tensor, origin: tuple[int, int]) -> Tensor:
    """Write the part of ``canvas`` that lies on ``image`` (H, W), whose pixel [0, 0] has the coordinate ``origin``,
    into it.
    """
    import torch

    (y, x), (h, w) = origin, image.shape
    y0, y1, x0, x1 = canvas.extent
    top, bottom, left, right = max(y, y0), min(y + h, y1), max(x, x0), min(x + w, x1)
    if top < bottom and left < right:
        part = torch.from_numpy(canvas.values[top - y0 : bottom - y0, left - x0 : right - x0].astype(np.complex128))
        image[top - y : bottom - y, left - x : right - x] = part.to(image.device, image.dtype)
    return image


def _leads(network: float, flat: float) -> bool:
    """Whether the fit of a trial is clearly better than that of a flat object's."""
    return network - 1 <= CLEARLY_BETTER * (flat - 1) and network <= CERTAIN * flat


def _dropped(flat: Tensor, probe: Tensor, record: dict[str, Any], why: str) -> Start:
    fit = record["network_fit"]
    log.info(
        "the network's image is no start (%s): held-out fit %s, a flat object's is %.4g", why, fit, record["flat_fit"]
    )
    return Start(flat, probe, None, {**record, **({"probe": "scan"} if "probe" in record else {}), "why": why})


def _in_gauge(problem: Problem, image: Tensor, probe: Tensor) -> Tensor | None:
    """``image`` (H, W) with the scale and the phase ramp that explain the sum of all patterns under ``probe``; None
    where there are none.

    Counts leave an object's scale and ramp free when the probe may take up the opposite; the probe given here says
    which are meant. The ramp moves the far field, so it follows from the centres of mass.
    """
    import torch

    measured, foreseen = _mean_fields(problem, image, probe)
    if not (math.isfinite(float(foreseen.sum())) and float(measured.sum()) > 0 and float(foreseen.sum()) > 0):
        return None
    frequencies = torch.fft.fftshift(torch.fft.fftfreq(problem.size, dtype=torch.float64, device=problem.device))

    def centre(field: Tensor) -> list[float]:
        return [float((field.sum(axis) * frequencies).sum() / field.sum()) for axis in (1, 0)]

    y, x = (a - b for a, b in zip(centre(measured), centre(foreseen), strict=True))
    rows, columns = (torch.arange(side, dtype=torch.float64, device=problem.device) for side in image.shape)
    ramp = torch.exp(2j * math.pi * (y * rows[:, None] + x * columns))
    scale = math.sqrt(float(measured.sum()) / float(foreseen.sum()))
    return (scale * image * ramp).to(image.dtype)


def _mean_fields(problem: Problem, image: Tensor, probe: Tensor) -> tuple[Tensor, Tensor]:
    """Measured and expected counts less background, summed over all patterns at fitted pixels, (N, N) in double
    precision.
    """
    import torch

    from diptych.ptycho.engines.problem import in_order, sweep_batch, zero_masked

    measured = torch.zeros((problem.size, problem.size), dtype=torch.float64, device=problem.device)
    foreseen = torch.zeros_like(measured)
    for batch in in_order(len(problem), sweep_batch(problem)):
        views = problem.forward.views(image, probe, batch)
        _, expected = problem.forward.detect(views.exit_waves())
        shown = torch.ones_like(expected)
        zero_masked(problem, batch, shown)
        dark = 0.0 if problem.forward.background is None else problem.forward.background
        measured += ((problem.counts[views.rows] - dark) * shown).sum(0)
        foreseen += ((expected - dark) * shown).sum(0)
    return measured, foreseen


@dataclass(frozen=True, eq=False)
class _Part:
    """The middle of a scan, for trials."""

    problem: Problem
    origin: tuple[int, int]
    refine_probe: bool

    @classmethod
    def of(cls, scan: Scan, problem: Problem, options: ReconstructionOptions) -> _Part:
        import torch

        from diptych.ptycho.engines.problem import prepare
        from diptych.ptycho.engines.starts.trial import SEED, central_part

        part = prepare(
            central_part(scan, PATTERNS),
            device=problem.device,
            double=problem.complex_dtype == torch.complex128,
            subpixel=options.positions != "round",
            held_out=0.0,
            seed=SEED,
            power=problem.power,
            workers=problem.workers,
        )
        return cls(part, problem.origin, options.probe != "fixed")

    def trial(self, image: Tensor, probe: Tensor) -> float:
        """The fit that some epochs of PIE reach from an object (H, W) on the whole scan's canvas."""
        from diptych.ptycho.engines.fit_monitor import full_fit
        from diptych.ptycho.engines.pie import Pie, PieSettings
        from diptych.ptycho.engines.problem import sweep_batch
        from diptych.ptycho.engines.starts.trial import SEED

        problem = self.problem
        (top, left), (height, width) = np.subtract(problem.origin, self.origin), problem.shape
        settings = PieSettings(batch=int(np.clip(len(problem) // 16, 1, 64)), refine_probe=self.refine_probe)
        start = image[top : top + height, left : left + width]
        engine = Pie(problem, start, probe, settings, np.random.default_rng(SEED))
        for _ in range(EPOCHS):
            engine.epoch()
        return full_fit(problem, engine.image, engine.probe, sweep_batch(problem))["fit"]
