"""The training loss: likelihood or distance of predicted counts, regularisation, or distance from labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diptych.ptycho.networks.exposure import Exposure
from diptych.ptycho.neural.options import LossName, TrainingOptions
from diptych.ptycho.neural.probe_model import ProbeModel
from diptych.ptycho.physics.forward import intensity
from diptych.ptycho.physics.likelihood import amplitude_mae, deviance, gaussian_amplitude

DARK_COUNTS = 1e-2
"""Counts added to each predicted value, so that gradients stay bounded where the prediction is 0."""


@dataclass(frozen=True, eq=False)
class BatchResult:
    """Loss and predictions of a batch of B groups of C members.

    Parameters
    ----------
    loss : scalar tensor
        The training loss.
    patches, merged : (B, C, N, N) complex tensors
        Predicted patches before and after overlapping patches were averaged.
    predicted : (B, C, N, N) tensor or None
        Predicted counts; None with supervision by labels.
    """

    loss: Tensor
    patches: Tensor
    merged: Tensor
    predicted: Tensor | None


@dataclass(frozen=True)
class Processes:
    """Processes that share a batch, each with some of its groups. They average their losses and gradients.

    Parameters
    ----------
    count : int
        How many.
    total : callable
        Sum of a tensor over all of them.
    """

    count: int
    total: Callable[[Tensor], Tensor]

    def share(self, own: Tensor, whole: Tensor) -> Tensor:
        """Factor on a mean over ``own`` elements here: averaged over processes it is the mean over ``whole``."""
        return own * self.count / whole


ALONE = Processes(1, lambda values: values)


def data_loss(
    name: LossName, counts: Tensor, predicted: Tensor, valid: Tensor | None = None, processes: Processes = ALONE
) -> Tensor:
    """Distance of predicted counts from measured ones, mean per valid pixel, over the root of the mean count.

    ``poisson`` is the negative log-likelihood minus that of a perfect prediction (half the deviance), so its minimum is
    0. Divided by the root of the mean count, gradients near the solution have a similar magnitude for all three losses
    and for 1e4 to 1e9 photons per pattern.

    Parameters
    ----------
    name : {"poisson", "mae", "gaussian"}
        Which distance.
    counts, predicted : tensors of one shape
        Measured and predicted counts.
    valid : bool tensor, broadcast against ``counts``, optional
        True at valid pixels; the others are ignored.
    processes : Processes, optional
        Those that share the batch: the average of their results is the loss of the whole batch.
    """
    if valid is not None:
        counts = torch.where(valid, counts, 0.0)
    own = counts.new_tensor(counts.numel()) if valid is None else valid.expand(counts.shape).sum().to(counts.dtype)
    photons, pixels = processes.total(torch.stack([counts.sum(), own])).unbind()
    dose = (photons / pixels).clamp(min=1e-3).sqrt()
    if name == "poisson":
        terms = deviance(counts, predicted + DARK_COUNTS) / 2
        mean = (terms if valid is None else torch.where(valid, terms, 0.0)).sum() / own
    else:
        measure = amplitude_mae if name == "mae" else gaussian_amplitude
        mean = measure(counts, predicted + DARK_COUNTS, valid)
    return mean / dose * processes.share(own, pixels)


def batch_loss(
    options: TrainingOptions,
    probe_model: ProbeModel,
    exposure: Exposure,
    counts: Tensor,
    patches: Tensor,
    labels: Tensor | None,
    processes: Processes = ALONE,
) -> BatchResult:
    """The loss of predicted patches, by physics or by labels.

    Parameters
    ----------
    options : TrainingOptions
        Loss, weights of the average, regularisation.
    probe_model : ProbeModel
        Of the scan.
    exposure : Exposure
        What the network received.
    counts : (B, C, N, N) tensor
        Counts that the prediction is compared with, corner-centred.
    patches : (B, C, N, N) complex tensor
        Predicted patches.
    labels : (B, C, N, N) complex tensor or None
        True patches, for ``supervision="labels"``.
    processes : Processes, optional
        Those that share the batch.
    """
    light = intensity(exposure.modes).detach()
    if labels is not None:
        return BatchResult(label_loss(patches, labels, light, processes), patches, patches, None)
    weights = (light if options.placement == "probe" else torch.ones_like(light)).expand(counts.shape)
    merged = exposure.layout.average_overlaps(patches, weights)
    predicted = probe_model.predicted_counts(merged, exposure)
    loss = data_loss(options.loss, counts, predicted, exposure.valid, processes)
    share = light / light.sum((-1, -2), keepdim=True)
    if options.consistency or options.tv:
        groups = counts.new_tensor(len(counts))
        part = processes.share(groups, processes.total(groups))
        difference = ((patches - merged).abs() * share).sum((-1, -2)).mean()
        loss = loss + part * (options.consistency * difference + options.tv * _total_variation(merged, share))
    return BatchResult(loss, patches, merged, predicted)


def label_loss(patches: Tensor, labels: Tensor, light: Tensor, processes: Processes = ALONE) -> Tensor:
    """Mean distance of patches from true ones (B, C, N, N) in the complex plane, with weights |P|.

    Parameters
    ----------
    patches, labels : (B, C, N, N) complex tensors
        Predicted and true.
    light : tensor, broadcast against them
        The illumination |P|^2.
    processes : Processes, optional
        Those that share the batch.
    """
    weights = (light / light.amax((-1, -2), keepdim=True)).sqrt().expand(labels.shape)
    own = weights.sum()
    return (weights * (patches - labels).abs()).sum() / own * processes.share(own, processes.total(own))


def _total_variation(patches: Tensor, share: Tensor) -> Tensor:
    """Total variation of complex patches, weighted with the illumination ``share``, which sums to 1."""
    down, right = (torch.diff(patches, dim=axis).abs() for axis in (-2, -1))
    return (down * share[..., 1:, :]).sum((-1, -2)).mean() + (right * share[..., :, 1:]).sum((-1, -2)).mean()
