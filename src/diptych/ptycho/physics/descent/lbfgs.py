"""The memory of L-BFGS: Nocedal and Wright, Numerical Optimization, algorithm 7.4, on flat real vectors."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from diptych.ptycho.physics import compiled

PIECE = 2**15
"""Length of the pieces in which products are computed: they stay in the cache, and on one thread."""


class Curvature:
    """The last few steps, and the change of the gradient along each.

    Parameters
    ----------
    history : int
        Number of steps that are kept.
    like : (n,) real tensor
        Gives length, dtype and device.
    """

    def __init__(self, history: int, like: Tensor) -> None:
        # Allocated once: large arrays that come and go between the small ones of batches would fragment the heap.
        self._store = torch.empty((history, 2, len(like)), dtype=like.dtype, device=like.device)
        self._products = [0.0] * history
        self._added = self._kept = 0

    def add(self, move: Tensor, bend: Tensor) -> None:
        """Add a step (n,) and the change of the gradient along it, replacing the oldest; ignored where the curvature is
        not positive.
        """
        product = dot(move, bend)
        if not product > 0:
            return
        history = len(self._store)
        slot = self._added % history
        self._store[slot, 0], self._store[slot, 1] = move, bend
        self._products[slot] = product
        self._added += 1
        self._kept = min(self._kept + 1, history)

    def clear(self) -> None:
        """Forget everything."""
        self._kept = 0

    def descent(self, gradient: Tensor, precondition: Callable[[Tensor], Tensor], first: float) -> Tensor:
        """Minus the approximate inverse Hessian times the gradient (n,), by the two-loop recursion.

        ``precondition`` is the initial inverse Hessian, scaled by the curvature along the last step, and by ``first``
        before there is a step.
        """
        direction = gradient.neg()
        slots = self._slots()
        weights = {}
        for slot in reversed(slots):
            move, bend = self._store[slot]
            weights[slot] = dot(move, direction) / self._products[slot]
            direction.sub_(bend, alpha=weights[slot])
        direction = precondition(direction)
        shrink = first
        if slots:
            bend = self._store[slots[-1], 1]
            shrink = self._products[slots[-1]] / dot(bend, precondition(bend))
        direction.mul_(shrink)
        for slot in slots:
            move, bend = self._store[slot]
            direction.add_(move, alpha=weights[slot] - dot(bend, direction) / self._products[slot])
        return direction

    def _slots(self) -> list[int]:
        """Slots of the steps, oldest first."""
        return [i % len(self._store) for i in range(self._added - self._kept, self._added)]

    def state(self) -> dict[str, Tensor]:
        """What :meth:`restore` needs: the steps, oldest first, their products, and the number of steps added.

        The products and the slot of each step are kept, so that a resumed run computes the same bits.
        """
        slots = self._slots()
        return {
            "steps": self._store[slots],
            "products": torch.tensor([self._products[slot] for slot in slots], dtype=torch.float64),
            "added": torch.tensor(self._added),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Bring back an earlier :meth:`state`."""
        self._added, self._kept = int(state["added"]), len(state["steps"])
        for slot, step, product in zip(self._slots(), state["steps"], state["products"].tolist(), strict=True):
            self._store[slot] = step
            self._products[slot] = product


def dot(a: Tensor, b: Tensor) -> float:
    """Inner product of two real vectors (n,), in double precision.

    Products of float32 numbers are exact in float64, and the order of additions depends neither on memory alignment nor
    on the number of threads: the result decides line searches, and must be the same in a resumed run.
    """
    if (found := compiled.dot(a, b)) is not None:
        return found
    pieces = zip(torch.split(a, PIECE), torch.split(b, PIECE), strict=True)
    return float(torch.stack([x.double().mul(y).sum() for x, y in pieces]).sum())
