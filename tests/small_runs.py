"""Small simulated scans and runs over them, for tests that see the engines from outside."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

import diptych
from diptych.ptycho.reconstruct import reconstruct
from diptych.ptycho.scan import Reconstruction, Scan
from diptych.runtime.device import ExecutionOptions
from diptych.runtime.progress import Progress

ENGINES = ["ml", "rpie", "epie", "dm", "raar"]
CPU = ExecutionOptions(device="cpu")
SMALL: dict[str, Any] = {"object": "dead-leaves", "size": 32, "patterns": 64, "step": 4.0, "seed": 1}


@functools.cache
def simulated(**changes: Any) -> Any:
    """A scan of 64 patterns of 32 x 32, made once per kind."""
    return diptych.simulate(**{**SMALL, "integer": True, "dose": 1e6, **changes})


def solve(scan: Scan, **options: Any) -> Reconstruction:
    return reconstruct(scan, execution=CPU, **options)


def same(a: Reconstruction, b: Reconstruction) -> bool:
    columns = [name for name in a.history if name != "seconds"]
    return (
        np.array_equal(a.object.values, b.object.values)
        and np.array_equal(a.probe, b.probe)
        and all(np.array_equal(a.history[name], b.history[name], equal_nan=True) for name in columns)
        and a.flags == b.flags
    )


def stop_after(epochs: int) -> Callable[[Progress], None]:
    """A progress callback that stands for Ctrl-C after some epochs of the engine."""

    def callback(report: Progress) -> None:
        if report.done == epochs and report.stage != "network":
            raise KeyboardInterrupt

    return callback
