"""Worker: one run of another package's engine, in that package's own environment (nothing of diptych is imported).

Every engine gets the same counts, positions and probe start, a transparent object, and refines both. The clock covers
its epochs alone; imports, set-up and one warm-up epoch are left out. Settings are the packages' defaults, or those of
their own tests, where not stated.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from recording import Recorder, forget_peak, memory_mb, next_mark

WAVELENGTH_M, DISTANCE_M, PIXEL_M = 1.24e-10, 1.0, 75e-6
"""For packages that want a geometry; only the object pixel, wavelength * distance / (N * pixel), matters."""

Arrays = dict[str, NDArray[Any]]


class Peer(Protocol):
    """What a run needs from an engine."""

    def advance(self, epochs: int) -> None:
        """Continue for a number of epochs."""

    def image(self) -> NDArray[Any]:
        """The current object, (H, W) complex."""

    def origin(self) -> tuple[float, float]:
        """Coordinate (y, x) of the image's pixel [0, 0], in the pixels of the positions."""


class PtyChi:
    """Pty-Chi: LSQML with random batches, or compact ones with momentum 0.5 (batch 96), and rPIE (batch 16, alpha
    0.1).
    """

    def __init__(self, arrays: Arrays, kind: str) -> None:
        import torch

        _stand_in_for_torchvision()
        import ptychi.api as api
        from ptychi.api.task import PtychographyTask
        from ptychi.utils import get_suggested_object_size, rescale_probe

        counts, size = arrays["counts"], arrays["counts"].shape[-1]
        options: Any = api.RPIEOptions() if kind == "rpie" else api.LSQMLOptions()
        options.object_options.optimizable = options.probe_options.optimizable = True
        options.probe_position_options.optimizable = False
        options.object_options.step_size = options.probe_options.step_size = 1
        solver = options.reconstructor_options
        solver.default_device = api.Devices.CPU
        solver.displayed_loss_function = None
        solver.random_seed = 0
        if kind == "rpie":
            solver.batch_size = 16
            options.object_options.alpha = options.probe_options.alpha = 0.1
        else:
            solver.batch_size = 96
            solver.noise_model = api.NoiseModels.GAUSSIAN
            options.object_options.build_preconditioner_with_all_modes = True
        if kind == "lsqml-compact":
            solver.momentum_acceleration_gain = 0.5
            solver.batching_mode = api.BatchingModes.COMPACT
        # A whole number keeps integer positions integer.
        self._middle = np.floor((arrays["positions"].min(0) + arrays["positions"].max(0)) / 2)
        places = (arrays["positions"] - self._middle).astype(np.float32)
        shape = [side + side % 2 for side in get_suggested_object_size(places, (size, size), extra=20)]
        probe = rescale_probe(arrays["probe"][None, None].copy(), counts.mean(0, keepdims=True))
        self._task = PtychographyTask(
            options,
            diffraction_data=torch.tensor(counts),
            object_data=torch.ones([1, *shape], dtype=torch.complex64),
            probe_data=torch.as_tensor(probe).to(torch.complex64),
            probe_position_x_px=torch.tensor(places[:, 1]),
            probe_position_y_px=torch.tensor(places[:, 0]),
        )

    def advance(self, epochs: int) -> None:
        """See :class:`Peer`."""
        self._task.run(n_epochs=epochs)

    def image(self) -> NDArray[Any]:
        """See :class:`Peer`."""
        return np.asarray(self._task.get_data_to_cpu("object", as_numpy=True)[0])

    def origin(self) -> tuple[float, float]:
        """In this package, position (0, 0) is the centre of the object."""
        y, x = self._middle - np.asarray(self.image().shape) // 2
        return float(y), float(x)


class PtyLab:
    """PtyLab: mPIE or ePIE one pattern at a time in random order; its optional constraints are off. It rounds positions
    to pixels.
    """

    def __init__(self, arrays: Arrays, kind: str) -> None:
        import h5py
        import PtyLab as package
        from PtyLab import Engines
        from PtyLab.Monitor.Monitor import DummyMonitor

        np.random.seed(0)  # noqa: NPY002 - the package draws from the global generator
        self._positions, self._size = arrays["positions"], arrays["counts"].shape[-1]
        pixel = WAVELENGTH_M * DISTANCE_M / (self._size * PIXEL_M)
        side = 2 * int(np.ptp(self._positions, axis=0).max() // 2) + self._size + 24
        fields = {
            "ptychogram": arrays["counts"],
            "encoder": (self._positions - self._positions.mean(0)) * pixel,
            "wavelength": WAVELENGTH_M,
            "zo": DISTANCE_M,
            "dxd": PIXEL_M,
            "binningFactor": 1,
            "orientation": 0,
            "entrancePupilDiameter": self._size / 2 * pixel,
        }
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "scan.hdf5"
            with h5py.File(path, "w") as file:
                for name, value in fields.items():
                    file[name] = value
            data, state, settings, *_ = package.easyInitialize(path, operationMode="CPM", dummyMonitor=True)
        state.npsm = state.nosm = state.nlambda = state.nslice = 1
        state.initialProbe, state.initialObject = "circ", "ones"
        state.No = side + side % 2
        state.initializeObjectProbe()
        state.probe = arrays["probe"][None, None, None, None].copy()
        settings.positionOrder, settings.propagatorType, settings.intensityConstraint = (
            "random",
            "Fraunhofer",
            "standard",
        )
        for switch in (
            "gpuSwitch",
            "probePowerCorrectionSwitch",
            "comStabilizationSwitch",
            "orthogonalizationSwitch",
            "fftshiftSwitch",
        ):
            setattr(settings, switch, False)
        self._state = state
        self._engine = getattr(Engines, kind)(state, data, settings, DummyMonitor())

    def advance(self, epochs: int) -> None:
        """See :class:`Peer`."""
        self._engine.numIterations = epochs
        self._engine.reconstruct()

    def image(self) -> NDArray[Any]:
        """See :class:`Peer`."""
        return np.asarray(self._state.object).squeeze()

    def origin(self) -> tuple[float, float]:
        """Computed from the window corners of the package."""
        y, x = (self._positions - self._size // 2 - self._state.positions).mean(0)
        return float(y), float(x)


class CdTools:
    """cdtools: Adam on amplitudes through automatic differentiation, learning rate 0.01, batch 50, one probe mode."""

    def __init__(self, arrays: Arrays, kind: str) -> None:
        import cdtools
        import torch

        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002 - the package draws from the global generator
        positions, size = arrays["positions"], arrays["counts"].shape[-1]
        pixel = WAVELENGTH_M * DISTANCE_M / (size * PIXEL_M)
        # Detector rows run along -y and columns along -x of the laboratory: translations in pixels are then (-y, -x) of
        # the stage.
        basis = torch.tensor([[0, -PIXEL_M], [-PIXEL_M, 0], [0, 0]], dtype=torch.float32)
        stage = np.concatenate([positions[:, ::-1] * pixel, np.zeros((len(positions), 1))], axis=1).astype(np.float32)
        found = [
            self._model(cdtools, torch, arrays["counts"], stage * sign, basis) for sign in ((1, 1, 1), (-1, -1, 1))
        ]
        agreeing = [
            item for item in found if all(np.corrcoef(item[2][:, i], positions[:, i])[0, 1] > 0.99 for i in (0, 1))
        ]
        if not agreeing:
            raise RuntimeError("cdtools: no sign of the stage gives translations along the positions")
        data, self._model_, pixels = agreeing[0]
        start = torch.tensor(arrays["probe"])
        own = self._model_.probe.data[0]
        self._model_.probe.data = (start * (own.abs().square().sum() / start.abs().square().sum()).sqrt())[None].to(
            own.dtype
        )
        offset = positions.mean(0) - (pixels.mean(0) - self._model_.min_translation.numpy()) - size // 2
        self._origin = float(offset[0]), float(offset[1])
        solver = cdtools.reconstructors.AdamReconstructor(self._model_, data)
        self._epochs: Iterator[float] = solver.optimize(10**6, lr=0.01, batch_size=50, thread=False)

    @staticmethod
    def _model(
        cdtools: Any, torch: Any, counts: NDArray[Any], stage: NDArray[Any], basis: Any
    ) -> tuple[Any, Any, NDArray[Any]]:
        geometry = {"distance": DISTANCE_M, "basis": basis}
        data = cdtools.datasets.Ptycho2DDataset(
            torch.tensor(stage.astype(np.float32)),
            torch.tensor(counts),
            wavelength=WAVELENGTH_M,
            detector_geometry=geometry,
        )
        model = cdtools.models.FancyPtycho.from_dataset(data, n_modes=1, obj_padding=20)
        normal = np.array([0.0, 0.0, 1.0])
        pixels = cdtools.tools.interactions.translations_to_pixel(
            model.obj_basis, data.translations, surface_normal=normal
        )
        return data, model, pixels.numpy()

    def advance(self, epochs: int) -> None:
        """See :class:`Peer`."""
        for _ in range(epochs):
            next(self._epochs)

    def image(self) -> NDArray[Any]:
        """See :class:`Peer`."""
        return np.asarray(self._model_.obj.detach().cpu().numpy()).squeeze()

    def origin(self) -> tuple[float, float]:
        """See :class:`Peer`."""
        return self._origin


ENGINES: dict[str, tuple[str, str, type[Any], str]] = {
    "ptylab-mpie": ("PtyLab mPIE", "PtyLab", PtyLab, "mPIE"),
    "ptylab-epie": ("PtyLab ePIE", "PtyLab", PtyLab, "ePIE"),
    "ptychi-lsqml-compact": ("Pty-Chi LSQML compact, momentum", "ptychi", PtyChi, "lsqml-compact"),
    "ptychi-lsqml": ("Pty-Chi LSQML random", "ptychi", PtyChi, "lsqml"),
    "ptychi-rpie": ("Pty-Chi rPIE", "ptychi", PtyChi, "rpie"),
    "cdtools-adam": ("cdtools Adam", "cdtools", CdTools, "adam"),
}
"""Name: title, the package's import name, adapter, kind."""


def _stand_in_for_torchvision() -> None:
    """Pty-Chi imports one blur from torchvision, for an option that is off here; torchvision would replace the CPU
    torch.
    """
    if "torchvision" not in sys.modules:
        package, transforms = types.ModuleType("torchvision"), types.ModuleType("torchvision.transforms")
        transforms.__dict__["GaussianBlur"] = type("GaussianBlur", (), {})
        package.__dict__["transforms"] = transforms
        sys.modules |= {"torchvision": package, "torchvision.transforms": transforms}


def run(job: dict[str, Any]) -> None:
    """Do the run that ``job`` describes and write its record to its folder."""
    with contextlib.suppress(ImportError):
        import torch

        torch.set_num_threads(job["threads"])
    logging.disable(logging.WARNING)
    with np.load(job["problem"], allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    _, _, adapter, kind = ENGINES[job["engine"]]
    warm: Peer = adapter(arrays, kind)
    warm.advance(1)
    del warm
    before = forget_peak()
    engine: Peer = adapter(arrays, kind)
    recorder = Recorder(Path(job["folder"]))
    laps: list[float] = []
    done = 0
    while done < job["epochs"] and recorder.seconds < job["seconds"]:
        step = min(next_mark(done), job["epochs"]) - done
        since = recorder.seconds
        recorder.start()
        engine.advance(step)
        recorder.stop()
        laps += [(recorder.seconds - since) / step] * step
        done += step
        recorder.keep(done, engine.image(), engine.origin())
    stop = f"all {done} epochs done" if done >= job["epochs"] else f"cut after {job['seconds']:g} s"
    recorder.write(laps_s={"0": laps}, peak_mb=memory_mb("VmHWM") - before, epochs=done, stop=stop)


if __name__ == "__main__":
    with open(os.devnull, "w", encoding="utf-8") as silent, contextlib.redirect_stdout(silent):
        run(json.loads(sys.argv[1]))
