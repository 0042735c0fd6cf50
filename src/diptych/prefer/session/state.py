"""What a session tells of itself: what runs, and how well the person is understood."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from diptych.prefer.judgement import Observations
from diptych.prefer.session.fitting import Snapshot
from diptych.prefer.utility import Advice, Advises, Agreement, CrossValidates, Fitted, expected
from diptych.prefer.utility.diagnostics.agreement import self_agreement

CHUNK = 256
"""Latents scored at once."""

MANY = 1024
"""Judged latents up to which all are scored; of more, those thought best at a glance."""


@dataclass(frozen=True)
class State:
    """A session at one moment.

    Attributes
    ----------
    status : str
        Of the utility: ``untrained``, ``training``, ``ok`` or ``unavailable: why``.
    utility, proposal, decoder : str
        Names.
    rows : int
        Judgements that count, live and on the disk.
    report : str
        How many of them the last fit used, and why not the others.
    running, waiting : tuple of str
        Jobs in the background.
    delayed : bool
        The next fit waits for the least time between fits.
    queue_ready, queue_coming : int
        Images decoded ahead, and being so.
    fit_position : int
        Place in the ledger up to which was learned; 0 before.
    fit_seconds : float
    fit_time : str
        When the last fit ended, UTC.
    decode_seconds : float
        What one decode costs.
    journal : str
        The ledger's.
    """

    status: str
    utility: str
    proposal: str
    decoder: str
    rows: int
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
        """One line on the model: name, status and rows."""
        return f"{self.utility} ({self.status}, rows={self.rows})"


@dataclass(frozen=True)
class Scores:
    """How far the model agrees with the judgements, and the person with herself.

    Attributes
    ----------
    left_out : Agreement or None
        Each judgement foreseen by the fit without it: the headline. None where the model cannot tell soon.
    train : Agreement or None
        Judgements that the fit agrees with, itself having seen them. None before it is ``ok``.
    itself : Agreement
        Images rated again on which the person said the same.
    advice : Advice or None
        What more labels are expected to add. None where the model does not know.
    reach : float
        Expected utility of the best latent, sigma; NaN where the model does not know.
    """

    left_out: Agreement | None
    train: Agreement | None
    itself: Agreement
    advice: Advice | None
    reach: float

    def __str__(self) -> str:
        def said(agreement: Agreement | None) -> str:
            return "n/a" if agreement is None or not agreement.total else f"{agreement.hits} of {agreement.total}"

        parts = [f"judgements foreseen: {said(self.left_out)}", f"agreed with in training: {said(self.train)}"]
        if self.itself.total:
            parts.append(f"you agreed with yourself {said(self.itself)}")
        if self.advice is not None:
            parts.append(f"expected gain of {self.advice.labels} more labels: {self.advice.gain:.2f} sigma")
        return "; ".join(parts)


def reckon_scores(known: Snapshot) -> Scores:
    """The scores of a snapshot."""
    fitted, itself = known.fitted, self_agreement(known.observations)
    if fitted is None:
        return Scores(None, None, itself, None, float("nan"))
    left_out = fitted.loo_agreement() if isinstance(fitted, CrossValidates) else None
    advice = fitted.advice() if isinstance(fitted, Advises) else None
    return Scores(left_out, fitted.train, itself, advice, fitted.reach)


def steadiest(fitted: Fitted, observations: Observations) -> int:
    """Row of the judged latent of highest mean utility."""
    return _highest(fitted, observations, 0.0)


def safest(fitted: Fitted, observations: Observations) -> int:
    """Row of the judged latent of highest lower bound."""
    return _highest(fitted, observations, 1.0)


def lower_bound(fitted: Fitted, latent: ArrayLike) -> float:
    """Mean utility less its standard deviation; the mean where the model knows none."""
    return float(_bounds(fitted, np.asarray(latent)[None], 1.0)[0])


def _highest(fitted: Fitted, observations: Observations, deviations: float) -> int:
    latents = observations.latents
    rows = np.arange(len(latents))
    if len(rows) > MANY:
        rows = np.sort(np.argsort(-expected(fitted, latents), kind="stable")[:MANY])
    bounds = [_bounds(fitted, latents[rows[start : start + CHUNK]], deviations) for start in range(0, len(rows), CHUNK)]
    return int(rows[np.argmax(np.concatenate(bounds))])


def _bounds(fitted: Fitted, latents: ArrayLike, deviations: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    mean, spread = fitted.score(latents)
    return np.asarray(mean - deviations * np.nan_to_num(spread))
