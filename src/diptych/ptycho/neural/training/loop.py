"""The door to training: scans in, a Model out."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.errors import InputError, UnavailableError
from diptych.ptycho.io import LoadOptions
from diptych.ptycho.neural.model import Model
from diptych.ptycho.neural.options import TrainerOptions, TrainingOptions
from diptych.ptycho.scan import Scan
from diptych.runtime.device import choose_device
from diptych.runtime.interrupts import interrupts_after
from diptych.runtime.progress import ProgressCallback
from diptych.runtime.provenance import versions
from diptych.runtime.run_directory import RunDirectory, plain

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

    from diptych.ptycho.neural.data.preparation import Lesson
    from diptych.ptycho.neural.training.callbacks import Keeper
    from diptych.ptycho.neural.training.lightning_module import PtychoModule

log = logging.getLogger("diptych")

MODEL = "model.safetensors"
INDICES = "subsample_indices.json"
FIGURE = "training.png"


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during training; ``model`` is the best network so far."""

    def __init__(self, model: Model) -> None:
        super().__init__("interrupted")
        self.model = model


def train(
    scans: Scan | str | Path | Sequence[Scan | str | Path],
    options: TrainingOptions | None = None,
    run: str | Path | None = None,
    progress: ProgressCallback | None = None,
    *,
    trainer: TrainerOptions | None = None,
    load: LoadOptions | None = None,
    resume: bool = False,
    **overrides: Any,
) -> Model:
    """Train a network on one or several scans.

    Parameters
    ----------
    scans : Scan, path, or a sequence of them
        All with a probe and with patterns of one size. Files in HDF5 may stay on disk (``trainer.streaming``).
    options : TrainingOptions, optional
        What to learn and how; the defaults need no truth.
    run : path, optional
        Folder for the model, checkpoints, the history of losses and pictures; without it nothing is left behind.
    progress : callable, optional
        Told after each update.
    trainer : TrainerOptions, optional
        Device, precision, logger, diagnostics.
    load : LoadOptions, optional
        What the files do not state themselves.
    resume : bool
        Go on from the last finished epoch in ``run``, as though nothing had happened; scans and options must be the
        same.
    **overrides
        Single training options by name, over those in ``options``.

    Returns
    -------
    Model
        With the weights of the lowest validation loss, or the last ones where nothing was kept for validation.

    Raises
    ------
    InputError
        If a scan or an option is wrong, ``run`` holds another run, or training diverged in its first epoch.
    UnavailableError
        If Lightning, the device, or the package of the logger is not here.
    Interrupted
        On Ctrl-C, after the batch it came in; its ``model`` is the best so far. ``resume`` starts from the last
        finished epoch.

    Examples
    --------
    >>> import diptych
    >>> scan = diptych.simulate(object="lines", size=16, patterns=36, step=3.0, dose=1e6, seed=0)
    >>> model = diptych.train(scan, epochs=1, width=4, passes=1)
    >>> path = model.save("model.safetensors")
    >>> image = diptych.load_model(path).reconstruct(scan)
    """
    if find_spec("lightning") is None:
        raise UnavailableError(
            "training needs the package lightning, which is not installed: pip install 'diptych[train]'."
        )
    options = (options or TrainingOptions()).with_changes(**overrides)
    trainer = trainer or TrainerOptions()
    sources = [scans] if isinstance(scans, Scan | str | Path) else list(scans)
    from diptych.ptycho.neural.data.preparation import prepare
    from diptych.ptycho.neural.training.callbacks import Keeper
    from diptych.ptycho.neural.training.trainer import check_trainer, settings_kept

    device, why = choose_device(trainer.device)
    check_trainer(trainer, device)
    log.info("device %s (%s)", device, why)
    lessons = prepare(sources, options, trainer, load)
    with ExitStack() as stack:
        folder = (
            Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="diptych-")))
            if run is None
            else _open(run, resume)
        )
        stack.enter_context(settings_kept(device, trainer, options.seed))
        identity = plain({"options": options.model_dump(mode="json"), "scans": [each.identity() for each in lessons]})
        keeper = Keeper(folder, identity, options.patience)
        begun = resume and _recall(keeper)
        RunDirectory(folder).write_json(INDICES, {"scans": [each.indices() for each in lessons]})
        module = _module(lessons, options, device)
        over = begun and (keeper.epochs >= options.epochs or bool(keeper.reason))
        interrupted = not over and _fit(
            module, lessons, keeper, trainer, device, progress, begun=begun, kept=run is not None
        )
        _take_best(module, keeper, interrupted)
        model = _model(module, lessons, keeper, interrupted, f"{device} ({why})")
        if run is not None:
            model.save(folder / MODEL)
            _draw(keeper, folder)
    if interrupted:
        raise Interrupted(model)
    return model


def _open(run: str | Path, resume: bool) -> Path:
    """The folder of a run, made if need be."""
    folder = Path(run)
    if not resume and any((folder / name).exists() for name in (MODEL, "checkpoints")):
        raise InputError(
            f"{folder}: holds an earlier training; name another folder, or go on with it by resume=True (--resume)."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be used as a run directory ({error.strerror}); name another folder."
        ) from None
    return folder


def _module(lessons: Sequence[Lesson], options: TrainingOptions, device: torch.device) -> PtychoModule:
    import torch

    from diptych.ptycho.networks.registry import build_network
    from diptych.ptycho.neural.data.preparation import input_scale
    from diptych.ptycho.neural.probe_model import Beam
    from diptych.ptycho.neural.training.lightning_module import PtychoModule

    beams = [Beam.of(each.patterns, refine=options.probe == "refine") for each in lessons]
    scale = input_scale(lessons, beams, options.seed)
    network = build_network(lessons[0].patterns.size, scale, options)
    if device.type == "cpu":
        # A tenth to a quarter faster in training.
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return PtychoModule(network, scale, beams, options)


def _fit(
    module: PtychoModule,
    lessons: Sequence[Lesson],
    keeper: Keeper,
    trainer: TrainerOptions,
    device: torch.device,
    progress: ProgressCallback | None,
    *,
    begun: bool,
    kept: bool,
) -> bool:
    """Train, from the checkpoint on when ``begun``; say whether a Ctrl-C ended it. Diagnostics are written when the run
    is ``kept``.
    """
    from diptych.ptycho.neural.training.callbacks import Observer, Reporter, Stopped
    from diptych.ptycho.neural.training.lightning_module import Lessons
    from diptych.ptycho.neural.training.trainer import make_trainer

    folder = keeper.folder if kept else None
    validated = any(len(each.trials.members) for each in lessons)
    data = Lessons(lessons, module.options, trainer.workers)
    with interrupts_after() as asked:
        callbacks = [Observer(folder, trainer), keeper, Reporter(progress, asked)]
        machine = make_trainer(module.options, trainer, device, folder, callbacks, validated, len(lessons))
        try:
            machine.fit(module, data, ckpt_path=keeper.checkpoint if begun else None, weights_only=True)
        except Stopped:
            return True
        except SystemExit as error:
            # A second Ctrl-C: Lightning would end the process of whoever called.
            if isinstance(error.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise
        except Exception:
            # Processes that Ctrl-C has ended, each by itself.
            if not (asked and trainer.devices > 1):
                raise
            return True
    return False


def _take_best(module: PtychoModule, keeper: Keeper, interrupted: bool) -> None:
    """Give the module its best weights. From the file, because with several devices the training took place in other
    processes.
    """
    if not _recall(keeper):
        # Without one the first epoch was not finished, and the weights are as good as any.
        assert interrupted
        return
    if not keeper.best:
        raise InputError(f"training diverged: {keeper.reason}.")
    module.load_state_dict(keeper.best)


def _recall(keeper: Keeper) -> bool:
    """Take over the state in a run's checkpoint; False when there is none."""
    import torch

    path = keeper.checkpoint
    if not path.exists():
        return False
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        state = saved["callbacks"][keeper.state_key]
        found = state["identity"]
    except Exception as error:  # What torch raises for a damaged file has no class in common.
        raise InputError(
            f"{path}: is not a checkpoint that can be resumed ({type(error).__name__}: "
            f"{' '.join(str(error).split()):.200}); "
            "start again without resuming, in another folder."
        ) from None
    wanted = keeper.identity
    changed = [
        f"{key} = {found['options'].get(key)}, now {value}"
        for key, value in wanted["options"].items()
        if found["options"].get(key) != value
    ]
    if changed:
        raise InputError(
            f"{path}: was written with {'; '.join(changed)}; resume with the same options, or train anew in another "
            f"folder."
        )
    if found["scans"] != wanted["scans"]:
        raise InputError(
            f"{path}: was written with other scans; resume with the same ones in the same order, or train in another "
            f"folder."
        )
    keeper.load_state_dict(state)
    return True


def _model(module: PtychoModule, lessons: Sequence[Lesson], keeper: Keeper, interrupted: bool, device: str) -> Model:
    import torch

    from diptych.ptycho.neural.probe_model import Beam

    options, beam = module.options, module.cpu().beams[0]
    assert isinstance(beam, Beam)
    # As it comes out of a file: another order in memory would round otherwise.
    module.network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    best = {name: column[keeper.best_epoch - 1] for name, column in keeper.history.items()} if keeper.best_epoch else {}
    statistics: dict[str, Any] = {
        "scans": [
            {
                "scan": each.patterns.name,
                "patterns": len(each.patterns),
                "train": len(each.train),
                "validation": len(each.validation),
                "groups": len(each.groups.members),
                "validation_groups": len(each.trials.members),
            }
            for each in lessons
        ],
        **{name: best[name] for name in ("loss", "validation_loss") if name in best},
    }
    ended = "interrupted" if interrupted else keeper.reason or f"all {keeper.epochs} epochs done"
    provenance = {
        "versions": versions(),
        "seed": options.seed,
        "scans": keeper.identity["scans"],
        "epochs": keeper.epochs,
        "best_epoch": keeper.best_epoch,
        "stop_reason": ended,
        "seconds": keeper.history["seconds"][-1] if keeper.epochs else None,
        "device": device,
    }
    probe = (beam.modes() * beam.power**0.5).detach().numpy()
    return Model(
        module.network, options, lessons[0].patterns.size, module.scale, plain(statistics), probe, plain(provenance)
    )


def _draw(keeper: Keeper, folder: Path) -> None:
    """The losses, where there are any."""
    if keeper.epochs:
        from diptych.ptycho.figures.panels import save_figure

        save_figure(loss_figure(keeper.history, keeper.best_epoch), folder / FIGURE)


def loss_figure(history: dict[str, list[float]], best_epoch: int) -> Figure:
    """Training and validation loss by epoch, with the epoch whose weights are kept, above the learning rate."""
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 5), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for name, label in (("loss", "training"), ("validation_loss", "validation")):
        if np.isfinite(history[name]).any():
            top.plot(history["epoch"], history[name], marker=".", label=label)
    top.axvline(best_epoch, color="gray", linewidth=1, linestyle="--", label=f"kept: epoch {best_epoch}")
    top.set(ylabel="loss", yscale="log", title="Training")
    top.legend()
    bottom.plot(history["epoch"], history["learning_rate"], color="black")
    bottom.set(xlabel="epoch", ylabel="learning rate", yscale="log")
    bottom.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure
