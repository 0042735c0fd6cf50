"""The Poisson loss in the forms of other programs, so that values can be compared.

One definition is used here: the negative log-likelihood of counts k at expected counts lambda, without the constant
log k!, mean per pixel, in counts: mean(lambda - k log lambda), with lambda >= 1e-8. The engines of PtychoPINN report
other numbers for the same fit. They differ by the constant, by sum or mean over the pixels of a pattern, and by a
division; the gradients differ by the factor alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diptych.ptycho.physics.likelihood import deviance


def poisson_loss(counts: Tensor, expected: Tensor) -> Tensor:
    """The definition: mean(lambda - k log lambda) over all pixels, counts, in double precision.

    Parameters
    ----------
    counts, expected : tensors of one shape
        Measured and expected counts.
    """
    return deviance(counts.double(), expected.double()).mean() / 2 + _least(counts)


def from_training_loss(value: Tensor | float, counts: Tensor) -> Tensor:
    """The definition from the loss ``poisson`` of a batch in training without a mask, tv or consistency.

    That loss is half the deviance, mean per pixel, divided by the root of the mean count; in it 0.01 is added to
    the expected counts.

    Parameters
    ----------
    value : scalar
        The loss of the batch.
    counts : tensor
        The counts that the loss was evaluated on.
    """
    return torch.as_tensor(value, dtype=torch.float64) * counts.double().mean().clamp(min=1e-3).sqrt() + _least(counts)


def to_ptychopinn_tensorflow(value: Tensor | float) -> Tensor:
    """The negative log-likelihood that PtychoPINN's TensorFlow engine reports: mean over all elements, no constant.

    It equals the definition. (That engine does not limit lambda from below.)
    """
    return torch.as_tensor(value, dtype=torch.float64)


def to_ptychopinn_torch(value: Tensor | float, counts: Tensor, *, scale: float = 1.0) -> Tensor:
    """The loss of PtychoPINN's torch engine: with log k!, summed over each sample, divided by the mean amplitude.

    Parameters
    ----------
    value : scalar
        The definition, for these counts.
    counts : (B, C, N, N) tensor
        Measured counts; a sample is a group of C patterns.
    scale : float
        Counts are (scale X)^2, where X are the stored amplitudes, whose mean the engine divides by.
    """
    amplitude = counts.double().sqrt().mean() / scale
    return _summed(value, counts) / amplitude


def to_ptychopinn_counts(value: Tensor | float, counts: Tensor, mean_intensity: float) -> Tensor:
    """The loss of PtychoPINN's count-intensity mode: with log k!, summed over each sample, divided by a mean count.

    Parameters
    ----------
    value : scalar
        The definition, for these counts.
    counts : (B, C, N, N) tensor
        Measured counts.
    mean_intensity : float
        Mean counts per pixel of that engine's training data.
    """
    return _summed(value, counts) / mean_intensity


def constant(counts: Tensor) -> Tensor:
    """mean(log k!) over all pixels: what the definition leaves out."""
    return torch.lgamma(counts.double() + 1).mean()


def _summed(value: Tensor | float, counts: Tensor) -> Tensor:
    """The full negative log-likelihood, summed over each sample (C, N, N), mean over samples."""
    return (torch.as_tensor(value, dtype=torch.float64) + constant(counts)) * counts[0].numel()


def _least(counts: Tensor) -> Tensor:
    """The lowest value there is for these counts, at lambda = k: mean(k - k log k)."""
    k = counts.double()
    return (k - torch.xlogy(k, k)).mean()
