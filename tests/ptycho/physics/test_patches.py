"""Cut, place and merge: adjoint to each other, right by coordinates, and exact on true patches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.physics.patches import Interpolation, canvas_box, cut, gather, merge, place, split

Scene = tuple[NDArray[np.float64], int, Interpolation, int]

TOLERANCE = {torch.complex64: 1e-6, torch.complex128: 1e-12}


def noise(rng: np.random.Generator, *shape: int, dtype: torch.dtype = torch.complex128) -> torch.Tensor:
    return torch.from_numpy(rng.normal(size=shape) + 1j * rng.normal(size=shape)).to(dtype)


def inner(a: torch.Tensor, b: torch.Tensor) -> complex:
    return complex(torch.vdot(a.flatten().to(torch.complex128), b.flatten().to(torch.complex128)))


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """Positions of either sign, window sides odd and even, an interpolation and a seed."""
    size = draw(st.integers(1, 13))
    coordinate = st.one_of(
        st.integers(-40, 40).map(float), st.floats(-40, 40), st.integers(-40, 40).map(lambda n: n + 0.5)
    )
    positions = draw(st.lists(st.tuples(coordinate, coordinate), min_size=1, max_size=12))
    return np.array(positions), size, draw(st.sampled_from(["round", "bilinear"])), draw(st.integers(0, 99))


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@given(scene=scenes())
@settings(max_examples=60, deadline=None)
def test_place_is_the_adjoint_of_cut(dtype: torch.dtype, scene: Scene) -> None:
    positions, size, interpolation, seed = scene
    rng = np.random.default_rng(seed)
    origin, shape = canvas_box(positions, size, margin=1)
    canvas, patches = noise(rng, *shape, dtype=dtype), noise(rng, len(positions), size, size, dtype=dtype)
    windows = cut(canvas, positions, size, origin=origin, interpolation=interpolation)
    back = place(patches, positions, torch.zeros_like(canvas), origin=origin, interpolation=interpolation)
    difference = abs(inner(patches, windows) - inner(back, canvas))
    scale = float(windows.to(torch.complex128).norm() * patches.to(torch.complex128).norm())
    assert difference <= TOLERANCE[dtype] * scale + 1e-300


@given(scene=scenes())
@settings(max_examples=40, deadline=None)
def test_index_n_half_of_a_window_lies_at_its_position(scene: Scene) -> None:
    """On a canvas that holds its own coordinates, a window holds the position plus the offset from index N // 2."""
    positions, size, interpolation, _ = scene
    origin, shape = canvas_box(positions, size, margin=1)
    y = torch.arange(shape[0], dtype=torch.float64)[:, None] + origin[0]
    x = torch.arange(shape[1], dtype=torch.float64) + origin[1]
    windows = cut(y + 1j * x, positions, size, origin=origin, interpolation=interpolation)
    centres = np.floor(positions + 0.5) if interpolation == "round" else positions
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
@pytest.mark.parametrize("interpolation", ["round", "bilinear"])
def test_a_window_that_leaves_the_canvas_is_an_error(
    position: tuple[float, float], interpolation: Interpolation
) -> None:
    positions = np.array([[8.0, 8.0], position])
    canvas = torch.zeros(20, 20, dtype=torch.complex64)
    with pytest.raises(InputError, match=r"1 of 2 windows of 8 pixels leave the canvas of 20 x 20 .first: number 1"):
        cut(canvas, positions, 8, interpolation=interpolation)
    with pytest.raises(InputError, match="number 1"):
        place(torch.ones(2, 8, 8, dtype=torch.complex64), positions, canvas, interpolation=interpolation)
    assert not canvas.any(), "nothing may be placed before the error"


def test_bilinear_whole_positions_need_no_margin() -> None:
    canvas = noise(np.random.default_rng(0), 8, 8)
    assert torch.equal(cut(canvas, np.array([[4.0, 4.0]]), 8, interpolation="bilinear")[0], canvas)


def test_place_goes_on_from_what_the_canvas_holds() -> None:
    rng = np.random.default_rng(1)
    positions, patches = rng.uniform(10, 20, (20, 2)), noise(rng, 20, 8, 8)
    whole = place(patches, positions, torch.zeros(32, 32, dtype=torch.complex128))
    parts = torch.zeros(32, 32, dtype=torch.complex128)
    for start in range(0, 20, 7):
        assert place(patches[start : start + 7], positions[start : start + 7], parts) is parts
    torch.testing.assert_close(parts, whole, rtol=1e-14, atol=1e-14)


def test_place_takes_lazily_conjugated_and_strided_windows() -> None:
    """torch conjugates lazily and slices without copying; neither may show."""
    rng = np.random.default_rng(2)
    positions, patches = np.array([[4.0, 4.0], [6.0, 5.0]]), noise(rng, 2, 6, 6)
    expected = place(patches.conj().resolve_conj(), positions, torch.zeros(12, 12, dtype=torch.complex128))
    assert torch.equal(place(patches.conj(), positions, torch.zeros(12, 12, dtype=torch.complex128)), expected)
    turned = patches.transpose(1, 2)
    expected = place(turned.contiguous(), positions, torch.zeros(12, 12, dtype=torch.complex128))
    assert torch.equal(place(turned, positions, torch.zeros(12, 12, dtype=torch.complex128)), expected)


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("weighted", ["one for all", "one each"])
def test_merge_of_true_patches_is_the_object(size: int, weighted: str) -> None:
    rng = np.random.default_rng(3)
    positions = rng.uniform(-15, 15, (60, 2))
    origin, shape = canvas_box(positions, size, margin=5)
    truth = noise(rng, *shape)
    weights = torch.from_numpy(rng.uniform(0.1, 1.0, (size, size) if weighted == "one for all" else (60, size, size)))
    patches = cut(truth, positions, size, origin=origin)
    merged = merge(patches, positions, torch.zeros_like(truth), weights, origin=origin)
    seen = place(torch.ones_like(patches), positions, torch.zeros_like(truth), origin=origin).real > 0
    torch.testing.assert_close(merged[seen], truth[seen], rtol=1e-12, atol=1e-12)
    assert bool((merged[~seen] == 1).all())
    assert 0 < int(seen.sum()) < seen.numel()


@pytest.mark.parametrize("interpolation", ["round", "bilinear"])
def test_merge_does_not_depend_on_the_chunk(interpolation: Interpolation) -> None:
    rng = np.random.default_rng(4)
    positions, patches = rng.uniform(10, 20, (30, 2)), noise(rng, 30, 8, 8)
    weights = torch.from_numpy(rng.uniform(0.1, 1.0, (30, 8, 8)))
    canvas = torch.zeros(32, 32, dtype=torch.complex128)
    whole = merge(patches, positions, canvas, weights, interpolation=interpolation)
    for chunk in (1, 7, 30):
        torch.testing.assert_close(
            merge(patches, positions, canvas, weights, interpolation=interpolation, chunk=chunk),
            whole,
            rtol=1e-12,
            atol=1e-12,
        )
    assert not canvas.any(), "merge only reads the canvas"


def test_merge_weighs_windows_as_told() -> None:
    """Two windows on the same spot, of value 1 and 5, weights 3 and 1: the weighted mean is 2."""
    patches = torch.stack([torch.full((4, 4), 1 + 0j), torch.full((4, 4), 5 + 0j)])
    weights = torch.stack([torch.full((4, 4), 3.0), torch.full((4, 4), 1.0)])
    merged = merge(patches, np.full((2, 2), 2.0), torch.zeros(4, 4, dtype=torch.complex64), weights)
    assert torch.equal(merged, torch.full((4, 4), 2 + 0j))


def test_merge_of_unlit_windows_is_one_everywhere() -> None:
    patches = torch.full((2, 4, 4), 7 + 0j)
    merged = merge(patches, np.full((2, 2), 3.0), torch.zeros(8, 8, dtype=torch.complex64), torch.zeros(4, 4))
    assert torch.equal(merged, torch.ones(8, 8, dtype=torch.complex64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_windows_of_real_canvases(dtype: torch.dtype) -> None:
    canvas = torch.arange(30).reshape(5, 6).to(dtype)
    windows: Any = gather(canvas, np.array([[0, 0], [2, 3]]), 3)
    assert torch.equal(windows[1], canvas[2:5, 3:6])
    assert windows.dtype == dtype
