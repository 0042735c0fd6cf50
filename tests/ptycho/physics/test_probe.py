"""Modes made from given ones: orthonormal to all, and the Hermite-Gauss modes of a Gaussian beam."""

from __future__ import annotations

import numpy as np
import pytest

from diptych.errors import InputError
from diptych.ptycho.physics.probe import extra_modes


def beam(size: int = 32, radius: float = 6.0, y: float = 1.5, x: float = -2.0) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size] - size // 2
    return np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / radius**2 + 0.05j * rows * columns)


@pytest.mark.parametrize("given", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_extra_modes_are_orthonormal_and_orthogonal_to_the_given_ones(given: int, count: int) -> None:
    rng = np.random.default_rng(0)
    # Given modes that are neither orthogonal nor normalised.
    probe = 5 * beam() * (1 + rng.normal(size=(given, 1, 1)) * np.linspace(-1, 1, 32))
    new = extra_modes(probe, count)
    assert new.shape == (count, 32, 32)
    gram = np.einsum("ayx,byx->ab", new, new.conj())
    np.testing.assert_allclose(gram, np.eye(count), atol=1e-12)
    np.testing.assert_allclose(np.einsum("ayx,byx->ab", new, probe.conj()), 0, atol=1e-10)


def test_a_mode_that_is_there_already_is_not_made_again() -> None:
    x = np.arange(32) - 16
    envelope = np.exp(-(x**2) / 36.0)
    ground, along_x = np.outer(envelope, envelope), np.outer(envelope, x * envelope)
    (along_y,) = extra_modes(np.stack([ground, along_x]), 1)
    expected = along_x.T / np.linalg.norm(along_x)
    assert abs(np.vdot(along_y, expected)) == pytest.approx(1, abs=1e-9)


def test_a_probe_of_one_pixel_has_no_more_modes() -> None:
    probe = np.zeros((1, 8, 8), complex)
    probe[0, 4, 4] = 1
    with pytest.raises(InputError, match="too small to make 2 more modes"):
        extra_modes(probe, 2)
