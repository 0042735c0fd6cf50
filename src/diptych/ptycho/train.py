"""The door to training: scans in, a trained model out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diptych.ptycho.io import LoadOptions
from diptych.ptycho.neural.model import Model
from diptych.ptycho.neural.options import TrainerOptions, TrainingOptions
from diptych.ptycho.neural.protocols import CancelToken
from diptych.ptycho.neural.training.loop import Hooks, TrainingInterrupted, UnsavedModel, run_training
from diptych.ptycho.scan import Scan
from diptych.runtime.progress import ProgressCallback

__all__ = ["TrainingInterrupted", "UnsavedModel", "train"]


def train(
    scans: Scan | str | Path | Sequence[Scan | str | Path],
    options: TrainingOptions | None = None,
    run: str | Path | None = None,
    progress: ProgressCallback | None = None,
    *,
    trainer: TrainerOptions | None = None,
    load: LoadOptions | None = None,
    resume: bool = False,
    cancel: CancelToken | None = None,
    **overrides: Any,
) -> Model:
    """Train a network on one or several scans.

    Parameters
    ----------
    scans : Scan, path, or a sequence of them
        All with a probe and with patterns of one size. HDF5 files may stay on disk (``trainer.streaming``).
    options : TrainingOptions, optional
        Network, data, loss and optimisation; the defaults need no ground truth.
    run : path, optional
        Folder for the model, checkpoints, history of losses and figures; without it nothing is kept on disk.
    progress : callable, optional
        Called after each update.
    trainer : TrainerOptions, optional
        Device, precision, logger, diagnostics.
    load : LoadOptions, optional
        What the files do not declare.
    resume : bool
        Continue the run in ``run`` from its last finished epoch. Scans and options must be the same; the result is
        that of an uninterrupted run.
    cancel : CancelToken, optional
        An object whose attribute ``requested`` is read after each batch (of a single device); once it is true,
        training ends as it does on Ctrl-C.
    **overrides
        Single training options, or options of the network, by name; they take precedence over ``options``.

    Returns
    -------
    Model
        With the weights of the lowest validation loss, or the last ones if there is no validation set.

    Raises
    ------
    InputError
        If a scan or an option is wrong, ``run`` holds another run, or training diverged in its first epoch.
    UnavailableError
        If Lightning, the device, or the package of the logger is not available.
    TrainingInterrupted
        On Ctrl-C or ``cancel``, after the current batch. Its ``model`` has the best weights so far; ``resume``
        continues from the last finished epoch.

    Examples
    --------
    >>> import diptych
    >>> scan = diptych.simulate(object="lines", size=16, patterns=36, step=3.0, dose=1e6, seed=0)
    >>> model = diptych.train(scan, epochs=1, width=4, passes=1)
    >>> path = model.save("model.safetensors")
    >>> image = diptych.load_model(path).reconstruct(scan)
    """
    from diptych.ptycho.figures.network import Figures

    return run_training(
        [scans] if isinstance(scans, Scan | str | Path) else list(scans),
        (options or TrainingOptions()).with_changes(**overrides),
        trainer or TrainerOptions(),
        load,
        run=run,
        resume=resume,
        hooks=Hooks(progress, cancel, Figures()),
    )
