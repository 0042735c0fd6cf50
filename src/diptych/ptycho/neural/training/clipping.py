"""Gradient clipping: by norm, by value, or adaptively to the size of each weight."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

ClipMode = Literal["norm", "value", "agc"]

SMALL = 1e-3
"""Lower limit of the norm of weights in adaptive clipping, so that weights initialised to 0 can change."""


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float, mode: ClipMode) -> Tensor:
    """Clip gradients in place.

    ``agc`` is adaptive gradient clipping (Brock et al., ICML 2021) with norms of whole tensors: a gradient g of weights
    w is scaled so that ||g|| <= limit max(||w||, 1e-3).

    Parameters
    ----------
    parameters : iterable of nn.Parameter
        Those without a gradient are ignored.
    limit : float
        Largest norm of all gradients together, largest value, or largest ratio of norms; 0 disables clipping.
    mode : {"norm", "value", "agc"}
        Which of the three.

    Returns
    -------
    Tensor
        The norm of all gradients before clipping.
    """
    weights = [weight for weight in parameters if weight.grad is not None]
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    total = torch.nn.utils.get_total_norm(gradients)
    if limit == 0:
        return total
    if mode == "norm":
        torch.nn.utils.clip_grads_with_norm_(weights, limit, total)
    elif mode == "value":
        torch.nn.utils.clip_grad_value_(weights, limit)
    else:
        for weight, gradient in zip(weights, gradients, strict=True):
            allowed = limit * weight.detach().norm().clamp(min=SMALL)
            gradient.mul_((allowed / gradient.norm().clamp(min=torch.finfo(gradient.dtype).tiny)).clamp(max=1.0))
    return total
