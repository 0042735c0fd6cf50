"""Small simulated scans and runs over them, for tests that see the engines from outside."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

import diptych
from diptych.ptycho.reconstruct import reconstruct
from diptych.ptycho.scan import Canvas, Reconstruction, Scan
from diptych.runtime.device import ExecutionOptions
from diptych.runtime.progress import Progress

Image = NDArray[np.complex128]
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


@dataclass
class StandIn:
    """A network that shows ``change`` of the truth; it keeps the scans it is shown."""

    truth: Canvas
    change: Callable[[Image], Image]
    digest: str = "stand-in"
    probe: NDArray[np.complex64] | None = None
    shown: list[Scan] = field(default_factory=list)

    def reconstruct(
        self, scan: Scan, progress: Any = None, *, execution: ExecutionOptions, **inference: Any
    ) -> Reconstruction:
        self.shown.append(scan)
        image = self.change(self.truth.values.astype(np.complex128)).astype(np.complex64)
        canvas = Canvas(np.ones_like(image), self.truth.origin)
        # A diverged network has values that a Canvas would refuse.
        canvas.values[:] = image
        assert scan.probe is not None
        return Reconstruction(canvas, scan.probe, scan.positions)


def stop_after(epochs: int) -> Callable[[Progress], None]:
    """A progress callback that stands for Ctrl-C after some epochs of the engine."""

    def callback(report: Progress) -> None:
        if report.done == epochs and report.stage != "network":
            raise KeyboardInterrupt

    return callback
