"""All flags of a reconstruction."""

from __future__ import annotations

from torch import Tensor

from diptych.ptycho.engines.flags.base import INTERRUPTED, KINDS, NOT_NOISE, POOR_FIT, Flag
from diptych.ptycho.engines.flags.data import data_flags
from diptych.ptycho.engines.flags.evidence import Evidence
from diptych.ptycho.engines.flags.faint import compare_readings
from diptych.ptycho.engines.flags.misfit import Held, Tried, levels, misfit_flags
from diptych.ptycho.engines.problem import Problem
from diptych.ptycho.scan import Scan

ENOUGH_EPOCHS = 60
"""A run that was ended by its number of epochs counts as finished from this number on."""


def result_flags(
    scan: Scan,
    problem: Problem,
    state: tuple[Tensor, Tensor],
    evidence: Evidence,
    *,
    epochs: int,
    converged: bool,
    interrupted: bool,
    diverged: str = "",
    tried: Tried | None = None,
    held: Held = compare_readings,
    spoiled: str = "",
    likelihood: bool = False,
) -> tuple[str, ...]:
    """Flags of a result, ordered by kind (:data:`~diptych.ptycho.engines.flags.base.KINDS`).

    Parameters
    ----------
    scan : Scan
        As given.
    problem : Problem
        Its counts and forward model.
    state : object (H, W) and probe modes (P, N, N)
        The result.
    evidence : Evidence
        Of the result.
    epochs : int
        Epochs that were run.
    converged : bool
        Whether the stop rule ended the run.
    interrupted : bool
        Whether the user ended the run.
    diverged : str
        How the state became infinite or NaN, if it did; the result is an earlier state.
    tried : callable, optional
        Trials of the readings of ``scan``, where they may have been made already.
    held : callable
        What held-out pixels say of the readings of a faint scan.
    spoiled : str
        How to take out what is known to spoil the scan; it is advised before anything else is tried.
    likelihood : bool
        Whether the last stage was maximum likelihood.
    """
    whole = not interrupted and (converged or epochs >= ENOUGH_EPOCHS)
    unfinished = "" if whole else f"after {epochs} epochs"
    flags = data_flags(evidence)
    if diverged:
        flags.append(Flag(POOR_FIT, f"the engine {diverged}. Give a smaller step or momentum, or a larger alpha."))
    else:
        flags += [
            _blamed(flag, evidence, spoiled)
            for flag in misfit_flags(scan, problem, state, evidence, unfinished, tried, held, likelihood and converged)
        ]
    if interrupted:
        flags.append(Flag(INTERRUPTED, "the best state up to then, not a finished result."))
    return tuple(str(flag) for flag in sorted(flags, key=lambda flag: KINDS.index(flag.kind)))


def _blamed(flag: Flag, evidence: Evidence, spoiled: str) -> Flag:
    """A flag of a poor fit, where what was found in the scan comes before more probe modes and the like."""
    if not spoiled or flag.kind not in (POOR_FIT, NOT_NOISE):
        return flag
    return Flag(
        flag.kind,
        f"{levels(evidence)} Something in the scan spoils it, which another flag names: {spoiled}, and reconstruct "
        "again before anything else is tried.",
    )
