"""The memory of L-BFGS: Nocedal and Wright, Numerical Optimization, algorithm 7.4, on flat real vectors."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

PIECE = 2**14
"""Products are summed in single precision over pieces of this length, the pieces in double precision."""


class Curvature:
    """The last few steps, and how the gradient changed along each.

    Parameters
    ----------
    history : int
        Steps that are kept.
    like : (n,) real tensor
        Gives length, dtype and device.
    """

    def __init__(self, history: int, like: Tensor) -> None:
        # Made once: canvases that come and go between the small arrays of batches would break up the heap.
        self._store = torch.empty((history, 2, len(like)), dtype=like.dtype, device=like.device)
        self._products = [0.0] * history
        self._added = self._kept = 0

    def add(self, move: Tensor, bend: Tensor) -> None:
        """Take in a step (n,) and the change of the gradient along it, in place of the oldest; not where the loss
        curves downwards.
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
        """Minus the inverse Hessian times the gradient (n,): what the steps have told, and ``precondition`` where they
        say nothing.

        ``precondition`` is scaled by the last step's curvature, by ``first`` as long as there is none.
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
        """Places of the steps, oldest first."""
        return [i % len(self._store) for i in range(self._added - self._kept, self._added)]

    def state(self) -> dict[str, Tensor]:
        """What :meth:`restore` needs."""
        return {"steps": self._store[self._slots()]}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Bring back an earlier :meth:`state`."""
        self.clear()
        for move, bend in state["steps"]:
            self.add(move, bend)


def dot(a: Tensor, b: Tensor) -> float:
    """Inner product of two real vectors (n,)."""
    pieces = zip(torch.split(a, PIECE), torch.split(b, PIECE), strict=True)
    return float(torch.stack([torch.dot(x, y) for x, y in pieces]).sum(dtype=torch.float64))
