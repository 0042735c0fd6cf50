"""The training run: prepare scans, fit with Lightning, keep the best weights, write the run directory.

:func:`diptych.train` is the public door to :func:`run_training`.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.errors import InputError, UnavailableError
from diptych.ptycho.io import LoadOptions
from diptych.ptycho.neural.model import Model
from diptych.ptycho.neural.options import TrainerOptions, TrainingOptions
from diptych.ptycho.neural.protocols import CancelToken, NetworkFigures
from diptych.ptycho.scan import Scan
from diptych.runtime.device import choose_device, torchrun_processes
from diptych.runtime.files import unless_refused
from diptych.runtime.interrupts import interrupts_after
from diptych.runtime.progress import ProgressCallback
from diptych.runtime.provenance import versions
from diptych.runtime.run_directory import RunDirectory, plain

if TYPE_CHECKING:
    import torch

    from diptych.ptycho.neural.data.preparation import PreparedScan
    from diptych.ptycho.neural.training.callbacks import CheckpointCallback
    from diptych.ptycho.neural.training.lightning_module import PtychoModule

log = logging.getLogger("diptych")

MODEL = "model.safetensors"
INDICES = "subsample_indices.json"
FIGURE = "training.png"


class TrainingInterrupted(KeyboardInterrupt):
    """Training was interrupted by Ctrl-C or a cancel token; ``model`` has the best weights so far."""

    def __init__(self, model: Model) -> None:
        super().__init__("interrupted")
        self.model = model


class UnsavedModel(UnavailableError):
    """The file system refused the model file of the run; ``model`` has the best weights, after an interruption those so
    far.
    """

    def __init__(self, message: str, model: Model, interrupted: bool) -> None:
        super().__init__(message)
        self.model, self.interrupted = model, interrupted


@dataclass(frozen=True)
class Hooks:
    """What a caller passes in to follow, draw and stop a training run.

    Parameters
    ----------
    progress : callable, optional
        Called after each update.
    cancel : CancelToken, optional
        Read after each batch.
    figures : NetworkFigures, optional
        Draws the figures of the run directory.
    """

    progress: ProgressCallback | None = None
    cancel: CancelToken | None = None
    figures: NetworkFigures | None = None


def run_training(
    scans: Sequence[Scan | str | Path],
    options: TrainingOptions,
    trainer: TrainerOptions,
    load: LoadOptions | None = None,
    *,
    run: str | Path | None = None,
    resume: bool = False,
    hooks: Hooks | None = None,
) -> Model:
    """Train a network; see :func:`diptych.train` for parameters and errors."""
    if find_spec("lightning") is None:
        raise UnavailableError(
            "training needs the package lightning, which is not installed. Run: pip install 'diptych[train]'."
        )
    from diptych.ptycho.neural.data.preparation import prepare_scans
    from diptych.ptycho.neural.training.callbacks import CheckpointCallback
    from diptych.ptycho.neural.training.trainer import check_trainer, settings_kept

    hooks = hooks or Hooks()
    device, why = choose_device(trainer.device)
    check_trainer(trainer, device)
    log.info("device %s (%s)", device, why)
    prepared = prepare_scans(scans, options, trainer, load)
    # Of the processes that torchrun starts, the first one alone writes.
    writes = (torchrun_processes() or (0,))[0] == 0
    with ExitStack() as stack:
        folder = (
            Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="diptych-")))
            if run is None
            else _open_folder(run, resume or not writes)
        )
        stack.enter_context(settings_kept(device, trainer, options.seed))
        identity = plain({"options": options.resolved(), "scans": [each.identity() for each in prepared]})
        checkpoints = CheckpointCallback(folder, identity, options.patience)
        resumed = resume and _restore(checkpoints)
        if writes:
            with unless_refused("training goes on"):
                RunDirectory(folder).write_json(INDICES, {"scans": [each.indices() for each in prepared]})
        module = _make_module(prepared, options, device)
        finished = resumed and (checkpoints.epochs >= options.epochs or bool(checkpoints.stop_reason))
        interrupted = not finished and _fit(
            module, prepared, checkpoints, trainer, device, hooks, resumed=resumed, kept=run is not None
        )
        _load_best(module, checkpoints, interrupted, writes)
        model = _make_model(module, prepared, checkpoints, interrupted, f"{device} ({why})")
        if run is not None and writes:
            try:
                model.save(folder / MODEL)
            except UnavailableError as error:
                raise UnsavedModel(str(error), model, bool(interrupted)) from error.__cause__
            _draw_losses(checkpoints, folder, hooks.figures)
    if interrupted:
        raise TrainingInterrupted(model)
    return model


def _open_folder(run: str | Path, resume: bool) -> Path:
    """The folder of a run, created if needed."""
    folder = Path(run)
    if not resume and any((folder / name).exists() for name in (MODEL, "checkpoints")):
        raise InputError(
            folder,
            "holds an earlier training run",
            "an empty or absent folder",
            "Choose another folder, or continue the run with resume=True (--resume).",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            folder, f"cannot be used as a run directory ({error.strerror})", remedy="Choose another folder."
        ) from None
    return folder


def _make_module(prepared: Sequence[PreparedScan], options: TrainingOptions, device: torch.device) -> PtychoModule:
    import torch

    from diptych.ptycho.networks import build_network
    from diptych.ptycho.neural.data.preparation import input_scale
    from diptych.ptycho.neural.probe_model import ProbeModel
    from diptych.ptycho.neural.training.lightning_module import PtychoModule

    probe_models = [ProbeModel.of(each.patterns, refine=options.probe == "refine") for each in prepared]
    scale = input_scale(prepared, probe_models, options.seed)
    network = build_network(prepared[0].patterns.size, scale, options)
    if device.type == "cpu":
        # Makes training on the CPU 10 to 25 % faster.
        for layer in network.modules():
            if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return PtychoModule(network, scale, probe_models, options)


def _fit(
    module: PtychoModule,
    prepared: Sequence[PreparedScan],
    checkpoints: CheckpointCallback,
    trainer: TrainerOptions,
    device: torch.device,
    hooks: Hooks,
    *,
    resumed: bool,
    kept: bool,
) -> bool:
    """Train, from the checkpoint if ``resumed``; return whether training was interrupted.

    Diagnostics are written only if the run directory is ``kept``.
    """
    from diptych.ptycho.neural.training.callbacks import DiagnosticsCallback, ProgressReporter, StopTraining
    from diptych.ptycho.neural.training.lightning_module import GroupDataModule
    from diptych.ptycho.neural.training.trainer import make_trainer

    folder = checkpoints.folder if kept else None
    validated = any(len(each.validation_groups.members) for each in prepared)
    data = GroupDataModule(prepared, module.options, trainer.workers)
    with interrupts_after() as signals:
        callbacks = [
            DiagnosticsCallback(folder, trainer, hooks.figures),
            checkpoints,
            ProgressReporter(hooks.progress, signals, hooks.cancel),
        ]
        lightning_trainer = make_trainer(module.options, trainer, device, folder, callbacks, validated, len(prepared))
        try:
            lightning_trainer.fit(
                module, data, ckpt_path=checkpoints.checkpoint if resumed else None, weights_only=True
            )
        except StopTraining:
            return True
        except SystemExit as error:
            # On a second Ctrl-C Lightning raises SystemExit, which would end the process of the caller.
            if isinstance(error.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            # Lightning has a handler of SIGTERM of its own, which calls ours, and raises SystemExit after the batch or
            # the epoch if the signal came after our last look.
            if not signals:
                raise
            return True
        except Exception:
            # With several devices, Ctrl-C ends each process, and Lightning raises an error of its own.
            if not (signals and trainer.devices > 1):
                raise
            return True
    # A signal that came with the last batch ends the program that trains, though the network is complete.
    return bool(signals)


def _load_best(module: PtychoModule, checkpoints: CheckpointCallback, interrupted: bool, writes: bool) -> None:
    """Load the best weights into the module: from the file, because other processes train with several devices."""
    # Where the disk refused the last checkpoint, or another process writes it, the file holds an older state, or none.
    current = checkpoints.best and (checkpoints.unwritten or not writes)
    if not current and not _restore(checkpoints):
        # There is no checkpoint because the first epoch was interrupted; the current weights are kept.
        assert interrupted
        return
    if not checkpoints.best:
        raise InputError("train", f"training diverged: {checkpoints.stop_reason}")
    module.load_state_dict(checkpoints.best)


def _restore(checkpoints: CheckpointCallback) -> bool:
    """Restore the state from the checkpoint of the run; False if there is none."""
    import torch

    path = checkpoints.checkpoint
    if not path.exists():
        return False
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        state = saved["callbacks"][checkpoints.state_key]
        found = state["identity"]
    except Exception as error:  # torch raises errors of many classes for a damaged file.
        raise InputError(
            path,
            f"cannot be resumed ({type(error).__name__}: {' '.join(str(error).split()):.200})",
            "a checkpoint of this version of diptych",
            "Train again without resuming, in another folder.",
        ) from None
    wanted = checkpoints.identity
    changed = [
        f"{key} = {found['options'].get(key)}, now {value}"
        for key, value in wanted["options"].items()
        if found["options"].get(key) != value
    ]
    if changed:
        raise InputError(
            path,
            f"was written with {'; '.join(changed)}",
            "the same options",
            "Resume with the options of the run, or train in another folder.",
        )
    if found["scans"] != wanted["scans"]:
        raise InputError(
            path,
            "was written with other scans",
            "the same scans in the same order",
            "Resume with the scans of the run, or train in another folder.",
        )
    checkpoints.load_state_dict(state)
    return True


def _make_model(
    module: PtychoModule,
    prepared: Sequence[PreparedScan],
    checkpoints: CheckpointCallback,
    interrupted: bool,
    device: str,
) -> Model:
    import torch

    from diptych.ptycho.neural.probe_model import ProbeModel

    options, probe_model = module.options, module.cpu().probe_models[0]
    assert isinstance(probe_model, ProbeModel)
    # The memory layout of a loaded file: in another one, sums would round differently.
    module.network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    best = {name: column[checkpoints.best_epoch - 1] for name, column in checkpoints.history.items()}
    statistics: dict[str, Any] = {"scans": [each.summary() for each in prepared]}
    if checkpoints.best_epoch:
        statistics |= {name: best[name] for name in ("loss", "validation_loss")}
    finished = checkpoints.stop_reason or f"all {checkpoints.epochs} epochs done"
    provenance = {
        "versions": versions(),
        "seed": options.seed,
        "scans": checkpoints.identity["scans"],
        "epochs": checkpoints.epochs,
        "best_epoch": checkpoints.best_epoch,
        "stop_reason": "interrupted" if interrupted else finished,
        "seconds": checkpoints.history["seconds"][-1] if checkpoints.epochs else None,
        "device": device,
    }
    probe = (probe_model.modes() * probe_model.power**0.5).detach().numpy()
    size = prepared[0].patterns.size
    return Model(module.network, options, size, module.scale, plain(statistics), probe, plain(provenance))


def _draw_losses(checkpoints: CheckpointCallback, folder: Path, figures: NetworkFigures | None) -> None:
    from diptych.ptycho.neural.diagnostics import write_figure

    if figures is not None and checkpoints.epochs:
        with unless_refused("the model is kept"):
            write_figure(folder / FIGURE, figures.losses(checkpoints.history, checkpoints.best_epoch), dpi=150)
