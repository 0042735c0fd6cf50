"""What happens beside the training: the record that a run resumes from, progress and Ctrl-C, and pictures of what the
network does.
"""

from __future__ import annotations

import logging
import math
import time
import warnings
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from diptych.ptycho.neural.diagnostics import PatchStatistics, collapsed, parity_dump
from diptych.ptycho.neural.options import TrainerOptions
from diptych.ptycho.neural.training.lightning_module import PtychoModule, Seen
from diptych.ptycho.physics.forward import intensity
from diptych.ptycho.physics.groups import Layout
from diptych.ptycho.physics.patches import split
from diptych.runtime.files import replacing
from diptych.runtime.progress import Progress, ProgressCallback
from diptych.runtime.run_directory import RunDirectory

log = logging.getLogger("diptych")

QUIET = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
"""Loggers that tell a person nothing about the training."""


class Stopped(Exception):
    """Ctrl-C came, and the batch it came in is done. (Lightning ends the whole process on a KeyboardInterrupt.)"""


class Keeper(Callback):
    """History, best weights, and a checkpoint with both at the end of every epoch; also says when to stop.

    Parameters
    ----------
    folder : Path
        The checkpoint is ``checkpoints/last.ckpt`` in it, and the history ``metrics.csv``.
    identity : dict
        What must agree for the checkpoint to be resumed (JSON values).
    patience : int, optional
        Stop after this many epochs without a better one.
    """

    def __init__(self, folder: Path, identity: dict[str, Any], patience: int | None) -> None:
        self.folder, self.identity, self.patience = folder, identity, patience
        self.history: dict[str, list[float]] = {}
        self.best: dict[str, torch.Tensor] = {}
        self.best_epoch = 0
        self._before = 0.0
        self._began = time.perf_counter()

    @property
    def checkpoint(self) -> Path:
        """Where the checkpoint lies."""
        return self.folder / "checkpoints" / "last.ckpt"

    @property
    def epochs(self) -> int:
        """Epochs done."""
        return len(self.history.get("epoch", []))

    @property
    def reason(self) -> str:
        """Why there is nothing to be gained from another epoch, or an empty string."""
        if self.epochs and not math.isfinite(self.history["loss"][-1]):
            return (
                f"the loss is {self.history['loss'][-1]} in epoch {self.epochs}: a lower learning_rate or clip may help"
            )
        if self.patience is not None and self.epochs - self.best_epoch >= self.patience:
            return f"no lower validation loss since epoch {self.best_epoch}"
        return ""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain Python alone."""
        return {"identity": self.identity, "history": self.history, "best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from an earlier run."""
        self.history, self.best, self.best_epoch = state_dict["history"], state_dict["best"], state_dict["best_epoch"]
        self._before = self.history["seconds"][-1]

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock, and remind the module of the losses so far."""
        self._began = time.perf_counter()
        assert isinstance(pl_module, PtychoModule)
        pl_module.losses = list(self._judged())

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Add a row to the history, keep the weights if they are the best, and write all of it down."""
        assert isinstance(pl_module, PtychoModule)
        metrics = trainer.callback_metrics
        row = {
            "epoch": float(self.epochs + 1),
            "seconds": self._before + time.perf_counter() - self._began,
            "loss": float(metrics["loss"]),
            "validation_loss": float(metrics.get("validation_loss", math.nan)),
            "learning_rate": float(trainer.optimizers[0].param_groups[0]["lr"]),
            "grad_norm": float(metrics["grad_norm"]),
        }
        for name, value in row.items():
            self.history.setdefault(name, []).append(value)
        pl_module.losses = losses = self._judged()
        # Without validation there is nothing to choose by: a low training loss is no reason to prefer an earlier epoch.
        better = math.isnan(row["validation_loss"]) or losses[-1] < min(losses[:-1], default=math.inf)
        if better and math.isfinite(row["loss"]):
            self.best = {name: value.detach().cpu().clone() for name, value in pl_module.state_dict().items()}
            self.best_epoch = self.epochs
        self._write(trainer)
        log.info(
            "epoch %d/%s: %s",
            self.epochs,
            trainer.max_epochs,
            " ".join(f"{k}={v:.6g}" for k, v in row.items() if k != "epoch"),
        )
        if self.reason:
            log.info("stop: %s", self.reason)
            trainer.should_stop = True

    def _judged(self) -> list[float]:
        """By epoch, the validation loss, or else the loss."""
        validation = self.history.get("validation_loss", [])
        return [
            other if math.isnan(value) else value
            for value, other in zip(validation, self.history.get("loss", []), strict=True)
        ]

    def _write(self, trainer: lightning.Trainer) -> None:
        path = self.checkpoint
        if trainer.is_global_zero:
            path.parent.mkdir(exist_ok=True)
            with replacing(path) as temporary:
                trainer.save_checkpoint(temporary, weights_only=False)
            RunDirectory(self.folder).write_history(self.history)
        else:
            # All processes must take part; only the first one writes.
            trainer.save_checkpoint(path, weights_only=False)


class Reporter(Callback):
    """Tells a callback how far training has come, and ends it between two batches once a Ctrl-C has been noted.

    Parameters
    ----------
    progress : callable, optional
        Told after each update. It stays in the process that made it.
    asked : list
        Not empty once somebody wants the training to end.
    """

    def __init__(self, progress: ProgressCallback | None, asked: list[int]) -> None:
        self.progress, self.asked = progress, asked
        self._told = 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "progress": None, "asked": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # This is a new process, where nobody has quietened Lightning yet.
        self.__dict__.update(state)
        for name in QUIET:
            logging.getLogger(name).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module=r"lightning\.")

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """A resumed run has updates behind it."""
        self._told = trainer.global_step

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Report, if there was an update."""
        if self.progress is not None and trainer.global_step != self._told:
            self._told = trainer.global_step
            known = trainer.callback_metrics
            values: dict[str, float] = {
                name: float(known[name]) for name in ("loss", "validation_loss") if name in known
            }
            if isinstance(pl_module, PtychoModule) and pl_module.seen is not None:
                values["loss"] = float(pl_module.seen.judged.loss)
            try:
                self.progress(Progress("train", trainer.global_step, int(trainer.estimated_stepping_batches), values))
            except KeyboardInterrupt:
                self.asked.append(0)
        self._leave()

    def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """End here too."""
        self._leave()

    def _leave(self) -> None:
        if self.asked:
            raise Stopped


class Observer(Callback):
    """Pictures, statistics, a parity dump, and a warning when the network gives the same patch for everything.

    Parameters
    ----------
    folder : Path, optional
        Where to write; None writes nothing.
    trainer : TrainerOptions
        What to write.
    """

    def __init__(self, folder: Path | None, trainer: TrainerOptions) -> None:
        self.folder, self.options = folder, trainer
        self._statistics = (
            PatchStatistics(trainer.patch_stats_limit) if folder is not None and trainer.log_patch_stats else None
        )
        self._shown: Seen | None = None
        self._warned = False

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the patches."""
        self._look("train", trainer, pl_module, batch_idx)

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Look at the patches, and keep the first batch for the picture."""
        self._look("validation", trainer, pl_module, batch_idx)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Warn of a collapse, and draw a group."""
        seen = self._shown
        if seen is None or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, PtychoModule)
        if (
            not self._warned
            and trainer.global_step > pl_module.options.warmup
            and (said := collapsed(seen.judged.patches, seen.batch.counts))
        ):
            log.warning("epoch %d: %s", trainer.current_epoch + 1, said)
            self._warned = True
        if self.folder is not None and self.options.pictures and seen.judged.foreseen is not None:
            from diptych.ptycho.figures.network import group_picture
            from diptych.ptycho.figures.panels import save_figure

            judged, batch = seen.judged, seen.batch
            assert judged.foreseen is not None
            path = self.folder / "pictures" / f"epoch-{trainer.current_epoch + 1:04d}.png"
            path.parent.mkdir(exist_ok=True)
            valid = None if batch.valid is None else batch.valid[0]
            # Coarser than other figures: there is one per epoch, and drawing takes as long as several batches.
            save_figure(
                group_picture(batch.counts[0], judged.foreseen[0], judged.patches[0], judged.agreed[0], valid),
                path,
                dpi=100,
            )

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write the statistics and the parity dump."""
        if self.folder is None or not trainer.is_global_zero:
            return
        if self._statistics is not None:
            self._statistics.write(self.folder)
        if self.options.parity_dump and self._shown is not None:
            assert isinstance(pl_module, PtychoModule)
            _dump(self.folder / "analysis" / "parity", pl_module, self._shown)

    def _look(self, phase: Any, trainer: lightning.Trainer, module: lightning.LightningModule, batch_idx: int) -> None:
        assert isinstance(module, PtychoModule)
        if module.seen is None or not trainer.is_global_zero:
            return
        if self._statistics is not None:
            self._statistics.add(phase, trainer.current_epoch + 1, batch_idx, module.seen.judged.patches)
        if phase == "train" or batch_idx == 0:
            self._shown = module.seen


def _dump(folder: Path, module: PtychoModule, seen: Seen) -> None:
    """Write the first group of a batch: its patches and the canvas they are merged to."""
    batch, patches = seen.batch, seen.judged.patches[:1]
    beam: Any = module.beams[batch.scan]
    with torch.no_grad():
        light = intensity(beam.expose(batch.counts[:1], batch.positions[:1]).modes)
        weights = light if module.options.placement == "probe" else torch.ones_like(light)
        canvas = Layout.of(batch.positions[:1], beam.size).merge(patches, weights.expand(patches.shape))
    low = split(batch.positions[0])[0].min(0) - beam.size // 2
    parity_dump(folder, patches[0], np.asarray(batch.positions[0]), canvas, (int(low[0]), int(low[1])))
