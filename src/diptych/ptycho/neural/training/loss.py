"""What training makes small."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diptych.ptycho.networks.registry import Exposure
from diptych.ptycho.neural.options import LossName, TrainingOptions
from diptych.ptycho.neural.probe_model import Beam
from diptych.ptycho.physics.forward import intensity
from diptych.ptycho.physics.likelihood import amplitude_mae, deviance, gaussian_amplitude

LEAST = 1e-2
"""Dark counts added to what is expected, so that no gradient is unbounded where the model expects nothing."""


@dataclass(frozen=True, eq=False)
class Judged:
    """A loss, the predicted patches before and after they agreed, and the counts they predict."""

    loss: Tensor
    patches: Tensor
    agreed: Tensor
    foreseen: Tensor | None


def data_loss(name: LossName, counts: Tensor, foreseen: Tensor, valid: Tensor | None = None) -> Tensor:
    """How badly expected counts explain measured ones, mean per valid pixel, over the root of the mean count.

    ``poisson`` is the negative log-likelihood less that of a perfect prediction (half the deviance), so it is 0 at
    best. Over the root of the mean count all three have gradients of one size near the answer, from 1e4 to 1e9 photons
    per pattern.
    """
    if valid is not None:
        counts = torch.where(valid, counts, 0.0)
    pixels = counts.numel() if valid is None else valid.expand(counts.shape).sum()
    dose = (counts.sum() / pixels).clamp(min=1e-3).sqrt()
    if name == "poisson":
        terms = deviance(counts, foreseen + LEAST) / 2
        return (terms if valid is None else torch.where(valid, terms, 0.0)).sum() / pixels / dose
    measure = amplitude_mae if name == "mae" else gaussian_amplitude
    return measure(counts, foreseen + LEAST, valid) / dose


def judge(
    options: TrainingOptions, beam: Beam, exposure: Exposure, counts: Tensor, patches: Tensor, labels: Tensor | None
) -> Judged:
    """The loss of predicted patches (B, C, N, N), by physics or by labels.

    Parameters
    ----------
    counts : (B, C, N, N)
        Measured, corner-centred.
    labels : (B, C, N, N) complex or None
        True patches, for ``supervision="labels"``.
    """
    light = intensity(exposure.modes).detach()
    if labels is not None:
        return Judged(label_loss(patches, labels, light), patches, patches, None)
    weights = (light if options.placement == "probe" else torch.ones_like(light)).expand(counts.shape)
    agreed = exposure.layout.average_overlaps(patches, weights)
    foreseen = beam.foresee(agreed, exposure)
    loss = data_loss(options.loss, counts, foreseen, exposure.valid)
    share = light / light.sum((-1, -2), keepdim=True)
    if options.consistency:
        loss = loss + options.consistency * ((patches - agreed).abs() * share).sum((-1, -2)).mean()
    if options.tv:
        loss = loss + options.tv * _variation(agreed, share)
    return Judged(loss, patches, agreed, foreseen)


def label_loss(patches: Tensor, labels: Tensor, light: Tensor) -> Tensor:
    """Mean distance from the true patches in the complex plane, where there is light (weights |P|)."""
    weights = (light / light.amax((-1, -2), keepdim=True)).sqrt().expand(labels.shape)
    return (weights * (patches - labels).abs()).sum() / weights.sum()


def _variation(patches: Tensor, share: Tensor) -> Tensor:
    """Total variation of complex patches, weighted with the light (which sums to 1)."""
    down, right = (torch.diff(patches, dim=axis).abs() for axis in (-2, -1))
    return (down * share[..., 1:, :]).sum((-1, -2)).mean() + (right * share[..., :, 1:]).sum((-1, -2)).mean()
