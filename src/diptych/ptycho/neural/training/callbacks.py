"""Lightning callbacks: checkpoints, early stopping and history; progress and interruption; diagnostics."""

from __future__ import annotations

import logging
import math
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from diptych.ptycho.neural.data.dataset import GroupBatch
from diptych.ptycho.neural.diagnostics import PatchStatistics, Phase, collapsed, parity_dump, write_figure
from diptych.ptycho.neural.options import TrainerOptions
from diptych.ptycho.neural.protocols import CancelToken, NetworkFigures
from diptych.ptycho.neural.training.lightning_module import Collapse, Prediction, PtychoModule
from diptych.ptycho.physics.forward import intensity
from diptych.ptycho.physics.groups import Layout
from diptych.ptycho.physics.likelihood import fit_sums
from diptych.ptycho.physics.patches import split
from diptych.runtime.files import replacing, unless_refused
from diptych.runtime.progress import Progress, ProgressCallback
from diptych.runtime.run_directory import RunDirectory

log = logging.getLogger("diptych")

SILENCED_LOGGERS = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
"""Loggers of Lightning whose messages do not concern the training itself."""


EXPLAINED = 2.0
"""A batch with a fit below this is explained by the network, whatever its patches look like."""


class StopTraining(Exception):
    """Training was interrupted and the current batch is done. (Lightning ends the process on a KeyboardInterrupt.)"""


class CheckpointCallback(Callback):
    """History, best weights, early stopping, and a checkpoint of all three at the end of each epoch.

    Parameters
    ----------
    folder : Path
        The checkpoint is ``checkpoints/last.ckpt`` in it, the history ``metrics.csv``.
    identity : dict
        JSON values that must be the same for the checkpoint to be resumed.
    patience : int, optional
        Epochs without improvement before stopping.
    """

    def __init__(self, folder: Path, identity: dict[str, Any], patience: int | None) -> None:
        self.folder, self.identity, self.patience = folder, identity, patience
        self.history: dict[str, list[float]] = {}
        self.best: dict[str, torch.Tensor] = {}
        self.best_epoch = 0
        self.unwritten = False
        self.collapse = Collapse()
        self._seconds_before = 0.0
        self._began = time.perf_counter()

    @property
    def checkpoint(self) -> Path:
        """Path of the checkpoint."""
        return self.folder / "checkpoints" / "last.ckpt"

    @property
    def epochs(self) -> int:
        """Finished epochs."""
        return len(self.history.get("epoch", []))

    @property
    def stop_reason(self) -> str:
        """Why training stops before the last epoch (divergence, collapse or patience), or an empty string."""
        if self.epochs and not math.isfinite(self.history["loss"][-1]):
            loss = self.history["loss"][-1]
            return f"the loss is {loss} in epoch {self.epochs}: a lower learning_rate or clip may help"
        if self.collapse.stop:
            return f"collapsed in {self.collapse.epochs} epochs in a row. {self.collapse.problem}"
        if self.patience is not None and self.epochs - self.best_epoch >= self.patience:
            return f"no lower validation loss since epoch {self.best_epoch}"
        return ""

    @property
    def monitored(self) -> list[float]:
        """Validation loss of each epoch, or the training loss where there is no validation."""
        validation, training = self.history.get("validation_loss", []), self.history.get("loss", [])
        return [b if math.isnan(a) else a for a, b in zip(validation, training, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        """State for the checkpoint: tensors and plain Python objects only."""
        return {
            "identity": self.identity,
            "history": self.history,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "collapse": asdict(self.collapse),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of an earlier run."""
        self.history, self.best, self.best_epoch = state_dict["history"], state_dict["best"], state_dict["best_epoch"]
        # Checkpoints of earlier versions lack it.
        self.collapse = Collapse(**state_dict.get("collapse", {}))
        self._seconds_before = self.history["seconds"][-1]

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock, and pass the losses of a resumed run to the module."""
        self._began = time.perf_counter()
        assert isinstance(pl_module, PtychoModule)
        pl_module.losses = self.monitored
        pl_module.collapse = self.collapse

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Add a row to the history, keep the weights if they are the best so far, and write the checkpoint."""
        assert isinstance(pl_module, PtychoModule)
        metrics = trainer.callback_metrics
        row = {
            "epoch": float(self.epochs + 1),
            "seconds": self._seconds_before + time.perf_counter() - self._began,
            "loss": float(metrics["loss"]),
            "validation_loss": float(metrics.get("validation_loss", math.nan)),
            "learning_rate": float(trainer.optimizers[0].param_groups[0]["lr"]),
            "grad_norm": float(metrics["grad_norm"]),
        }
        for name, value in row.items():
            self.history.setdefault(name, []).append(value)
        pl_module.losses = losses = self.monitored
        # Without validation the latest epoch is kept: the training loss does not tell which epoch generalises best.
        better = math.isnan(row["validation_loss"]) or losses[-1] < min(losses[:-1], default=math.inf)
        if better and math.isfinite(row["loss"]):
            self.best = {name: value.detach().cpu().clone() for name, value in pl_module.state_dict().items()}
            self.best_epoch = self.epochs
        self.collapse = pl_module.collapse
        self._write(trainer)
        values = " ".join(f"{name}={value:.6g}" for name, value in row.items() if name != "epoch")
        log.info("epoch %d/%s: %s", self.epochs, trainer.max_epochs, values)
        if self.stop_reason:
            log.log(logging.WARNING if self.collapse.stop else logging.INFO, "stop: %s", self.stop_reason)
        # Only the first process looks for a collapse, and all must stop.
        if trainer.strategy.reduce_boolean_decision(bool(self.stop_reason), all=False):
            trainer.should_stop = True

    def _write(self, trainer: lightning.Trainer) -> None:
        path = self.checkpoint
        if trainer.is_global_zero:
            self.unwritten = True
            with unless_refused(f"training goes on without a checkpoint of epoch {self.epochs}"):
                path.parent.mkdir(exist_ok=True)
                with replacing(path) as temporary:
                    trainer.save_checkpoint(temporary, weights_only=False)
                self.unwritten = False
            with unless_refused("training goes on"):
                RunDirectory(self.folder).write_history(self.history)
        else:
            # All processes must take part; only the first one writes.
            trainer.save_checkpoint(path, weights_only=False)


class ProgressReporter(Callback):
    """Reports progress, and ends training after a batch once a signal or the cancel token asks for it.

    Parameters
    ----------
    progress : callable, optional
        Called after each update, in this process only.
    signals : list
        Not empty once a signal to stop has been received.
    cancel : CancelToken, optional
        Read after each batch, in this process only.
    """

    def __init__(
        self, progress: ProgressCallback | None, signals: list[int], cancel: CancelToken | None = None
    ) -> None:
        self.progress, self.signals, self.cancel = progress, signals, cancel
        self._reported = 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "progress": None, "signals": [], "cancel": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Called in a new process, in which Lightning's loggers and warnings are not silenced yet.
        self.__dict__.update(state)
        for name in SILENCED_LOGGERS:
            logging.getLogger(name).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module=r"lightning\.")

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Do not report the updates of an earlier run again."""
        self._reported = trainer.global_step

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Report an update, and stop if asked to."""
        if self.progress is not None and trainer.global_step != self._reported:
            self._reported = trainer.global_step
            known = trainer.callback_metrics
            values: dict[str, float] = {
                name: float(known[name]) for name in ("loss", "validation_loss") if name in known
            }
            if isinstance(pl_module, PtychoModule) and pl_module.latest is not None:
                values["loss"] = float(pl_module.latest.result.loss)
            try:
                self.progress(Progress("train", trainer.global_step, int(trainer.estimated_stepping_batches), values))
            except KeyboardInterrupt:
                self.signals.append(0)
        self._stop_if_asked()

    def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Stop if asked to."""
        self._stop_if_asked()

    def _stop_if_asked(self) -> None:
        if self.signals or (self.cancel is not None and self.cancel.requested):
            raise StopTraining


class DiagnosticsCallback(Callback):
    """Figures, patch statistics, a parity dump, and a watch for a collapsed network.

    Parameters
    ----------
    folder : Path, optional
        Where to write; without it nothing is written.
    options : TrainerOptions
        What to write.
    figures : NetworkFigures, optional
        Draws the figures; without it there are none.
    """

    def __init__(self, folder: Path | None, options: TrainerOptions, figures: NetworkFigures | None = None) -> None:
        self.folder, self.options, self.figures = folder, options, figures
        self._statistics = (
            PatchStatistics(options.patch_stats_limit) if folder is not None and options.log_patch_stats else None
        )
        self._shown: Prediction | None = None
        self._warned = False

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the patches."""
        self._record("train", trainer, pl_module, batch_idx)

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Record the patches, and keep the first batch for the figure."""
        self._record("validation", trainer, pl_module, batch_idx)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Note whether the network has collapsed, warn of it once, and draw a group."""
        shown = self._shown
        if shown is None or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, PtychoModule)
        if trainer.global_step > pl_module.options.warmup:
            problem = None if _explained(shown) else collapsed(shown.result.patches, shown.batch.counts)
            pl_module.collapse = pl_module.collapse.after(problem or "", self.options.collapse_epochs)
            if problem and not self._warned:
                log.warning("epoch %d: %s", trainer.current_epoch + 1, problem)
                self._warned = True
        if self.folder is not None and self.options.pictures:
            picture = self.folder / "pictures" / f"epoch-{trainer.current_epoch + 1:04d}.png"
            self._draw_group(picture, pl_module, shown)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write the statistics and the parity dump."""
        if self.folder is None or not trainer.is_global_zero:
            return
        if self._statistics is not None:
            with unless_refused("training goes on"):
                self._statistics.write(self.folder)
        if self.options.parity_dump and self._shown is not None:
            assert isinstance(pl_module, PtychoModule)
            self._dump_group(self.folder / "analysis" / "parity", pl_module, self._shown)

    def _record(
        self, phase: Phase, trainer: lightning.Trainer, module: lightning.LightningModule, batch_idx: int
    ) -> None:
        assert isinstance(module, PtychoModule)
        if module.latest is None or not trainer.is_global_zero:
            return
        if self._statistics is not None:
            self._statistics.add(phase, trainer.current_epoch + 1, batch_idx, module.latest.result.patches)
        if phase == "train" or batch_idx == 0:
            self._shown = module.latest

    def _draw_group(self, path: Path, module: PtychoModule, shown: Prediction) -> None:
        result, batch = shown.result, shown.batch
        if self.figures is None or result.predicted is None:
            return
        valid = None if batch.valid is None else batch.valid[0]
        shown_parts = (batch.counts[0], result.predicted[0], result.patches[0], result.merged[0])
        figure = self.figures.group(*shown_parts, valid, _light_of(module, batch)[0])
        # A lower resolution than other figures: there is one per epoch, and drawing takes as long as several batches.
        with unless_refused("training goes on"):
            write_figure(path, figure, dpi=100)

    def _dump_group(self, folder: Path, module: PtychoModule, shown: Prediction) -> None:
        """Write the first group of a batch: its patches and their average on the canvas of the group."""
        batch, patches = shown.batch, shown.result.patches[:1]
        probe_model: Any = module.probe_models[batch.scan]
        light = _light_of(module, batch)
        with torch.no_grad():
            weights = light if module.options.placement == "probe" else torch.ones_like(light)
            canvas = Layout.of(batch.positions[:1], probe_model.size).merge(patches, weights.expand(patches.shape))
        low = split(batch.positions[0])[0].min(0) - probe_model.size // 2
        origin = (int(low[0]), int(low[1]))
        parity_dump(folder, patches[0], np.asarray(batch.positions[0]), canvas, origin, self.figures)


def _light_of(module: PtychoModule, batch: GroupBatch) -> torch.Tensor:
    """Illumination of the members of the first group of a batch, broadcast against (1, C, N, N)."""
    probe_model: Any = module.probe_models[batch.scan]
    with torch.no_grad():
        return intensity(probe_model.expose(batch.counts[:1], batch.positions[:1]).modes)


def _explained(shown: Prediction) -> bool:
    """Whether the predicted counts are near those measured: then flat patches show a flat object, not a collapse."""
    if shown.result.predicted is None:
        return False
    found, expected = fit_sums(shown.batch.counts, shown.result.predicted, shown.batch.valid)
    return found < EXPLAINED * expected
