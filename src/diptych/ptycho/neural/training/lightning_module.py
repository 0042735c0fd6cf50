"""The Lightning module (generator, probe models, loss, optimiser) and data module (batches of groups) of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from diptych.ptycho.neural.data.dataset import GroupBatch, GroupDataset, GroupSampler, make_loader
from diptych.ptycho.neural.data.preparation import PreparedScan
from diptych.ptycho.neural.options import TrainingOptions
from diptych.ptycho.neural.probe_model import ProbeModel
from diptych.ptycho.neural.training.clipping import clip_gradients
from diptych.ptycho.neural.training.loss import ALONE, BatchResult, Processes, batch_loss
from diptych.ptycho.neural.training.schedules import factor

WEIGHT_DECAY = 1e-4


@dataclass(frozen=True, eq=False)
class Prediction:
    """A batch and the network's result on it, without gradients."""

    batch: GroupBatch
    result: BatchResult


@dataclass(frozen=True)
class Collapse:
    """How long the network has been collapsed.

    Parameters
    ----------
    epochs : int
        Latest epochs in a row in which it was.
    problem : str
        What was found in the latest of them.
    stop : bool
        Whether these are enough to stop.
    """

    epochs: int = 0
    problem: str = ""
    stop: bool = False

    def after(self, problem: str, limit: int) -> Collapse:
        """After another epoch with that ``problem``, or none; training stops after ``limit`` of them, 0 for never."""
        epochs = self.epochs + 1 if problem else 0
        return Collapse(epochs, problem, bool(limit and epochs >= limit))


class PtychoModule(lightning.LightningModule):
    """A generator in training.

    Parameters
    ----------
    network : nn.Module
        From an :class:`~diptych.ptycho.networks.exposure.Exposure` to patches (B, C, N, N).
    scale : float
        c of the network input c sqrt(k / sum |P|^2).
    probe_models : sequence of ProbeModel
        One per scan, indexed by the batches' ``scan``.
    options : TrainingOptions
        Loss, optimiser, schedule and clipping.
    """

    def __init__(
        self, network: nn.Module, scale: float, probe_models: Sequence[ProbeModel], options: TrainingOptions
    ) -> None:
        super().__init__()
        self.network, self.scale = network, scale
        self.probe_models = nn.ModuleList(probe_models)
        self.options = options
        self.losses: list[float] = []
        """Monitored loss of each epoch so far (validation, or training without validation), for the schedule
        ``plateau``. The checkpoint callback keeps it up to date."""
        self.collapse = Collapse()
        """Kept up to date by the diagnostics."""
        self.latest: Prediction | None = None
        """The latest batch and its result."""

    def evaluate_batch(self, batch: GroupBatch) -> BatchResult:
        """Predictions and loss of a batch. The network runs in the trainer's precision, the physics in 32 bits."""
        probe_model = self.probe_models[batch.scan]
        assert isinstance(probe_model, ProbeModel)
        with torch.autocast(self.device.type, enabled=False):
            exposure = probe_model.expose(batch.counts, batch.positions, batch.valid)
        patches = self.network(exposure)
        with torch.autocast(self.device.type, enabled=False):
            target = batch.counts if batch.target is None else batch.target
            return batch_loss(self.options, probe_model, exposure, target, patches, batch.labels, self._processes())

    def training_step(self, batch: GroupBatch, batch_idx: int) -> Tensor:
        """The loss of a batch."""
        result = self._evaluate_and_keep(batch)
        self._log_mean("loss", result.loss.detach(), self._groups(batch))
        return result.loss

    def validation_step(self, batch: GroupBatch, batch_idx: int) -> None:
        """Log the loss of a validation batch."""
        self._log_mean("validation_loss", self._evaluate_and_keep(batch).loss, self._groups(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW. A refined probe has a learning rate 1/N times that of the network, and no weight decay."""
        groups: list[dict[str, Any]] = [
            {"params": list(self.network.parameters()), "weight_decay": WEIGHT_DECAY, "peak": 1.0}
        ]
        if probes := list(self.probe_models.parameters()):
            groups.append({"params": probes, "weight_decay": 0.0, "peak": 1 / probes[0].shape[-2]})
        return torch.optim.AdamW(groups, lr=self.options.learning_rate)

    def on_train_epoch_start(self) -> None:
        """Seed the random numbers of the epoch, so that a resumed run draws the same ones."""
        torch.manual_seed((self.options.seed * 100_003 + self.current_epoch) * 1_009 + self.global_rank)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Set the learning rate.

        Lightning's schedulers step after the checkpoint of an epoch is written, so that a resumed run would miss a
        plateau; this one depends only on the number of the update and on the losses so far.
        """
        total = int(self.trainer.estimated_stepping_batches)
        options = self.options
        now = factor(
            options.schedule,
            self.trainer.global_step,
            total=total,
            per_epoch=max(1, total // options.epochs),
            warmup=options.warmup,
            losses=self.losses,
        )
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * group["peak"] * now

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients as the options say, and log their norm before clipping."""
        norm = clip_gradients(self.parameters(), self.options.clip, self.options.clip_mode)
        self._log_mean("grad_norm", norm, 1)

    def _processes(self) -> Processes:
        """Those that share each batch; this one alone outside a distributed training."""
        if not torch.distributed.is_available() or not torch.distributed.is_initialized():
            return ALONE
        return Processes(torch.distributed.get_world_size(), _total)

    def _groups(self, batch: GroupBatch) -> int:
        """Groups of the whole batch, over all processes."""
        processes = self._processes()
        total = int(processes.total(torch.tensor(float(len(batch.counts)), device=self.device)))
        if processes.count == 1 or total > processes.count:
            return total
        # Each process has one group; where there were fewer, some have the same.
        own = torch.from_numpy(batch.members).to(self.device)
        gathered = [torch.empty_like(own) for _ in range(processes.count)]
        torch.distributed.all_gather(gathered, own)
        return len(torch.unique(torch.cat(gathered), dim=0))

    def _evaluate_and_keep(self, batch: GroupBatch) -> BatchResult:
        result = self.evaluate_batch(batch)
        predicted = None if result.predicted is None else result.predicted.detach()
        kept = BatchResult(result.loss.detach(), result.patches.detach(), result.merged.detach(), predicted)
        self.latest = Prediction(batch, kept)
        return result

    def _log_mean(self, name: str, value: Tensor, weight: int) -> None:
        """Log the mean over an epoch and over all processes."""
        self.log(name, value, on_step=False, on_epoch=True, batch_size=weight, sync_dist=self.trainer.world_size > 1)


def _total(values: Tensor) -> Tensor:
    """Sum over all processes; the values are constants of the loss, without gradient."""
    total = values.detach().clone()
    torch.distributed.all_reduce(total)
    return total


class GroupDataModule(lightning.LightningDataModule):
    """The batches of training and validation; each process gets its own.

    Parameters
    ----------
    scans : sequence of PreparedScan
        The scans to train on.
    options : TrainingOptions
        Batch size, supervision, jitter and seed.
    workers : int
        Processes that read batches ahead.
    """

    def __init__(self, scans: Sequence[PreparedScan], options: TrainingOptions, workers: int) -> None:
        super().__init__()
        patterns, labels = [each.patterns for each in scans], options.supervision == "labels"
        self.options, self.workers = options, workers
        self.training_set = GroupDataset(
            patterns,
            [each.groups for each in scans],
            labels=labels,
            jitter=options.jitter,
            seed=options.seed,
            withheld=options.withheld,
        )
        self.validation_set = GroupDataset(
            patterns,
            [each.validation_groups for each in scans],
            labels=labels,
            jitter=0.0,
            seed=options.seed,
            withheld=options.withheld,
        )

    def train_dataloader(self) -> DataLoader[GroupBatch]:
        """All training groups, in an order that depends on seed and epoch."""
        sampler = self._sampler(GroupSampler, self.training_set, shuffle=True)
        assert self.trainer is not None
        # Worker processes start before Lightning tells the sampler the epoch of a resumed run.
        done: Any = self.trainer.fit_loop.epoch_progress.current
        sampler.set_epoch(done.processed)
        return make_loader(self.training_set, sampler, self.workers)

    def val_dataloader(self) -> DataLoader[GroupBatch]:
        """All validation groups."""
        sampler = self._sampler(ValidationSampler, self.validation_set, shuffle=False)
        return make_loader(self.validation_set, sampler, self.workers)

    def _sampler(self, kind: type[GroupSampler], dataset: GroupDataset, *, shuffle: bool) -> GroupSampler:
        assert self.trainer is not None
        return kind(
            [len(groups.members) for groups in dataset.groups],
            max(self.trainer.world_size, self.options.batch // self.options.gridsize**2),
            shuffle=shuffle,
            seed=self.options.seed,
            rank=self.trainer.global_rank,
            world=self.trainer.world_size,
        )


class ValidationSampler(GroupSampler):
    """Always draws as in epoch 0, so that the same photons are withheld and losses of all epochs are comparable."""

    def set_epoch(self, epoch: int) -> None:
        """Ignore the epoch."""
