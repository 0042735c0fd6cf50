"""The memory of L-BFGS against the closed form."""

from __future__ import annotations

import numpy as np
import torch

from diptych.ptycho.physics.descent.lbfgs import PIECE, Curvature, dot


def bfgs(pairs: list[tuple[np.ndarray, np.ndarray]], start: np.ndarray) -> np.ndarray:
    """The inverse Hessian by the textbook's update, Nocedal and Wright (6.17)."""
    inverse = start
    for s, y in pairs:
        rho, eye = 1 / (s @ y), np.eye(len(s))
        inverse = (eye - rho * np.outer(s, y)) @ inverse @ (eye - rho * np.outer(y, s)) + rho * np.outer(s, s)
    return inverse


def test_two_loops_are_the_update_of_the_textbook() -> None:
    """With more steps than are kept, and one along which the loss curves downwards: that one is not kept."""
    rng = np.random.default_rng(0)
    n, history = 7, 3
    root = rng.normal(size=(n, n))
    hessian, diagonal = root @ root.T + np.eye(n), rng.uniform(0.5, 2, n)
    memory = Curvature(history, torch.zeros(n, dtype=torch.float64))
    pairs = []
    for i in range(5):
        move = rng.normal(size=n)
        bend = hessian @ move if i != 3 else -move
        memory.add(torch.from_numpy(move), torch.from_numpy(bend))
        if i != 3:
            pairs.append((move, bend))
    gradient = rng.normal(size=n)
    s, y = pairs[-1]
    start = np.diag(diagonal) * (s @ y) / (y @ (diagonal * y))
    found = memory.descent(torch.from_numpy(gradient), lambda g: g * torch.from_numpy(diagonal), first=0.25)
    np.testing.assert_allclose(found.numpy(), -bfgs(pairs[-history:], start) @ gradient, rtol=1e-10)
    again = Curvature(history, torch.zeros(n, dtype=torch.float64))
    again.restore(memory.state())
    assert torch.equal(
        again.descent(torch.from_numpy(gradient), torch.clone, first=0.25),
        memory.descent(torch.from_numpy(gradient), torch.clone, 0.25),
    )
    memory.clear()
    np.testing.assert_allclose(
        memory.descent(torch.from_numpy(gradient), torch.clone, first=0.25).numpy(), -0.25 * gradient
    )


def test_products_of_long_vectors_keep_their_digits() -> None:
    """Equal products: single precision alone would stall once the sum outgrows them."""
    ones = torch.full((40 * PIECE + 17,), 1.0001)
    assert abs(dot(ones, ones) / (len(ones) * float(ones[0]) ** 2) - 1) < 1e-12


def test_products_do_not_depend_on_where_vectors_lie_in_memory() -> None:
    rng = np.random.default_rng(1)
    n = PIECE + 1234
    values = [torch.from_numpy(rng.normal(size=n).astype(np.float32)) for _ in range(2)]
    found = set()
    for offset in range(16):
        a, b = (torch.zeros(n + 16)[offset : offset + n].copy_(value) for value in values)
        found.add(dot(a, b))
    assert len(found) == 1
