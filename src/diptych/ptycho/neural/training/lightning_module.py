"""What Lightning trains: a generator, the beams of the scans, and one objective over both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from diptych.ptycho.neural.data.dataset import GroupBatch, GroupDataset, GroupSampler, make_loader
from diptych.ptycho.neural.data.preparation import Lesson
from diptych.ptycho.neural.options import TrainingOptions
from diptych.ptycho.neural.probe_model import Beam
from diptych.ptycho.neural.training.clipping import clip_gradients
from diptych.ptycho.neural.training.loss import Judged, judge
from diptych.ptycho.neural.training.schedules import factor

WEIGHT_DECAY = 1e-4


@dataclass(frozen=True, eq=False)
class Seen:
    """A batch and what the network made of it, without gradients."""

    batch: GroupBatch
    judged: Judged


class PtychoModule(lightning.LightningModule):
    """A generator in training.

    Parameters
    ----------
    network : nn.Module
        From an :class:`~diptych.ptycho.networks.registry.Exposure` to patches (B, C, N, N).
    scale : float
        c of its input.
    beams : sequence of Beam
        One per scan, in the order of the batches' ``scan``.
    options : TrainingOptions
        Loss, optimiser, schedule and clipping.
    """

    def __init__(self, network: nn.Module, scale: float, beams: Sequence[Beam], options: TrainingOptions) -> None:
        super().__init__()
        self.network, self.scale = network, scale
        self.beams = nn.ModuleList(beams)
        self.options = options
        self.losses: list[float] = []
        """What a plateau shows in, by epoch: the validation loss, or else the loss. Whoever keeps the history writes
        here."""
        self.seen: Seen | None = None
        """The latest batch."""

    def judged(self, batch: GroupBatch) -> Judged:
        """Predict a batch and judge it. Convolutions run in the trainer's precision, all physics in 32 bits."""
        beam = self.beams[batch.scan]
        assert isinstance(beam, Beam)
        with torch.autocast(self.device.type, enabled=False):
            exposure = beam.expose(batch.counts, batch.positions, batch.valid)
        patches = self.network(exposure)
        with torch.autocast(self.device.type, enabled=False):
            target = batch.counts if batch.target is None else batch.target
            return judge(self.options, beam, exposure, target, patches, batch.labels)

    def training_step(self, batch: GroupBatch, batch_idx: int) -> Tensor:
        """The loss of a batch."""
        judged = self._judged_and_kept(batch)
        self._note("loss", judged.loss.detach(), len(batch.counts))
        return judged.loss

    def validation_step(self, batch: GroupBatch, batch_idx: int) -> None:
        """Log the loss of a validation batch."""
        self._note("validation_loss", self._judged_and_kept(batch).loss, len(batch.counts))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW. A learned probe moves in steps of its own size, 1/N, and does not decay."""
        groups: list[dict[str, Any]] = [
            {"params": list(self.network.parameters()), "weight_decay": WEIGHT_DECAY, "peak": 1.0}
        ]
        if probes := list(self.beams.parameters()):
            groups.append({"params": probes, "weight_decay": 0.0, "peak": 1 / probes[0].shape[-2]})
        return torch.optim.AdamW(groups, lr=self.options.learning_rate)

    def on_train_epoch_start(self) -> None:
        """A network that draws random numbers draws the same ones in a run that was resumed."""
        torch.manual_seed((self.options.seed * 100_003 + self.current_epoch) * 1_009 + self.global_rank)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Set the learning rate.

        Not by Lightning's schedulers: these step after the checkpoint of an epoch is written, so that a plateau would
        be forgotten.
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
        """Clip as the options say, and log the norm before."""
        norm = clip_gradients(self.parameters(), self.options.clip, self.options.clip_mode)
        self._note("grad_norm", norm, 1)

    def _judged_and_kept(self, batch: GroupBatch) -> Judged:
        judged = self.judged(batch)
        foreseen = None if judged.foreseen is None else judged.foreseen.detach()
        self.seen = Seen(batch, Judged(judged.loss.detach(), judged.patches.detach(), judged.agreed.detach(), foreseen))
        return judged

    def _note(self, name: str, value: Tensor, weight: int) -> None:
        """Log the mean over an epoch, and over all processes."""
        self.log(name, value, on_step=False, on_epoch=True, batch_size=weight, sync_dist=self.trainer.world_size > 1)


class Lessons(lightning.LightningDataModule):
    """The batches of training and validation, on each process its own.

    Parameters
    ----------
    lessons : sequence of Lesson
        One per scan.
    options : TrainingOptions
        Batch size, supervision, jitter and seed.
    workers : int
        Processes that read ahead.
    """

    def __init__(self, lessons: Sequence[Lesson], options: TrainingOptions, workers: int) -> None:
        super().__init__()
        patterns, labels = [each.patterns for each in lessons], options.supervision == "labels"
        self.options, self.workers = options, workers
        self.fit = GroupDataset(
            patterns,
            [each.groups for each in lessons],
            labels=labels,
            jitter=options.jitter,
            seed=options.seed,
            withheld=options.withheld,
        )
        self.trials = GroupDataset(
            patterns,
            [each.trials for each in lessons],
            labels=labels,
            jitter=0.0,
            seed=options.seed,
            withheld=options.withheld,
        )

    def train_dataloader(self) -> DataLoader[GroupBatch]:
        """All groups, in an order that seed and epoch decide."""
        sampler = self._sampler(GroupSampler, self.fit, shuffle=True)
        assert self.trainer is not None
        # Processes that read ahead begin before Lightning tells the sampler in which epoch a resumed run is.
        done: Any = self.trainer.fit_loop.epoch_progress.current
        sampler.set_epoch(done.processed)
        return make_loader(self.fit, sampler, self.workers)

    def val_dataloader(self) -> DataLoader[GroupBatch]:
        """All validation groups."""
        return make_loader(self.trials, self._sampler(_Still, self.trials, shuffle=False), self.workers)

    def _sampler(self, kind: type[GroupSampler], dataset: GroupDataset, *, shuffle: bool) -> GroupSampler:
        assert self.trainer is not None
        return kind(
            [len(groups.members) for groups in dataset.groups],
            max(1, self.options.batch // self.options.gridsize**2),
            shuffle=shuffle,
            seed=self.options.seed,
            rank=self.trainer.global_rank,
            world=self.trainer.world_size,
        )


class _Still(GroupSampler):
    """Stays in the first epoch: the losses of two epochs compare where the same photons are withheld in both."""

    def set_epoch(self, epoch: int) -> None:
        """Nothing changes."""
