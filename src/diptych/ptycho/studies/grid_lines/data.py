"""Scans of blurred lines on a regular grid, as in the published grid-lines study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.studies.grid_lines.probes import run_pipeline

if TYPE_CHECKING:
    from diptych.ptycho.scan import Scan

SOURCE_SIZE = 64
"""Side of the built-in probes before the pipeline, px."""


def make_probe(source: str, pipeline: str, size: int) -> NDArray[np.complex128]:
    """The probe of a study, (N, N): a built-in one or that of a file, through the pipeline.

    Raises
    ------
    InputError
        If it does not end with N px on a side.
    """
    from diptych.ptycho.io import read_probe
    from diptych.ptycho.simulate import probes
    from diptych.ptycho.simulate.options import PROBE_KINDS

    made: NDArray[Any]
    if source in PROBE_KINDS:
        made = probes.make_probe(source, SOURCE_SIZE)
    else:
        made = read_probe(source, keys=("trueProbe", "probeGuess", "probe"))[0]
    result = run_pipeline(pipeline, made)
    if len(result) != size:
        raise InputError(
            f"probe pipeline {pipeline!r}",
            f"makes a probe of {len(result)} px, and the patterns have {size} px",
            f"a last step such as pad:{size} or interpolate:{size}",
        )
    return result


def grid(side: int, size: int, step: float, jitter: float = 0.0, seed: int = 0) -> NDArray[np.float64]:
    """Positions (M, 2) of a regular grid that fills an object of ``side`` px with windows of ``size`` px.

    With ``jitter``, each is moved by up to that many whole pixels along each axis, and stays on the object.
    """
    first, last = size // 2, side - size + size // 2
    if last < first:
        raise InputError("grid", f"an object of {side} px holds no window of {size} px", f"at least {size} px")
    at = np.arange(first, last + 1, step, dtype=np.float64)
    positions = np.stack(np.meshgrid(at, at, indexing="ij"), -1).reshape(-1, 2)
    if jitter:
        moves = np.random.default_rng(seed).integers(-int(jitter), int(jitter), positions.shape, endpoint=True)
        positions = np.clip(positions + moves, first, last)
    return positions


def grid_scan(
    kind: str,
    side: int,
    probe: NDArray[np.complexfloating[Any, Any]],
    step: float,
    *,
    dose: float,
    seed: int,
    jitter: float = 0.0,
    positions: NDArray[np.float64] | None = None,
    **simulation: Any,
) -> Scan:
    """Simulate a scan of an object of ``side`` x ``side`` px on a regular grid (or at ``positions``).

    Parameters
    ----------
    kind : str
        Kind of object, as in :func:`diptych.simulate`.
    dose : float
        Mean detected photons per pattern.
    seed : int
        Of object, jitter and noise.
    **simulation
        ``amplitude`` and ``phase``: range of the object.
    """
    from diptych.ptycho.simulate import objects, simulate

    size = probe.shape[-1]
    made = objects.make_object(kind, (side, side), np.random.default_rng(seed), **simulation)
    where = grid(side, size, step, jitter, seed) if positions is None else positions
    return simulate(object=made, probe=probe, positions=where, dose=dose, seed=seed)


def grid_scans(kind: str, side: int, probe: NDArray[Any], step: float, seeds: Sequence[int], dose: float) -> list[Scan]:
    """One scan per seed."""
    return [grid_scan(kind, side, probe, step, dose=dose, seed=seed) for seed in seeds]
