"""Worker: one run of a diptych engine, through ``diptych.reconstruct``, in a separate process.

The clock covers the whole call: probe check, preparation, epochs, final fit. It is stopped while images are written.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from recording import Recorder, forget_peak, marked, memory_mb

import diptych
from diptych.ptycho.engines import run as runner
from diptych.ptycho.engines.base import Engine
from diptych.runtime.device import ExecutionOptions
from diptych.runtime.progress import Progress

SLICE = 64
"""Patterns per batch of the bare FFTs."""

FINAL = -1
"""Epoch number of the image that ``reconstruct`` returns."""


def bare_seconds(patterns: int, size: int, repeats: int = 5) -> float:
    """Forward and inverse FFT of all patterns in batches of 64, the best of ``repeats``, in seconds."""
    waves = torch.randn(patterns, size, size, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        for start in range(0, patterns, SLICE):
            torch.fft.ifft2(torch.fft.fft2(waves[start : start + SLICE], norm="ortho"), norm="ortho")
        best = min(best, time.perf_counter() - began)
    return best


class Watch:
    """Record duration and stage of every epoch, and at marked epochs the image, which the progress callback does not
    receive.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.laps: dict[str, list[float]] = {}
        self.preparation = 0.0
        self._engine: Engine | None = None
        self._last = 0.0
        self._run_engine = runner.run_engine

    def run_engine(self, engine: Engine, *arguments: Any, **options: Any) -> Any:
        """Replace the package's function of that name, and call it, to obtain the engine object."""
        self._engine = engine
        self.preparation = self._last = self.recorder.seconds
        return self._run_engine(engine, *arguments, **options)

    def progress(self, report: Progress) -> None:
        """Called after each epoch."""
        if self._engine is None:
            return
        self.recorder.stop()
        stage = str(int(report.values.get("stage", 0)))
        self.laps.setdefault(stage, []).append(self.recorder.seconds - self._last)
        self._last = self.recorder.seconds
        if marked(report.done):
            self.recorder.keep(report.done, self._engine.image.resolve_conj().cpu().numpy(), (0, 0))
        self.recorder.start()


def run(job: dict[str, Any]) -> None:
    """Do the run that ``job`` describes and write its record to its folder."""
    torch.set_num_threads(job["threads"])
    with np.load(job["problem"], allow_pickle=False) as arrays:
        scan = diptych.Scan(arrays["counts"], arrays["positions"], arrays["probe"])
    options = {
        "engine": job["engine"],
        "epochs": job["epochs"],
        "execution": ExecutionOptions(device="cpu", threads=job["threads"]),
    }
    few = diptych.Scan(scan.counts[:40], scan.positions[:40], scan.probe)
    diptych.reconstruct(few, **{**options, "epochs": 14})  # imports, thread pool
    bare = bare_seconds(len(scan), scan.size)
    recorder = Recorder(Path(job["folder"]))
    watch = Watch(recorder)
    before = forget_peak()
    recorder.start()
    with patch.object(runner, "run_engine", watch.run_engine):
        result = diptych.reconstruct(scan, progress=watch.progress, **options)
    recorder.stop()
    peak = memory_mb("VmHWM")
    if not recorder.images:
        raise RuntimeError(
            "own.py: reconstruct() no longer looks up run_engine in diptych.ptycho.engines.run when called"
        )
    bare = min(bare, bare_seconds(len(scan), scan.size))
    origin = result.object.origin
    for image in recorder.images:
        image["origin"] = list(origin)
    recorder.keep(FINAL, result.object.values, origin)
    recorder.write(
        bare_s=bare,
        laps_s=watch.laps,
        preparation_s=watch.preparation,
        peak_mb=peak - before,
        counts_mb=scan.counts.size * 4 / 1e6,
        epochs=result.provenance["epochs"],
        stop=result.provenance["stop_reason"],
        fit=result.provenance["fit"],
        held_out_fit=result.provenance["held_out_fit"],
    )


if __name__ == "__main__":
    run(json.loads(sys.argv[1]))
