"""A run of the command line in process, a small scan, and a stand-in for the solver."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

import diptych.ptycho.reconstruct as door
from diptych.cli import run
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.ptycho.evaluate.compare import CompareOptions
from diptych.ptycho.evaluate.limit.options import BoundOptions
from diptych.ptycho.evaluate.options import EvaluationOptions
from diptych.ptycho.io import LoadOptions, save
from diptych.ptycho.neural.options import InferenceOptions, TrainerOptions, TrainingOptions
from diptych.ptycho.scan import Canvas, Reconstruction, Scan
from diptych.ptycho.simulate import SimulationOptions, simulate
from diptych.runtime.device import ExecutionOptions
from diptych.runtime.option_fields import option_names
from diptych.runtime.progress import Progress

MODELS: dict[str, tuple[type[Any], ...]] = {
    "info": (LoadOptions,),
    "check": (LoadOptions,),
    "fetch": (),
    "simulate": (SimulationOptions,),
    "reconstruct": (LoadOptions, ReconstructionOptions, InferenceOptions, ExecutionOptions),
    "train": (LoadOptions, TrainingOptions, TrainerOptions),
    "evaluate": (EvaluationOptions, LoadOptions),
    "bound": (BoundOptions, LoadOptions),
    "compare": (CompareOptions, LoadOptions, ExecutionOptions),
    "demo": (ExecutionOptions,),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for ``verb``, ``model`` and ``name`` runs for every option of every verb; ``verb`` alone, for
    every verb."""
    if {"verb", "model", "name"} <= set(metafunc.fixturenames):
        fields = [
            (verb, model, name) for verb, models in MODELS.items() for model in models for name in option_names(model)
        ]
        metafunc.parametrize(
            ("verb", "model", "name"), fields, ids=[f"{verb}-{model.__name__}-{name}" for verb, model, name in fields]
        )
    elif "verb" in metafunc.fixturenames:
        metafunc.parametrize("verb", MODELS)


@dataclass
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON object."""
        return json.loads(self.out)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Outcome]:
    """Run the command line in an empty folder; flags may be paths and numbers."""
    monkeypatch.chdir(tmp_path)

    def call(*argv: object) -> Outcome:
        capsys.readouterr()
        code = run([str(argument) for argument in argv])
        return Outcome(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def scan() -> Scan:
    """36 patterns of 16 x 16, with their truth."""
    return simulate(size=16, patterns=36, step=2.0, dose=1e5, seed=1)


@pytest.fixture
def scan_file(scan: Scan, tmp_path: Path) -> Path:
    """The small scan as a file."""
    return save(scan, tmp_path / "small.npz")


@dataclass
class Solver:
    """Stands in for the engines: keeps what it is called with, returns the truth, and fails when told to."""

    calls: list[dict[str, Any]]
    fails: BaseException | None = None
    interrupts: bool = False

    def __call__(
        self, scan: Scan, model: None = None, options: Any = None, progress: Any = None, **rest: Any
    ) -> Reconstruction:
        self.calls.append({"scan": scan, "options": options, **rest})
        if progress is not None:
            progress(Progress("ml", 1, 2, {"fit": 2.0}))
        if self.fails is not None:
            raise self.fails
        np.savez(rest["checkpoint"], state=1) if rest.get("checkpoint") else None
        provenance = {
            "engine": "ml",
            "epochs": 2,
            "best_epoch": 2,
            "fit": 1.25,
            "held_out_fit": 1.5,
            "stop_reason": "it was told to",
            "device": "cpu",
        }
        result = Reconstruction(
            scan.truth or Canvas(np.ones((64, 64), np.complex64)),
            scan.probe,
            scan.positions,
            history={"epoch": [1.0, 2.0], "fit": [2.0, 1.25], "held_out_fit": [2.5, 1.5]},
            flags=("a flag",),
            provenance=provenance,
        )
        if self.interrupts:
            raise door.Interrupted(result)
        return result


@pytest.fixture
def solver(monkeypatch: pytest.MonkeyPatch) -> Solver:
    """The stand-in, in the place of ``diptych.ptycho.reconstruct.reconstruct``; figures are blank, which saves most of
    the time."""
    for kind in (Scan, Reconstruction):
        monkeypatch.setattr(kind, "plot", lambda self: Figure((1, 1)))
    stand_in = Solver([])
    monkeypatch.setattr(door, "reconstruct", stand_in)
    return stand_in
