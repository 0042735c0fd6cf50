"""Only the pixels that light reached are scored: spirals, gaps, outliers. The metrics of a raster stay as they were."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from diptych.ptycho.evaluate import evaluate
from diptych.ptycho.evaluate.compare import compare
from diptych.ptycho.evaluate.evaluation import evaluate_images
from diptych.ptycho.evaluate.halves import half_scan_frc
from diptych.ptycho.evaluate.options import EvaluationOptions
from diptych.ptycho.evaluate.resolution import fourier_ring_correlation
from diptych.ptycho.figures.area import UNLIT_LABEL
from diptych.ptycho.physics.illumination import illumination, lit
from diptych.ptycho.physics.measured import scanned_box
from diptych.ptycho.scan import Canvas, Reconstruction, Scan
from diptych.ptycho.simulate import simulate

NOISE = 0.03


def noisy(scan: Scan, *, wild: float, seed: int = 0, **fields: object) -> Reconstruction:
    """The truth with a little noise where light came, and noise of modulus ``wild`` elsewhere."""
    assert scan.truth is not None
    assert scan.true_probe is not None
    rng = np.random.default_rng(seed)
    truth = scan.truth
    light = illumination(scan.true_probe, scan.positions, truth.origin, truth.shape)
    noise = rng.normal(size=truth.shape) + 1j * rng.normal(size=truth.shape)
    values = truth.values + np.where(lit(light), NOISE / np.sqrt(2), wild) * noise
    y, x = np.indices(truth.shape)
    values = 0.7 * values * np.exp(0.02j * y - 0.01j * x)
    provenance = {"options": {"probe": "refine"}}
    return Reconstruction(
        Canvas(values.astype(np.complex64), truth.origin),
        scan.true_probe,
        scan.positions,
        provenance=provenance,
        illumination=light,
        **fields,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def spiral() -> Scan:
    return simulate(object="blocks", size=32, patterns=200, step=4, dose=1e4, trajectory="fermat-spiral", seed=2)


@pytest.fixture(scope="module")
def gap(spiral: Scan) -> Scan:
    """A raster from whose middle a strip is missing, with one position far away."""
    scan = simulate(object="blocks", size=32, patterns=400, step=4, dose=1e4, trajectory="jittered-raster", seed=3)
    kept = (np.abs(scan.positions[:, 0] - scan.positions[:, 0].mean()) > 22) & (
        scan.positions[:, 1] < scan.positions[:, 1].max() - 25
    )
    kept[np.argmax(scan.positions.sum(axis=1))] = True
    return replace(scan, counts=scan.counts[kept], positions=scan.positions[kept])


@pytest.mark.parametrize("which", ["spiral", "gap"])
def test_noise_without_light_has_no_influence(which, request):
    scan = request.getfixturevalue(which)
    found = {wild: evaluate(noisy(scan, wild=wild), scan.truth) for wild in (0.1, 5.0)}
    calm, stormy = found[0.1], found[5.0]
    size = np.sqrt(np.mean(np.abs(scan.truth.values) ** 2))
    assert calm["complex_error"] == pytest.approx(NOISE / size, rel=0.05)
    for key in ("complex_error", "phase_rms_rad", "amplitude_mae", "amplitude_ssim", "phase_ssim"):
        assert stormy[key] == pytest.approx(calm[key], rel=0.02), key
    detail = stormy.details["complex_error"]
    assert 0.2 < detail.lit_share < 0.99
    assert f"{100 * detail.lit_share:.3g} %" in str(stormy)
    # Among so much noise the shift may not be found: then the error is unknown (nan).
    whole = evaluate(noisy(scan, wild=5.0), scan.truth, crop="all")["complex_error"]
    assert np.isnan(whole) or whole > 0.5


def test_ring_correlation_of_a_disc_measures_the_lit_pixels(spiral):
    crossings = []
    for wild in (0.0, 5.0):
        # Smooth, so that it is resolved up to a known frequency and no further.
        result = noisy(spiral, wild=wild)
        found = evaluate(result, spiral.truth)
        crossings.append(found["frc50"])
    assert crossings[1] == pytest.approx(crossings[0], abs=0.03)
    box = evaluate_images(replace(result, illumination=None), spiral.truth, result.positions, EvaluationOptions())
    assert box["complex_error"] > 0.5


@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_ring_correlation_through_a_hard_edged_disc_would_not_vanish(slope):
    rng = np.random.default_rng(4)
    first, second = rng.normal(size=(2, 128, 128))
    y, x = np.indices((128, 128)) - 63.5
    disc = np.hypot(y, x) < 45
    # Independent noise on a common slope, which a hard edge would turn into common structure: 0.4 in the mean.
    common = 10 + slope * x
    through = fourier_ring_correlation(common + first, common + second, mask=disc)
    assert abs(through.correlation[20:].mean()) < 0.05


def test_ring_correlation_does_not_see_what_lies_outside_the_mask():
    rng = np.random.default_rng(5)
    image, first, second = rng.normal(size=(3, 128, 128))
    disc = np.hypot(*(np.indices((128, 128)) - 63.5)) < 45
    seen = [image + np.where(disc, 0.01, 5.0) * noise for noise in (first, second)]
    assert fourier_ring_correlation(*seen, mask=disc).correlation[2:].min() > 0.99
    assert fourier_ring_correlation(*seen).correlation.mean() < 0.9


@pytest.mark.parametrize(
    ("trajectory", "step", "dose", "seed"),
    [("raster", 5.0, 1e6, 1), ("jittered-raster", 4.0, 1e4, 2), ("jittered-raster", 4.0, 1e5, 3)],
)
def test_a_raster_scores_as_its_box(trajectory, step, dose, seed):
    scan = simulate(object="blocks", size=32, patterns=81, step=step, dose=dose, trajectory=trajectory, seed=seed)
    result = noisy(scan, wild=0.1, seed=seed)
    found = evaluate(result, scan.truth)
    before = evaluate_images(result, scan.truth, result.positions, EvaluationOptions())
    assert found.details["complex_error"].lit_share > 0.99
    assert before.details["complex_error"].lit_share is None
    for key, value in before.items():
        if np.isfinite(value):
            assert found[key] == pytest.approx(value, rel=0.02), key


def test_an_image_takes_the_illumination_of_the_scan(spiral):
    result = noisy(spiral, wild=5.0)
    own = evaluate(result, spiral.truth)
    image = evaluate(result.object, spiral)
    assert image["complex_error"] == pytest.approx(own["complex_error"], rel=0.02)
    unknown = evaluate(result.object, spiral.truth)
    assert unknown.details["complex_error"].lit_share is None
    assert "all of it counts" in str(unknown)


def test_compare_scores_the_same_lit_pixels_for_all(spiral):
    small = replace(spiral.truth, values=np.asarray(spiral.truth.values))
    methods = {"a": noisy(spiral, wild=5.0, seed=1), "b": noisy(spiral, wild=9.0, seed=2)}
    # As if fewer patterns had been used: its lit area is smaller, and limits that of all.
    light = methods["b"].illumination.copy()
    dark = int(np.mean(spiral.positions[:, 1])) + 10 - spiral.truth.origin[1]
    light[:, dark:] = 0
    methods["b"] = replace(methods["b"], illumination=light)
    table = compare(spiral, methods, truth=small)
    assert table.mask is not None
    assert table.mask.shape == tuple(np.diff(np.reshape(table.box, (2, 2))).ravel())
    edge = dark + spiral.truth.origin[1] - table.box[2]
    assert table.mask[:, :edge].any()
    assert not table.mask[:, edge:].any()
    for name in methods:
        assert table[name]["complex_error"] < 0.06
        assert table.details[name]["complex_error"].lit_share == table.lit_share
    assert "illuminated part" in table.table()
    legends = [ax.get_legend() for ax in table.plot().axes]
    assert [text.get_text() for each in legends if each for text in each.get_texts()].count(UNLIT_LABEL) == 1


def test_halves_are_compared_where_light_came(spiral):
    found = []
    for wild in (0.1, 5.0):
        seeds = iter((1, 2))
        halves = half_scan_frc(spiral, lambda half, wild=wild, seeds=seeds: noisy(spiral, wild=wild, seed=next(seeds)))
        counted = halves.alignment.counted
        first, second = (each.values[counted] for each in (halves.alignment.truth, halves.alignment.result))
        found.append((np.linalg.norm(second - first) / np.linalg.norm(first), halves.curve.correlation))
        assert 0.2 < halves.alignment.lit_share < 0.99
    assert found[1][0] == pytest.approx(found[0][0], rel=0.02)
    assert np.abs(found[1][1] - found[0][1]).max() < 0.02


def test_the_box_of_the_positions_still_bounds_the_area(spiral):
    found = evaluate(noisy(spiral, wild=0.1), spiral.truth, gauge="scale")
    assert found.alignment.truth.extent == scanned_box(spiral.positions)
