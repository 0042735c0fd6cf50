"""Cutting windows and adding them back: adjoint to each other, and right by coordinates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.physics.patches import canvas_box, cut, gather, scatter_add, split, spread

Scene = tuple[NDArray[np.float64], int, int]

TOLERANCE = {torch.complex64: 1e-6, torch.complex128: 1e-12}


def noise(rng: np.random.Generator, *shape: int, dtype: torch.dtype = torch.complex128) -> torch.Tensor:
    return torch.from_numpy(rng.normal(size=shape) + 1j * rng.normal(size=shape)).to(dtype)


def inner(a: torch.Tensor, b: torch.Tensor) -> complex:
    return complex(torch.vdot(a.flatten().to(torch.complex128), b.flatten().to(torch.complex128)))


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """Positions of either sign, window sides odd and even, and a seed."""
    size = draw(st.integers(1, 13))
    coordinate = st.one_of(
        st.integers(-40, 40).map(float), st.floats(-40, 40), st.integers(-40, 40).map(lambda n: n + 0.5)
    )
    positions = draw(st.lists(st.tuples(coordinate, coordinate), min_size=1, max_size=12))
    return np.array(positions), size, draw(st.integers(0, 99))


def corners_of(positions: NDArray[np.float64], size: int, origin: tuple[int, int]) -> NDArray[np.int64]:
    return split(positions)[0] - np.asarray(origin) - size // 2


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@given(scene=scenes())
@settings(max_examples=60, deadline=None)
def test_adding_windows_is_the_adjoint_of_cutting_them(dtype: torch.dtype, scene: Scene) -> None:
    positions, size, seed = scene
    rng = np.random.default_rng(seed)
    origin, shape = canvas_box(positions, size, margin=1)
    canvas, patches = noise(rng, *shape, dtype=dtype), noise(rng, len(positions), size, size, dtype=dtype)
    windows = cut(canvas, positions, size, origin=origin)
    scale = float(windows.to(torch.complex128).norm() * patches.to(torch.complex128).norm())
    added = torch.zeros_like(canvas)
    scatter_add(added, corners_of(positions, size, origin), patches)
    for back in (added, spread(patches, corners_of(positions, size, origin), shape)):
        assert abs(inner(patches, windows) - inner(back, canvas)) <= TOLERANCE[dtype] * scale + 1e-300


@given(scene=scenes())
@settings(max_examples=40, deadline=None)
def test_index_n_half_of_a_window_lies_at_its_position(scene: Scene) -> None:
    """On a canvas that holds its own coordinates, a window holds the position plus the offset from index N // 2."""
    positions, size, _ = scene
    origin, shape = canvas_box(positions, size, margin=1)
    y = torch.arange(shape[0], dtype=torch.float64)[:, None] + origin[0]
    x = torch.arange(shape[1], dtype=torch.float64) + origin[1]
    windows = cut(y + 1j * x, positions, size, origin=origin)
    centres = np.floor(positions + 0.5)
    offset = np.arange(size) - size // 2
    np.testing.assert_allclose(
        windows.real.numpy(), np.broadcast_to((centres[:, 0, None] + offset)[:, :, None], windows.shape), atol=1e-12
    )
    np.testing.assert_allclose(
        windows.imag.numpy(), np.broadcast_to((centres[:, 1, None] + offset)[:, None, :], windows.shape), atol=1e-12
    )


def test_split_rounds_half_up_on_both_sides_of_zero() -> None:
    whole, fraction = split(np.array([[0.5, -0.5], [1.49, -1.51], [-2.5, 2.5]]))
    np.testing.assert_array_equal(whole, [[1, 0], [1, -2], [-2, 3]])
    np.testing.assert_allclose(fraction, [[-0.5, -0.5], [0.49, 0.49], [-0.5, -0.5]])


@pytest.mark.parametrize("size", [6, 7])
def test_canvas_box_is_the_smallest_that_holds_every_window(size: int) -> None:
    positions = np.array([[-3.2, 10.0], [4.0, 12.7]])
    origin, shape = canvas_box(positions, size)
    cut(torch.zeros(shape), positions, size, origin=origin)
    for less, at in (
        ((1, 0), origin),
        ((0, 1), origin),
        ((1, 0), (origin[0] + 1, origin[1])),
        ((0, 1), (origin[0], origin[1] + 1)),
    ):
        with pytest.raises(InputError):
            cut(torch.zeros(shape[0] - less[0], shape[1] - less[1]), positions, size, origin=at)
    assert canvas_box(positions, size, margin=3) == ((origin[0] - 3, origin[1] - 3), (shape[0] + 6, shape[1] + 6))


@pytest.mark.parametrize("position", [(3.0, 8.0), (17.0, 8.0), (8.0, 3.0), (8.0, 17.0), (-8.0, 8.0), (1e9, 8.0)])
def test_a_window_that_leaves_the_canvas_is_an_error(position: tuple[float, float]) -> None:
    positions = np.array([[8.0, 8.0], position])
    canvas = torch.zeros(20, 20, dtype=torch.complex64)
    with pytest.raises(InputError) as caught:
        cut(canvas, positions, 8)
    assert "1 of 2 windows of 8 pixels" in caught.value.where
    assert "canvas of 20 x 20 (first: number 1" in caught.value.found


def test_adding_goes_on_from_what_the_canvas_holds() -> None:
    rng = np.random.default_rng(1)
    corners, patches = rng.integers(0, 20, (20, 2)), noise(rng, 20, 8, 8)
    whole, parts = torch.zeros(2, 32, 32, dtype=torch.complex128)
    scatter_add(whole, corners, patches)
    for start in range(0, 20, 7):
        scatter_add(parts, corners[start : start + 7], patches[start : start + 7])
    torch.testing.assert_close(parts, whole, rtol=1e-14, atol=1e-14)


def test_adding_takes_lazily_conjugated_and_strided_windows() -> None:
    """torch conjugates lazily and slices without copying; neither may show."""
    patches, corners = noise(np.random.default_rng(2), 2, 6, 6), np.array([[1, 1], [3, 2]])
    for given_, plain in (
        (patches.conj(), patches.conj().resolve_conj()),
        (patches.transpose(1, 2), patches.transpose(1, 2).contiguous()),
    ):
        assert torch.equal(spread(given_, corners, (12, 12)), spread(plain, corners, (12, 12)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_windows_of_real_canvases(dtype: torch.dtype) -> None:
    canvas = torch.arange(30).reshape(5, 6).to(dtype)
    windows: Any = gather(canvas, np.array([[0, 0], [2, 3]]), 3)
    assert torch.equal(windows[1], canvas[2:5, 3:6])
    assert windows.dtype == dtype
