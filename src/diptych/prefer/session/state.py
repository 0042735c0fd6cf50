"""What a session reports: running jobs, progress, and how well the model agrees with the judgements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.prefer.judgement import Observations
from diptych.prefer.ledger.ledger import Ledger
from diptych.prefer.session.answers import counted
from diptych.prefer.session.fitting import Fitting, Snapshot
from diptych.prefer.session.queue import Queue
from diptych.prefer.session.worker import Worker
from diptych.prefer.utility import Advice, Advises, Agreement, CrossValidates, Fitted, expected
from diptych.prefer.utility.diagnostics.agreement import guessed, self_agreement

if TYPE_CHECKING:
    from diptych.prefer.decoders import Decoder

CHUNK = 256
"""Latents scored at once."""

MANY = 1024
"""Judged latents up to which all are scored with standard deviations; of more, those of highest mean."""


FEW = 20
"""Judgements below which predicted values are not to be trusted."""


DOUBT = "predicted values are not to be trusted yet"
"""First words of a line that says why."""


@dataclass(frozen=True)
class State:
    """A session at one moment.

    Attributes
    ----------
    status : str
        Status of the utility model: ``untrained``, ``training``, ``ok`` or ``unavailable: reason``.
    utility, proposal, decoder : str
        Names.
    rows, skips : int
        Number of judgements that count, which are all on disk, and of the skips among them.
    report : str
        How many of them the last fit used, and why not the others.
    running, waiting : tuple of str
        Background jobs.
    delayed : bool
        Whether the next fit waits for the shortest time between fits.
    queue_ready, queue_coming : int
        Images that are decoded ahead, and being decoded.
    fit_position : int
        Position of the ledger up to which the last fit goes; 0 before the first.
    fit_seconds : float
        Duration of the last fit.
    fit_time : str
        When the last fit ended, UTC.
    decode_seconds : float
        Measured time of one decode.
    journal : str
        Journal mode of the ledger.
    """

    status: str
    utility: str
    proposal: str
    decoder: str
    rows: int
    skips: int
    report: str
    running: tuple[str, ...]
    waiting: tuple[str, ...]
    delayed: bool
    queue_ready: int
    queue_coming: int
    fit_position: int
    fit_seconds: float
    fit_time: str
    decode_seconds: float
    journal: str

    @property
    def scorer(self) -> str:
        """One line on the model: name, status and number of judgements."""
        skips = f", skips={self.skips}" if self.skips else ""
        return f"{self.utility} ({self.status}, rows={self.rows}{skips})"


@dataclass(frozen=True)
class Scores:
    """Agreement of the model with the judgements, and of the person with themself.

    Attributes
    ----------
    left_out : Agreement or None
        Leave-one-out agreement: each judgement is predicted by the fit without it; with what guessing gets right. None
        if the model cannot compute it quickly.
    train : Agreement or None
        Agreement with the judgements that were fitted. None before the first fit.
    itself : Agreement
        Images rated again, and the same ratings among them.
    advice : Advice or None
        Expected gain from more judgements. None if the model has no estimate.
    reach : float
        Expected utility of the best latent, sigma; NaN if the model has no estimate.
    fitted_to : int
        Number of judgements in the fit, without skips.
    """

    left_out: Agreement | None
    train: Agreement | None
    itself: Agreement
    advice: Advice | None
    reach: float
    fitted_to: int = 0

    @property
    def doubt(self) -> str:
        """Why predicted values are not to be trusted yet; empty where they are, and before the first fit."""
        if self.train is None:
            return ""
        if self.fitted_to < FEW:
            return f"they rest on {counted(self.fitted_to)}, fewer than {FEW}"
        if self.left_out is not None and not self.left_out.above_chance:
            return f"leave-one-out agreement {self.left_out} is not clearly above chance"
        return ""

    def __str__(self) -> str:
        parts = [
            f"leave-one-out agreement: {'n/a' if self.left_out is None else self.left_out}",
            f"training agreement: {'n/a' if self.train is None else self.train}",
        ]
        if self.itself.total:
            parts.append(f"repeated ratings that agree: {self.itself}")
        if self.advice is not None:
            parts.append(f"expected gain of {self.advice.labels} more labels: {self.advice.gain:.2f} sigma")
        return "\n".join([*parts, *([f"{DOUBT}: {self.doubt}"] if self.doubt else [])])


def compute_state(
    fitting: Fitting,
    workers: Sequence[Worker],
    utility: str,
    proposal: str,
    decoder: Decoder,
    ledger: Ledger,
    queue: Queue,
) -> State:
    """The state of a session, from its parts: the worker that fits and the one that decodes, and the names of the
    utility model and the proposal.
    """
    known = fitting.current
    return State(
        status=fitting.status,
        utility=utility,
        proposal=proposal,
        decoder=decoder.name,
        rows=ledger.rows,
        skips=ledger.skips,
        report=str(known.observations.report),
        running=tuple(filter(None, (worker.running for worker in workers))),
        waiting=tuple(name for worker in workers for name in worker.waiting),
        delayed=fitting.delayed,
        queue_ready=queue.ready,
        queue_coming=queue.coming,
        fit_position=known.position,
        fit_seconds=known.seconds,
        fit_time=known.time,
        decode_seconds=decoder.cost,
        journal=ledger.journal,
    )


def compute_scores(known: Snapshot) -> Scores:
    """The scores of a fit."""
    fitted, itself = known.fitted, self_agreement(known.observations)
    if fitted is None:
        return Scores(None, None, itself, None, float("nan"))
    left_out = fitted.loo_agreement() if isinstance(fitted, CrossValidates) else None
    if left_out is not None:
        chance, spread = guessed(known.observations.terms)
        left_out = replace(left_out, chance=chance, spread=spread)
    return Scores(
        left_out,
        fitted.train,
        itself,
        fitted.advice() if isinstance(fitted, Advises) else None,
        fitted.reach,
        sum(term.kind != "skip" for term in known.observations.terms),
    )


def highest_mean(fitted: Fitted, observations: Observations) -> int:
    """Row of the judged latent of highest mean utility."""
    return _highest(fitted, observations, 0.0)


def highest_bound(fitted: Fitted, observations: Observations) -> int:
    """Row of the judged latent of highest lower bound."""
    return _highest(fitted, observations, 1.0)


def lower_bound(fitted: Fitted, latent: ArrayLike) -> float:
    """Mean utility minus its standard deviation; the mean if the model has no standard deviation."""
    return float(_bounds(fitted, np.asarray(latent)[None], 1.0)[0])


def _highest(fitted: Fitted, observations: Observations, deviations: float) -> int:
    latents = observations.latents
    rows = np.arange(len(latents))
    if len(rows) > MANY:
        rows = np.sort(np.argsort(-expected(fitted, latents), kind="stable")[:MANY])
    bounds = [_bounds(fitted, latents[rows[start : start + CHUNK]], deviations) for start in range(0, len(rows), CHUNK)]
    return int(rows[np.argmax(np.concatenate(bounds))])


def _bounds(fitted: Fitted, latents: ArrayLike, deviations: float) -> NDArray[np.float64]:
    mean, deviation = fitted.score(latents)
    return np.asarray(mean - deviations * np.nan_to_num(deviation))
