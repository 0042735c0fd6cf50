"""Our engines and networks as Ptychodus' reconstructors."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ptychodus.api.product import LossValue
from ptychodus.api.reconstruct import (
    ReconstructInput,
    Reconstructor,
    ReconstructorLibrary,
    ReconstructOutput,
    TrainableReconstructor,
    TrainOutput,
)
from pydantic import Field

import diptych
from diptych.errors import InputError
from diptych.ptycho.engines.base import ENGINES
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.ptycho.neural.options import TrainingOptions
from diptych.ptycho.plugins.ptychodus.products import product_of, scan_of, without_truth
from diptych.ptycho.plugins.ptychodus.settings import SettingsGroup, settings_group
from diptych.ptycho.plugins.ptychodus.streaming import streamed
from diptych.ptycho.scan import Canvas, Reconstruction, Scan
from diptych.runtime.device import ExecutionOptions
from diptych.runtime.interrupts import Cancel
from diptych.runtime.options import Options
from diptych.runtime.progress import Progress

LIBRARY = "diptych"
NETWORK = "Network"
MODEL_SUFFIX = ".safetensors"


class StreamOptions(Options):
    """How a reconstruction runs inside Ptychodus."""

    every: int = Field(5, ge=1, description="Epochs between two intermediate results that are shown.")
    start_from_object: bool = Field(False, description="Start from the product's object; off: from a transparent one.")


class NetworkRunOptions(Options):
    """What follows the network."""

    engine: str = Field(
        "network", description="Engine that continues from the network's image: auto, ml, rpie ...; network: none."
    )


class DiptychLibrary(ReconstructorLibrary):
    """The library: one reconstructor for each engine, and one for trained networks."""

    panels: dict[str, list[SettingsGroup]]
    """Groups of settings that each reconstructor has, for the panel."""

    latest: DiptychLibrary | None = None
    """The library of the running Ptychodus; its window asks for it."""

    def __init__(self, settings: Any) -> None:
        super().__init__("diptych")
        common = [
            settings_group(settings, "Diptych", ReconstructionOptions, ("engine", "start")),
            settings_group(settings, "DiptychRun", StreamOptions),
            settings_group(settings, "DiptychExecution", ExecutionOptions),
        ]
        self._reconstructors: list[Reconstructor] = []
        self.panels = {}
        for engine in ENGINES.entries():
            if engine.build is None:
                continue
            own = settings_group(settings, f"Diptych{engine.name.upper()}", engine.options)
            groups = [*common, *([own] if own.fields else [])]
            self._add(EngineReconstructor(engine.name, common, own), groups)
        run = settings_group(settings, "DiptychNetwork", NetworkRunOptions)
        training = settings_group(settings, "DiptychTraining", TrainingOptions)
        self._add(NetworkReconstructor(common, run, training), [run, *common, training])
        DiptychLibrary.latest = self

    @classmethod
    def of(cls, settings: Any) -> DiptychLibrary:
        """The library with its groups in Ptychodus' ``SettingsRegistry``."""
        return cls(settings)

    @property
    def name(self) -> str:
        """Name in the list of algorithms."""
        return LIBRARY

    def __iter__(self) -> Iterator[Reconstructor]:
        return iter(self._reconstructors)

    def _add(self, reconstructor: Reconstructor, groups: list[SettingsGroup]) -> None:
        self._reconstructors.append(reconstructor)
        self.panels[reconstructor.name.casefold()] = groups


class EngineReconstructor(Reconstructor):
    """One of diptych's iterative engines."""

    def __init__(self, engine: str, common: list[SettingsGroup], own: SettingsGroup) -> None:
        super().__init__()
        self._engine, self._common, self._own = engine, common, own
        self._goal = 0

    @property
    def name(self) -> str:
        """Name in the list of algorithms."""
        return self._engine

    def get_progress_goal(self) -> int:
        """Epochs planned; 0 before the engine has said how many."""
        return self._goal

    def reconstruct(self, parameters: ReconstructInput) -> Iterator[ReconstructOutput]:
        """Products as the reconstruction goes on, and the final one."""
        values = {**self._common[0].values(), "engine": self._engine, **self._own.values()}
        options = ReconstructionOptions.build(values, origin="Ptychodus settings")
        yield from run_in_steps(parameters, options, self._common, self._plan)

    def _plan(self, goal: int) -> None:
        self._goal = goal


class NetworkReconstructor(TrainableReconstructor):
    """A trained network of diptych: its image, or that image and an engine that continues from it."""

    def __init__(self, common: list[SettingsGroup], run: SettingsGroup, training: SettingsGroup) -> None:
        super().__init__()
        self._common, self._run, self._training = common, run, training
        self._model: diptych.Model | None = None
        self._goal = 0

    @property
    def name(self) -> str:
        """Name in the list of algorithms."""
        return NETWORK

    def get_progress_goal(self) -> int:
        """Steps planned; 0 before they are known."""
        return self._goal

    def is_model_loaded(self) -> bool:
        """Whether a network was loaded or trained."""
        return self._model is not None

    def get_model_file_filter(self) -> str:
        """Filter of the dialogue that opens a network."""
        return f"diptych networks (*{MODEL_SUFFIX})"

    def get_model_file_extension(self) -> str:
        """Suffix of a network's file."""
        return MODEL_SUFFIX

    def load_model_from_file(self, file_path: Path) -> None:
        """Load a trained network."""
        self._model = diptych.load_model(file_path)

    def save_model(self, file_path: Path) -> None:
        """Write the network that is loaded."""
        if self._model is None:
            raise InputError("Network", "no network is loaded", "one that was trained or loaded before")
        self._model.save(file_path)

    def get_training_data_file_filter(self) -> str:
        """Filter of the dialogue that writes training data."""
        return "diptych scans (*.npz)"

    def export_training_data(self, file_path: Path, parameters: ReconstructInput) -> None:
        """Write the scan with its probe, and with the product's object where every window lies in it."""
        diptych.save(scan_of(parameters)[0], file_path.with_suffix(".npz"))

    def reconstruct(self, parameters: ReconstructInput) -> Iterator[ReconstructOutput]:
        """The network's image, and what an engine makes of it where one is chosen."""
        if self._model is None:
            raise InputError("Network", "no network is loaded", remedy="Load or train one first.")
        values = {**self._common[0].values(), **self._run.values()}
        options = ReconstructionOptions.build(values, origin="Ptychodus settings")
        yield from run_in_steps(parameters, options, self._common, self._plan, self._model)

    def train(self, input_path: Path, output_path: Path) -> Iterator[TrainOutput]:
        """Train on the scans (.npz) in a folder, or on one file, and write the network to ``output_path``."""
        files = sorted(input_path.glob("*.npz")) if input_path.is_dir() else [input_path]
        if not files:
            raise InputError(input_path, "holds no .npz files", "scans, as 'Export Training Data' writes them")
        options = TrainingOptions.build(self._training.values(), origin="Ptychodus settings")
        target = output_path / f"model{MODEL_SUFFIX}" if output_path.is_dir() else output_path
        losses: list[LossValue] = []

        def work(send: Callable[[TrainOutput], None], cancel: Cancel) -> None:
            def report(progress: Progress) -> None:
                self._goal = progress.total
                if "loss" in progress.values:
                    losses.append(LossValue(progress.done, progress.values["loss"]))
                    send(TrainOutput(training_loss=list(losses), progress=progress.done))

            self._model = diptych.train(files, options, progress=report, cancel=cancel)
            self._model.save(target)
            send(TrainOutput(training_loss=list(losses), progress=self._goal))

        yield from streamed(work)

    def _plan(self, goal: int) -> None:
        self._goal = goal


def run_in_steps(
    parameters: ReconstructInput,
    options: ReconstructionOptions,
    common: list[SettingsGroup],
    plan: Callable[[int], None],
    model: diptych.Model | None = None,
) -> Iterator[ReconstructOutput]:
    """Products of the intermediate states of a reconstruction, and of its result."""
    scan, translation = scan_of(parameters)
    stream = StreamOptions.build(common[1].values(), origin="Ptychodus settings")
    execution = ExecutionOptions.build(common[2].values(), origin="Ptychodus settings")
    given = parameters.product
    with tempfile.TemporaryDirectory() as folder:
        options = options.with_changes(start=_start(scan, Path(folder))) if stream.start_from_object else options
        scan = without_truth(scan)

        def work(send: Callable[[ReconstructOutput], None], cancel: Cancel) -> None:
            losses: list[tuple[int, float]] = []

            def report(progress: Progress) -> None:
                if progress.state is None:
                    return
                plan(progress.total)
                losses.append((progress.done, progress.values["fit"]))
                if progress.done % stream.every == 0:
                    image, probe = progress.state()
                    canvas = Canvas(image, canvas_origin(scan))
                    product = product_of(given, translation, canvas, probe, None, losses)
                    send(ReconstructOutput(product, progress.done))

            result = diptych.reconstruct(scan, model, options, report, execution=execution, cancel=cancel)
            send(_final(parameters, result, translation, losses, options))

        yield from streamed(work)


def canvas_origin(scan: Scan) -> tuple[int, int]:
    """Coordinate of the first pixel of the object that engines reconstruct."""
    from diptych.ptycho.engines.problem import MARGIN
    from diptych.ptycho.physics.patches import canvas_box

    return canvas_box(scan.positions, scan.size, MARGIN)[0]


def _final(
    parameters: ReconstructInput,
    result: Reconstruction,
    translation: Any,
    losses: list[tuple[int, float]],
    options: ReconstructionOptions,
) -> ReconstructOutput:
    refined = result.positions if options.correct_positions != "off" else None
    if refined is not None and len(refined) != len(parameters.product.probe_positions):
        # Frames that were left out keep their positions, and so do all.
        refined = None
    product = product_of(parameters.product, translation, result.object, result.probe, refined, losses)
    return ReconstructOutput(product, losses[-1][0] if losses else 1)


def _start(scan: Scan, folder: Path) -> str:
    """File of the product's object, which the reconstruction starts from."""
    if scan.truth is None or scan.probe is None:
        raise InputError(scan.name, "its object does not hold every window", "an object to start from")
    guess = Reconstruction(scan.truth, scan.probe, scan.positions, name=scan.name)
    return str(diptych.save(guess, folder / "start.npz"))
