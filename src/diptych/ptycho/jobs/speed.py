"""Patterns per second of networks on this machine, with the share of each stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.errors import InputError
from diptych.ptycho.networks.registry import NETWORKS
from diptych.runtime.device import ExecutionOptions
from diptych.runtime.progress import Progress, ProgressCallback

if TYPE_CHECKING:
    from diptych.ptycho.neural.model import Model
    from diptych.ptycho.scan import Scan

PATTERNS = 400
"""Of the simulated scan."""

SETTING: dict[str, Any] = {"object": "natural", "dose": 1e6, "patterns": PATTERNS, "seed": 2}
TRAINED, UNTRAINED = (0, 8, 32), (0,)
"""Canvas passes that are measured for a trained network, and for others, whose image is no start for passes."""


def network_speed(
    model: str | Path | None = None,
    scan: str | Path | None = None,
    *,
    size: int = 64,
    gridsize: int = 2,
    canvas_passes: Sequence[int] | None = None,
    execution: ExecutionOptions | None = None,
    progress: ProgressCallback | None = None,
) -> dict[str, Any]:
    """Measure how fast networks reconstruct, stitching included.

    Parameters
    ----------
    model : path, optional
        A trained network; without it every registered one with its default options and random weights.
    scan : path, optional
        A scan file; without it a simulated one of natural objects.
    size, gridsize : int
        N of the simulated scan, px, and g of networks that are not trained.
    canvas_passes : sequence of int, optional
        Passes on the whole canvas, one row for each number.
    execution : ExecutionOptions, optional
        Device and threads.
    progress : callable, optional
        Called after each row.

    Returns
    -------
    dict
        ``rows``, each with network, parameters, canvas_passes, patterns_per_second, patterns_per_cpu_second, shares by
        stage, and complex_error (None without a trained network or a truth); ``scan``, ``patterns``, ``size`` and
        ``title``.

    Raises
    ------
    InputError
        If a file or an option is wrong, or no network accepts patterns of that size.
    """
    from diptych.ptycho.evaluate import evaluate
    from diptych.ptycho.io import load_scan
    from diptych.ptycho.neural.model import load_model
    from diptych.ptycho.neural.speed import measure_speed
    from diptych.ptycho.simulate import simulate

    wanted = tuple(canvas_passes) if canvas_passes is not None else UNTRAINED if model is None else TRAINED
    if not wanted or min(wanted) < 0:
        raise InputError("canvas_passes", f"is {list(wanted)}", "numbers from 0 on")
    trained = None if model is None else load_model(model)
    size = size if trained is None else trained.size
    used = load_scan(scan) if scan is not None else simulate(**SETTING, size=size, step=size / 8)
    models = [trained] if trained is not None else list(_untrained(used, gridsize))
    if not models:
        raise InputError(f"N = {used.size}, g = {gridsize}", "no network accepts that", "see `diptych networks`")
    rows: list[dict[str, Any]] = []
    for each in models:
        for passes in wanted:
            found = measure_speed(each, used, canvas_passes=passes, execution=execution)
            known = used.truth is not None and trained is not None
            rows.append(
                {
                    "network": each.options.network,
                    "parameters": each.about()["parameters"],
                    "canvas_passes": passes,
                    "patterns_per_second": found.patterns_per_second,
                    "patterns_per_cpu_second": found.patterns_per_cpu_second,
                    "shares": found.shares,
                    "complex_error": evaluate(found.result, truth=used.truth)["complex_error"] if known else None,
                }
            )
            if progress is not None:
                progress(Progress("speed", len(rows), len(models) * len(wanted)))
    title = f"{used.name}: {len(used)} patterns of {used.size} px"
    return {"rows": rows, "scan": used.name, "patterns": len(used), "size": used.size, "title": title}


def _untrained(scan: Scan, gridsize: int) -> Iterator[Model]:
    """Every network that accepts the patterns, with default options and random weights."""
    import numpy as np
    import torch

    from diptych.ptycho.networks import build_network
    from diptych.ptycho.neural.model import Model
    from diptych.ptycho.neural.options import TrainingOptions

    if scan.probe is None:
        raise InputError(scan.name, "has no probe", "a probe, for the forward model of the networks")
    for name in NETWORKS.names():
        network = NETWORKS[name]
        if scan.size % network.multiple_for() or gridsize not in network.gridsizes:
            continue
        options = TrainingOptions(network=name, gridsize=gridsize)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            made = build_network(scan.size, 1.0, options)
        yield Model(made, options, scan.size, 1.0, {}, np.asarray(scan.probe, np.complex64))
