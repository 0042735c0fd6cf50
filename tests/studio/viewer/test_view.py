"""Pictures of the viewer against plain numpy."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import diptych
from diptych.errors import InputError
from diptych.ptycho.figures.colours import complex_to_rgb
from diptych.ptycho.scan import Canvas, Reconstruction
from diptych.studio.components.viewer.images import (
    image_of_difference,
    image_of_result,
    image_of_values,
    levelled,
    slice_names,
    slice_of_file,
)
from diptych.studio.components.viewer.palettes import RESERVED, complex_colours, indices, maps_for, palette
from diptych.studio.components.viewer.pyramid import Pyramid, halved
from diptych.studio.components.viewer.source import ImageSource
from diptych.studio.components.viewer.view import LARGEST, View, display_range, part_of, render


def field(height: int = 700, width: int = 900, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 100
    noise = rng.normal(size=(height, width))
    return ((1 + 0.3 * np.sin(x)) * np.exp(1j * (3 * np.sin(y) + x + 0.1 * noise))).astype(np.complex64)


def decoded(data: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(data)))


def whole(image: ImageSource, quantity: str, side: int, **more: Any) -> View:
    y0, y1, x0, x1 = map(float, image.extent)
    return View(quantity, (y0, y1, x0, x1), side, side, **more)


@pytest.mark.parametrize("shape", [(8, 8), (7, 9), (1, 5), (513, 300)])
def test_levels_are_block_means(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(1).normal(size=shape)
    small = halved(values)
    assert small.shape == (-(-shape[0] // 2), -(-shape[1] // 2))
    even = values[: shape[0] // 2 * 2, : shape[1] // 2 * 2]
    blocks = even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2).mean((1, 3))
    np.testing.assert_allclose(small[: blocks.shape[0], : blocks.shape[1]], blocks, atol=1e-12)
    assert max(Pyramid.of(values).levels[-1].shape) <= 256


def test_full_resolution_picture_is_the_array_through_the_palette() -> None:
    values = field()
    image = image_of_values(values, "a", origin=(-40, 25))
    view = View("amplitude", (60.0, 160.0, 125.0, 275.0), 100, 150, 1.22, 1.28, "viridis")
    picture = render(image, view)
    assert picture is not None
    assert picture.level == 0
    assert picture.box == (60, 160, 125, 275)
    part = np.abs(values[100:200, 100:250])
    np.testing.assert_array_equal(decoded(picture.data), indices(part, 1.22, 1.28))
    low, high = palette("viridis")[[RESERVED, 255]]
    rgb = np.asarray(Image.open(io.BytesIO(picture.data)).convert("RGB"))
    np.testing.assert_array_equal(rgb[part <= 1.22][0], low)
    np.testing.assert_array_equal(rgb[part >= 1.28][0], high)


def test_zoomed_out_picture_shows_means_of_moduli_and_the_phase_of_the_mean() -> None:
    values = field(1024, 1024)
    image = image_of_values(values, "a")
    blocks = values.reshape(256, 4, 256, 4)
    for quantity, expected in (
        ("amplitude", np.abs(blocks).mean((1, 3))),
        ("phase", np.angle(blocks.mean((1, 3)))),
    ):
        picture = render(image, whole(image, quantity, 256, low=-3.0, high=3.0, colours="gray"))
        assert picture is not None
        assert picture.level == 2
        difference = decoded(picture.data).astype(int) - indices(expected, -3.0, 3.0).astype(int)
        assert np.abs(difference).max() <= 1


def test_a_picture_is_never_larger_than_the_screen_needs() -> None:
    image = image_of_values(np.ones((3000, 3000), np.complex64), "a")
    for side in (100, 700, 1400, 16000):
        found = part_of(image, whole(image, "amplitude", side))
        assert found is not None
        rows, columns = found[1]
        pixels = (rows.stop - rows.start) * (columns.stop - columns.start)
        assert pixels <= min(LARGEST, 2.1 * side**2) or max(rows.stop, columns.stop) <= 256


def test_unlit_pixels_are_striped_and_do_not_move_the_range() -> None:
    values = field(300, 300)
    values[:, 150:] *= 50
    mask = np.zeros((300, 300), bool)
    mask[:, :150] = True
    image = image_of_values(values, "a", mask=mask)
    low, high = display_range(image, "amplitude")
    assert high < 2
    assert low > 0.5
    striped = render(image, whole(image, "amplitude", 300))
    shown = render(image, whole(image, "amplitude", 300, unlit=True))
    assert striped is not None
    assert shown is not None
    assert set(np.unique(decoded(striped.data)[:, 150:])) == {0, 1}
    assert decoded(striped.data)[:, :150].min() >= RESERVED
    assert decoded(shown.data).min() >= RESERVED


def test_hue_view_has_the_colours_of_the_figures() -> None:
    values = field(60, 80)
    expected = complex_to_rgb(values, limit=1.3)
    found = complex_colours(np.angle(values).astype(np.float32), np.abs(values), 1.3) / 255
    # 256 hues and 256 values of brightness: one step of hue changes a channel by at most 6 / 256.
    assert np.abs(found - expected).max() < 0.03


def test_hue_picture_is_greyed_where_no_light_came() -> None:
    mask = np.zeros((300, 300), bool)
    mask[:150] = True
    image = image_of_values(field(300, 300), "a", mask=mask)
    picture = render(image, whole(image, "complex", 300))
    assert picture is not None
    rgb = decoded(picture.data)[160:].astype(int)
    assert (rgb.max(-1) - rgb.min(-1)).max() < 40


@pytest.mark.parametrize("masked", [False, True])
def test_unwrapped_phase_differs_from_the_phase_by_whole_turns(masked: bool) -> None:
    y, x = np.mgrid[:1500, :1200] / 1500
    true = 25 * x + 8 * np.sin(4 * y)
    mask = None
    if masked:
        mask = (y - 0.5) ** 2 + (x - 0.4) ** 2 < 0.1
    image = image_of_values(np.exp(1j * true).astype(np.complex64), "a", mask=mask)
    found = image.quantities["unwrapped"].read(0, (slice(None), slice(None)))
    turns = (found - true) / (2 * np.pi)
    lit = np.ones(true.shape, bool) if mask is None else mask
    assert np.ptp(turns[lit]) < 1e-3
    assert abs(turns[lit][0] - round(float(turns[lit][0]))) < 1e-3


def test_a_result_is_levelled_over_its_lit_pixels_only() -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:200, :200]
    light = np.exp(-((x - 100) ** 2 + (y - 100) ** 2) / 1000).astype(np.float32)
    values = np.exp(1j * (0.5 + 0.02 * x - 0.03 * y)).astype(np.complex64)
    values[light < 1e-3] = np.exp(1j * rng.uniform(-3, 3, int((light < 1e-3).sum())))
    positions = np.stack(np.meshgrid([60.0, 100, 140], [60.0, 100, 140]), -1).reshape(-1, 2)
    canvas = Canvas(values, origin=(-5, 7))
    result = Reconstruction(canvas, np.ones((1, 16, 16), np.complex64), positions, illumination=light)
    image = image_of_result(result, "r")
    assert image.lit is not None
    assert image.origin == (-5, 7)
    phase = image.quantities["phase"].read(0, (slice(None), slice(None)))
    assert np.abs(phase[image.lit[0]]).max() < 0.05
    assert list(image.quantities) == ["amplitude", "phase", "unwrapped", "complex", "illumination"]


def test_without_a_free_ramp_only_the_mean_phase_is_removed() -> None:
    x = np.mgrid[:100, :100][1]
    values = np.exp(1j * (0.7 + 0.01 * (x - 49.5))).astype(np.complex64)
    phase = np.angle(levelled(values, None, None, ramp=False))
    np.testing.assert_allclose(phase, 0.01 * (x - 49.5), atol=1e-3)
    assert np.abs(np.angle(levelled(values, None, None, ramp=True))).max() < 1e-3


def test_error_map_is_a_quantity() -> None:
    values = field(64, 64)
    error = np.full((64, 64), 0.25, np.float32)
    positions = np.array([[20.0, 20], [40, 40]])
    result = Reconstruction(Canvas(values), np.ones((1, 16, 16), np.complex64), positions, error=error)
    image = image_of_result(result)
    assert float(image.quantities["error"].read(0, (slice(0, 1), slice(0, 1)))[0, 0]) == 0.25


def test_differences_have_a_symmetric_range() -> None:
    first = field(300, 300)
    image = image_of_difference(first * np.exp(0.2j), first * 1.1, "d")
    np.testing.assert_allclose(image.quantities["phase-difference"].read(0, (slice(0, 9), slice(0, 9))), 0.2, atol=1e-5)
    low, high = display_range(image, "amplitude-difference")
    assert low == -high
    assert low < 0


def test_outside_there_is_no_picture() -> None:
    image = image_of_values(field(50, 50), "a")
    assert render(image, View("phase", (60.0, 70.0, 0.0, 10.0), 10, 10)) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"box": (0.0, 0.0, 0.0, 1.0)},
        {"box": (0.0, float("nan"), 0.0, 1.0)},
        {"box": (float("-inf"), 1.0, 0.0, 1.0)},
        {"height": 0},
        {"width": 10**6},
        {"low": 1.0},
        {"low": 2.0, "high": 1.0},
        {"low": 0.0, "high": float("inf")},
    ],
)
def test_wrong_requests_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        View(**{"quantity": "phase", "box": (0.0, 1.0, 0.0, 1.0), "height": 5, "width": 5, **wrong})


@pytest.mark.parametrize(("quantity", "colours"), [("nothing", "gray"), ("phase", "jet"), ("amplitude", "../x")])
def test_unknown_names_are_refused(quantity: str, colours: str) -> None:
    image = image_of_values(field(50, 50), "a")
    with pytest.raises(InputError):
        render(image, View(quantity, (0.0, 50.0, 0.0, 50.0), 50, 50, colours=colours))


@pytest.mark.parametrize("scale", ["sequential", "cyclic", "diverging", "complex"])
def test_every_scale_has_a_map(scale: str) -> None:
    for name in maps_for(scale):
        if name != "hue":
            assert palette(name).shape == (256, 3)


def test_a_constant_image_is_shown() -> None:
    image = image_of_values(np.ones((40, 40), np.complex64), "a")
    for quantity in image.quantities:
        assert render(image, whole(image, quantity, 40)) is not None


def test_each_slice_of_a_thick_object_is_an_image_with_its_depth(tmp_path: Path) -> None:
    slices = np.stack([np.full((12, 12), 2 + 0j), np.full((12, 12), 3 * np.exp(0.4j))]).astype(np.complex64)
    product = Canvas(slices.prod(0), origin=(-2, 3))
    probe, positions = np.ones((1, 4, 4), np.complex64), np.array([[0.0, 4.0]])
    thick = Reconstruction(product, probe, positions, slices=slices, slice_distance_m=5e-6)
    diptych.save(thick, tmp_path / "thick.h5")
    diptych.save(Reconstruction(product, probe, positions), tmp_path / "thin.h5")
    images = [slice_of_file(tmp_path / "thick.h5", index) for index in range(2)]
    assert [each.name for each in images] == [
        "thick.h5, slice 1 of 2, at 0",
        "thick.h5, slice 2 of 2, at 5 µm",
    ]
    for image, modulus in zip(images, (2, 3), strict=True):
        assert image.extent == product.extent
        np.testing.assert_allclose(image.quantities["amplitude"].read(0, np.s_[:, :]), modulus, rtol=1e-5)
    for name, index in (("thin.h5", 0), ("thick.h5", 2), ("thick.h5", -1)):
        with pytest.raises(InputError, match="slice"):
            slice_of_file(tmp_path / name, index)
    assert slice_names(Reconstruction(product, probe, positions)) == []
    assert slice_names(Reconstruction(product, probe, positions, slices=slices)) == ["slice 1 of 2", "slice 2 of 2"]
