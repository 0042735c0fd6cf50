"""Seconds spent in the stages of an inference."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Clock:
    """Adds up the time of named stages; a stage may be entered often, and inside another one.

    Parameters
    ----------
    device : torch.device, optional
        Wait for this GPU at the ends of each stage, so that its work is counted where it was ordered. Without it the
        work of a GPU is counted where the program happens to wait for it.

    Attributes
    ----------
    seconds, cpu_seconds : dict of str to float
        By the wall clock, and of the processor (all threads of the process).
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.cpu_seconds: defaultdict[str, float] = defaultdict(float)
        self._device = device if device is not None and device.type == "cuda" else None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the block as part of a stage."""
        began = self.now()
        try:
            yield
        finally:
            self.add(name, began)

    def now(self) -> tuple[float, float]:
        """The present time, and the seconds of the processor so far."""
        if self._device is not None:
            torch.cuda.synchronize(self._device)
        return time.perf_counter(), time.process_time()

    def add(self, name: str, began: tuple[float, float]) -> None:
        """Count the time since ``began``, a result of :meth:`now`, as part of a stage."""
        ended = self.now()
        self.seconds[name] += ended[0] - began[0]
        self.cpu_seconds[name] += ended[1] - began[1]
