"""Likelihood steps on the whole stitched canvas, under a known probe.

Groups of neighbouring patterns say little of what varies over distances larger than a group: slow amplitudes and phases
of the network's patches are wrong, while edges are right. The counts of the whole scan do determine them, through the
overlap of all patterns. A few steps of L-BFGS on the Poisson likelihood of all counts, with the inverse Laplacian for
slow phases (:mod:`diptych.ptycho.physics.descent.slow_phases`), repair them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.ptycho.neural.data.patterns import Patterns, pieces
from diptych.ptycho.neural.probe_model import ProbeModel
from diptych.ptycho.physics.compiled.one_pass import CompiledPass
from diptych.ptycho.physics.descent.lbfgs import Curvature, dot
from diptych.ptycho.physics.descent.slow_phases import add_slow_phases, inverse_laplacian, softness
from diptych.ptycho.physics.forward import ForwardModel
from diptych.ptycho.physics.likelihood import deviance

log = logging.getLogger("diptych")

HISTORY = 8
"""Steps that L-BFGS remembers."""

DARK = 0.01
"""Counts added to the expected ones, like a faint background: they bound the weight of stray photons."""

DAMPING = 0.02
"""Share of the strongest illumination that is added to the diagonal of the preconditioner."""

FIRST = 0.25
"""The first step, as a fraction of the preconditioned gradient."""

TRIES = 6
"""A step that raises the loss is shortened by 0.3 this many times."""


HELD_OUT = 0.04
"""Share of the detector pixels that is not fitted: they tell when to stop, and what to start from."""

PATIENCE = 6
"""Steps without a better likelihood of the held-out pixels before the descent ends."""

PRIOR_ERRORS = (0.4, 0.2, 0.1, 0.05)
"""Errors per object pixel that the prior assumes of the network's image, tried one after the other."""

CERTAIN = 2.0
"""Standard errors by which held-out pixels must speak for the network's image as start or prior."""

SEED = 17


@dataclass(frozen=True, eq=False)
class Evaluated:
    """The likelihood at a point.

    Parameters
    ----------
    loss : float
        Half the deviance of the fitted counts, nats.
    gradient : (H, W) complex tensor
        conj(P) A* (1 - k / lambda) A P O, summed over patterns: half the derivative in real and imaginary part.
    held : (M,) float64 tensor
        Half the deviance of each pattern's held-out pixels, nats.
    """

    loss: float
    gradient: Tensor
    held: Tensor


@dataclass(frozen=True, eq=False)
class Prior:
    """A quadratic penalty |O - expected|^2 / (2 error^2) for each object pixel, nats.

    Parameters
    ----------
    expected : (H, W) complex tensor
        The network's image.
    error : float
        Its assumed standard error in real and imaginary part.
    """

    expected: Tensor
    error: float

    def add(self, image: Tensor, found: Evaluated) -> Evaluated:
        """The likelihood with the penalty added to loss and gradient."""
        difference = image - self.expected
        penalty = float(torch.view_as_real(difference).square().sum(dtype=torch.float64)) / (2 * self.error**2)
        return Evaluated(found.loss + penalty, found.gradient + difference / (2 * self.error**2), found.held)


@dataclass(frozen=True, eq=False)
class Piece:
    """Consecutive patterns, as :class:`~diptych.ptycho.physics.compiled.one_pass.CompiledPass` takes them.

    Parameters
    ----------
    rows : (B,) int64 array
        Which patterns.
    counts : (B, N, N) tensor
        0 at masked pixels.
    forward : ForwardModel
        Of these patterns alone, on the whole canvas.
    invalid : (N, N) or (B, N, N) bool tensor or None
        Masked pixels.
    held, watched : (B, h) and (B, 0) int64 tensors
        Flat indices of the held-out pixels; none are watched.
    """

    rows: NDArray[np.int64]
    counts: Tensor
    forward: ForwardModel
    invalid: Tensor | None
    held: Tensor
    watched: Tensor
    limits: None = None
    read_variance: float = 0.0

    def left_out(self, like: Tensor) -> Tensor:
        """Whether a pixel (B, N, N) is masked or held out."""
        out = torch.zeros(like.shape, dtype=torch.bool, device=like.device)
        out.view(len(out), -1).scatter_(1, self.held, True)
        return out if self.invalid is None else out | self.invalid

    def at_held(self, values: Tensor) -> Tensor:
        """Of the values (B, N, N) or (N, N), those at the held-out pixels, (B, h)."""
        return values.expand(len(self.held), *values.shape[-2:]).flatten(1).gather(1, self.held)


class _Kept:
    """Expected counts of the held-out pixels of a piece."""

    def __init__(self, piece: Piece) -> None:
        self.watched, self.held = (np.zeros(each.shape, np.float32) for each in (piece.watched, piece.held))

    def storage(self, batch: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self.watched, self.held


class CanvasLikelihood:
    """The Poisson likelihood of a scan as a function of the object on a canvas; the probe is known.

    Parameters
    ----------
    patterns : Patterns
        Read piece by piece in each evaluation.
    probe_model : ProbeModel
        Probe, background, and photons per pattern.
    origin, shape : (int, int)
        Of the canvas, which holds the windows of all patterns.
    """

    def __init__(
        self, patterns: Patterns, probe_model: ProbeModel, origin: tuple[int, int], shape: tuple[int, int]
    ) -> None:
        self.patterns, self.device = patterns, probe_model.probe.device
        self.probe = probe_model.modes().detach() * probe_model.power**0.5
        background = None if patterns.background is None else torch.from_numpy(patterns.background).to(self.device)

        def forward(positions: NDArray[np.float64]) -> ForwardModel:
            kind, device = torch.complex64, self.device
            return ForwardModel.far_field(
                positions, patterns.size, origin, shape, dtype=kind, device=device, background=background
            )

        self.forward = forward(patterns.positions)
        self.light = self.forward.illumination(self.probe)
        self._invalid = None if patterns.mask is None else ~torch.from_numpy(patterns.mask).to(self.device)
        self._pieces = [
            (
                part,
                forward(patterns.positions[part]),
                torch.from_numpy(held_out_pixels(part, patterns.size)).to(self.device),
            )
            for part in pieces(len(patterns))
        ]

    def evaluate(self, image: Tensor) -> Evaluated:
        """Loss, gradient and held-out deviance at an object (H, W)."""
        loss, gradient, held = 0.0, torch.zeros_like(image), []
        for piece in self._read():
            more, predicted = self._add(piece, image, gradient)
            loss += more
            terms = deviance(piece.at_held(piece.counts), predicted + DARK) / 2
            if piece.invalid is not None:
                terms = torch.where(piece.at_held(piece.invalid), 0.0, terms)
            held.append(terms.sum(1, dtype=torch.float64))
        return Evaluated(loss, gradient, torch.cat(held))

    def _add(self, piece: Piece, image: Tensor, gradient: Tensor) -> tuple[float, Tensor]:
        """Loss of a piece, and the expected counts of its held-out pixels (B, h); its gradient is added."""
        every = np.arange(len(piece.rows))
        if (in_one := CompiledPass.of(piece)) is not None:
            kept, sums = _Kept(piece), (gradient, torch.zeros_like(self.probe))
            loss = in_one.likelihood((image, self.probe), None, every, kept, sums, None, DARK)
            return loss, torch.from_numpy(kept.held)
        views = piece.forward.views(image, self.probe, every)
        field, plain = piece.forward.detect(views.exit_waves())
        expected, left_out = plain + DARK, piece.left_out(plain)
        terms = torch.where(left_out, 0.0, deviance(piece.counts, expected) / 2)
        change = piece.forward.back(field, torch.where(left_out, 0.0, 1 - piece.counts / expected))
        piece.forward.add_object_adjoint(views, change, gradient)
        return float(terms.sum(dtype=torch.float64)), piece.at_held(plain)

    def _read(self) -> Iterator[Piece]:
        """The patterns, with the same held-out pixels each time."""
        for part, forward, held in self._pieces:
            counts, varying = self.patterns.read(part)
            invalid = self._invalid if varying is None else ~torch.from_numpy(varying).to(self.device)
            found = torch.from_numpy(counts).to(self.device)
            yield Piece(part, found, forward, invalid, held, held[:, :0])


def held_out_pixels(part: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Flat indices (B, h) of the held-out pixels of some consecutive patterns, a piece of the scan."""
    drawn = np.random.default_rng([SEED, int(part[0])]).random((len(part), size * size), np.float32)
    count = round(HELD_OUT * size * size)
    return np.sort(np.argpartition(drawn, count, axis=1)[:, :count], axis=1)


def without_held_out(counts: NDArray[Any], mask: NDArray[np.bool_] | None) -> NDArray[np.float32]:
    """Counts (M, N, N) with each held-out pixel replaced by the mean of its valid neighbours that are not held out.

    A network that has seen these pixels cannot be judged by them.

    Parameters
    ----------
    mask : (N, N) or (M, N, N) bool, optional
        True at valid pixels.
    """
    out = np.array(counts, np.float32)
    for part in pieces(len(out)):
        some, valid = out[part], np.broadcast_to(True if mask is None else mask, out.shape)[part]
        hidden = np.zeros(some.shape, bool)
        np.put_along_axis(hidden.reshape(len(part), -1), held_out_pixels(part, out.shape[-1]), True, axis=1)
        shown = valid & ~hidden
        total, seen = (_neighbours(each) for each in (np.where(shown, some, 0), shown.astype(np.float32)))
        out[part] = np.where(hidden, total / np.maximum(seen, 1), some)
    return out


def _neighbours(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The sum of the four neighbours of each pixel of patterns (B, N, N), 0 beyond the edge."""
    wide = np.pad(values, ((0, 0), (1, 1), (1, 1)))
    total: NDArray[np.float32] = wide[:, :-2, 1:-1] + wide[:, 2:, 1:-1] + wide[:, 1:-1, :-2] + wide[:, 1:-1, 2:]
    return total


def descend(
    likelihood: CanvasLikelihood, image: Tensor, steps: int, prior: Prior | None = None
) -> tuple[Tensor, Tensor]:
    """Improve an object by steps of preconditioned L-BFGS; each is a pass over the patterns.

    Parameters
    ----------
    likelihood : CanvasLikelihood
        The loss.
    image : (H, W) complex64 tensor
        Where to start.
    steps : int
        At most; fewer once the held-out pixels fit no better, or no step lowers the loss further.
    prior : Prior, optional
        Added to the loss.

    Returns
    -------
    image : (H, W) complex64 tensor
        Of all points of the descent, the start included, the one that fits the held-out pixels best.
    held : (M,) float64 tensor
        Half the deviance of each pattern's held-out pixels there, nats.
    """
    shape = (image.shape[0], image.shape[1])

    def evaluated(flat: Tensor) -> Evaluated:
        there = _complex(flat, shape)
        found = likelihood.evaluate(there)
        return found if prior is None else prior.add(there, found)

    precondition = _preconditioner(likelihood, image, prior)
    point = _flat(image)
    now, curvature = evaluated(point), Curvature(HISTORY, point)
    best, least, since = point, now.held, 0
    for _ in range(steps):
        direction = curvature.descent(_flat(now.gradient), precondition, FIRST)
        if dot(direction, _flat(now.gradient)) >= 0:
            curvature.clear()
            direction = curvature.descent(_flat(now.gradient), precondition, FIRST)
        slope, length = 2 * dot(direction, _flat(now.gradient)), 1.0
        for _ in range(TRIES):
            there = point.add(direction, alpha=length)
            new = evaluated(there)
            if new.loss <= now.loss + 1e-4 * length * slope:
                break
            length *= 0.3
        else:
            break
        curvature.add(direction * length, _flat(new.gradient - now.gradient))
        point, now, since = there, new, since + 1
        if float(now.held.sum()) < float(least.sum()):
            best, least, since = point, now.held, 0
        if since >= PATIENCE:
            break
    return _complex(best, shape), least


def refine(likelihood: CanvasLikelihood, image: Tensor, steps: int, *, prior: bool) -> tuple[Tensor, dict[str, Any]]:
    """Improve the network's image on the whole canvas, and, if ``prior``, choose how far it is trusted.

    Without ``prior`` the descent starts from the image. With it, the reference is the descent from a flat object
    without a penalty. The image as start, and as :class:`Prior` of several strengths, replace it only if they fit the
    held-out pixels better by :data:`CERTAIN` standard errors (of the differences between patterns).

    Returns
    -------
    image : (H, W) complex64 tensor
        The result.
    record : dict
        ``canvas_start``: "network" or "flat"; ``prior_error``: the assumed error of the network's image, or None.
    """
    if not prior:
        return descend(likelihood, image, steps)[0], {"canvas_start": "network", "prior_error": None}
    chosen, held = descend(likelihood, torch.ones_like(image), steps)
    record: dict[str, Any] = {"canvas_start": "flat", "prior_error": None}
    for error in (None, *PRIOR_ERRORS):
        found, there = descend(likelihood, image, steps, None if error is None else Prior(image, error))
        gain = held - there
        margin = CERTAIN * float(gain.std()) * len(gain) ** 0.5 if len(gain) > 1 else 0.0
        if float(gain.sum()) > margin:
            chosen, held, record = found, there, {"canvas_start": "network", "prior_error": error}
    log.info("canvas passes: start %(canvas_start)s, assumed error of the network's image %(prior_error)s", record)
    return chosen, record


def corrected(likelihood: CanvasLikelihood, image: Tensor, steps: int) -> tuple[Tensor, float | None]:
    """The network's image, corrected by the counts as far as held-out pixels confirm.

    For an image that is known to be good: unlike in :func:`refine`, no descent leaves it behind. Assumed errors are
    tried from the smallest on; a larger one must fit the held-out pixels better by a standard error.

    Returns
    -------
    image : (H, W) complex64 tensor
        The result.
    error : float or None
        The assumed error; None where the image is not changed.
    """
    chosen, least, error = image, likelihood.evaluate(image).held, None
    for assumed in reversed(PRIOR_ERRORS):
        found, held = descend(likelihood, image, steps, Prior(image, assumed))
        gain = least - held
        if len(gain) > 1 and float(gain.sum()) > float(gain.std()) * len(gain) ** 0.5:
            chosen, least, error = found, held, assumed
    return chosen, error


def _preconditioner(likelihood: CanvasLikelihood, image: Tensor, prior: Prior | None) -> Callable[[Tensor], Tensor]:
    """From a flat gradient to a step: the diagonal, and low spatial frequencies of the phase."""
    shape = (image.shape[0], image.shape[1])
    filtering = inverse_laplacian(likelihood.light, shape).mul_(softness(likelihood.light, image, likelihood.probe))
    diagonal = likelihood.light + DAMPING * likelihood.light.max()
    if prior is not None:
        stiffness = 1 / (2 * prior.error**2)
        diagonal = diagonal + stiffness
        level = float(image.abs().square().mean())
        filtering = filtering / (1 + stiffness * level * filtering)

    def precondition(flat: Tensor) -> Tensor:
        gradient = _complex(flat, shape)
        step = gradient / diagonal
        add_slow_phases(step, image, gradient, filtering)
        return _flat(step)

    return precondition


def _flat(image: Tensor) -> Tensor:
    return torch.view_as_real(image).flatten()


def _complex(flat: Tensor, shape: tuple[int, int]) -> Tensor:
    return torch.view_as_complex(flat.view(*shape, 2))
