"""Illumination: that of the forward model, which pixels are lit, and what becomes of the others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diptych.errors import InputError
from diptych.ptycho.physics.forward import ForwardModel
from diptych.ptycho.physics.illumination import (
    illumination,
    lit,
    measured_frames,
    settle_unlit,
    soft_inside,
    soft_outside,
    weighted_median,
)
from diptych.ptycho.physics.measured import compared_box, light_of, scanned_box
from diptych.ptycho.physics.patches import canvas_box
from diptych.ptycho.scan import Canvas, Reconstruction, Scan


def modes(size: int, count: int, rng: np.random.Generator) -> np.ndarray:
    y, x = np.indices((size, size)) - size // 2
    ring = np.exp(-((np.hypot(y, x) - size / 6) ** 2) / (size / 8) ** 2)
    return ring * np.exp(1j * rng.normal(size=(count, 1, 1)) * (y + x**2 / size)) * rng.uniform(2, 9, (count, 1, 1))


@pytest.mark.parametrize(("size", "count"), [(16, 1), (17, 2), (32, 3)])
@pytest.mark.parametrize("whole", [True, False])
def test_is_that_of_the_forward_model(size, count, whole):
    rng = np.random.default_rng(size)
    probe, positions = modes(size, count, rng), rng.uniform(-30, 30, (70, 2))
    positions = np.rint(positions) if whole else positions
    origin, shape = canvas_box(positions, size, 2)
    model = ForwardModel.far_field(
        positions, size, origin, shape, dtype=torch.complex128, device=torch.device("cpu"), subpixel=True
    )
    exact = model.illumination(torch.from_numpy(probe)).numpy()
    found = illumination(probe, positions, origin, shape)
    assert found.dtype == np.float32
    assert np.abs(found - exact).max() < (1e-6 if whole else 1e-5) * exact.max()
    assert found.sum(dtype=np.float64) == pytest.approx(70 * (np.abs(probe) ** 2).sum(), rel=1e-4)


def test_many_positions_are_rounded_to_a_fine_grid():
    rng = np.random.default_rng(1)
    probe, positions = modes(16, 1, rng), rng.uniform(0, 12, (2500, 2))
    origin, shape = canvas_box(positions, 16)
    parts = [illumination(probe, some, origin, shape) for some in np.array_split(positions, 2)]
    exact = parts[0].astype(np.float64) + parts[1]
    assert np.abs(illumination(probe, positions, origin, shape) - exact).max() < 1e-3 * exact.max()


def test_light_outside_the_canvas_is_left_out():
    probe, positions = np.full((4, 4), 2.0), np.array([[0.0, 0.0], [2.0, 2.0], [50.0, 50.0]])
    found = illumination(probe, positions, (0, 0), (4, 4))
    assert found[0, 0] == 8
    assert found[3, 3] == 4


def test_masked_frames_do_not_count():
    mask = np.ones((3, 4, 4), bool)
    mask[1] = False
    counted = measured_frames(mask, 3)
    assert counted.tolist() == [True, False, True]
    assert measured_frames(mask[0], 3).all()
    positions = np.array([[2.0, 2.0], [2.0, 20.0], [2.0, 2.0]])
    found = illumination(np.ones((4, 4)), positions, (0, 0), (4, 30), counted)
    assert found[0, 0] == 2
    assert not found[:, 8:].any()
    with pytest.raises(InputError, match="measured"):
        illumination(np.ones((4, 4)), positions, (0, 0), (4, 30), counted[:2])


@given(
    scale=st.floats(1e-12, 1e12),
    margin=st.integers(0, 60),
    seed=st.integers(0, 99),
)
def test_lit_depends_neither_on_the_scale_nor_on_the_canvas(scale, margin, seed):
    light = np.random.default_rng(seed).gamma(0.3, size=(24, 31))
    assert np.array_equal(lit(np.pad(light * scale, margin)), np.pad(lit(light), margin))


def test_lit_is_a_tenth_of_what_the_median_photon_meets():
    light = np.zeros((10, 10))
    light[:5] = 100.0
    light[5], light[6] = 10.0, 9.9
    assert weighted_median(light) == 100
    assert lit(light)[:6].all()
    assert not lit(light)[6:].any()
    # One very bright pixel moves a maximum, but not the median.
    light[0, 0] = 1000.0
    assert lit(light)[:6].all()
    assert not lit(np.zeros((3, 3))).any()


def test_soft_edges():
    mask = np.zeros((40, 40), bool)
    mask[:, 20:] = True
    inside, outside = soft_inside(mask, 8), soft_outside(mask, 8)
    assert not inside[:, :20].any()
    assert (inside[:, 28:] == 1).all()
    assert (np.diff(inside[5, 20:29]) > 0).all()
    assert (outside[:, 20:] == 1).all()
    assert not outside[:, :12].any()
    assert (soft_inside(np.ones((9, 9), bool), 4) == 1).all()


def test_unlit_pixels_settle_near_one_and_lit_ones_are_untouched():
    rng = np.random.default_rng(0)
    light = np.concatenate([np.full((20, 50), 300.0), np.geomspace(25, 1e-9, 1000).reshape(20, 50)])
    noise = rng.normal(size=(2, *light.shape)) / np.sqrt(4 * np.maximum(light, 1e-3))
    image = (0.8 * np.exp(0.5j) + noise[0] + 1j * noise[1]).astype(np.complex64)
    image[-1, -1] = np.nan
    settled = settle_unlit(image, light)
    known = lit(light)
    assert np.array_equal(settled[known], image[known])
    assert settled.dtype == image.dtype
    modulus = np.abs(settled[~known])
    assert modulus.min() >= 0.5 - 1e-6
    assert modulus.max() <= 1.5 + 1e-6
    assert np.abs(settled[-1, -10:] - 1).max() < 1e-3


def test_photons_may_contradict_the_bounds_of_unlit_pixels():
    light = np.full((2, 200), 1e6)
    light[1] = 9e4
    image = np.full(light.shape, 0.1 + 0j)
    assert np.abs(settle_unlit(image, light) - 0.1).max() < 1e-3


def test_a_line_is_compared_over_its_lit_pixels():
    y, x = np.indices((16, 16)) - 8
    probe = np.exp(-(y**2 + x**2) / 18)
    positions = np.stack([np.full(20, 40.0), np.arange(20) * 4 + 20.0], axis=1)
    result = Reconstruction(Canvas(np.ones((60, 120))), probe, positions)
    light = light_of(result)
    assert light is not None
    assert scanned_box(positions)[:2] == (40, 40)
    y0, y1, x0, x1 = compared_box(positions, light)
    assert (x0, x1) == (20, 96)
    assert y0 < 38 < 42 < y1
    assert light.mask((y0, y1, x0, x1)).mean() > 0.9


def test_light_of_nothing_known_is_none():
    probe = np.ones((8, 8))
    assert light_of(Canvas(np.ones((9, 9)))) is None
    assert light_of(Reconstruction(Canvas(np.ones((9, 9))), probe, np.empty((0, 2)))) is None
    far = Reconstruction(Canvas(np.ones((9, 9))), probe, np.array([[900.0, 900.0]]))
    assert light_of(far) is None
    counts = np.ones((3, 8, 8), np.uint16)
    assert light_of(Scan(counts, np.array([[0, 0], [0, 3], [2, 1]]))) is None
