"""Results and their illumination: from an engine, in a file, from other programs, in figures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import diptych
from diptych.errors import InputError
from diptych.ptycho.figures.area import UNLIT_LABEL, shown_part
from diptych.ptycho.figures.overview import plot_reconstruction
from diptych.ptycho.io.results.light import UNKNOWN
from diptych.ptycho.physics.illumination import illumination, lit
from diptych.ptycho.scan import Canvas, Reconstruction, Scan


@pytest.fixture(scope="module")
def scan() -> Scan:
    return diptych.simulate(
        object="blocks", size=32, patterns=100, step=4, dose=1e4, trajectory="fermat-spiral", seed=2, probe_error=0.3
    )


@pytest.fixture(scope="module")
def result(scan: Scan) -> Reconstruction:
    return diptych.reconstruct(scan, epochs=25)


@pytest.mark.parametrize("engine", ["auto", "rpie", "epie", "dm"])
def test_engines_keep_unlit_pixels_near_one(scan, result, engine):
    found = result if engine == "auto" else diptych.reconstruct(scan, engine=engine, epochs=6)
    light = found.illumination
    assert light is not None
    expected = illumination(found.probe, found.positions, found.object.origin, found.object.shape)
    assert np.array_equal(light, expected)
    unlit = np.abs(found.object.values[~lit(light)])
    assert unlit.min() > 0.49
    assert unlit.max() < 1.51
    assert np.abs(found.object.values[light < 1e-3] - 1).max() < 1e-2


def test_lit_pixels_are_those_of_the_engine(scan, result, monkeypatch):
    monkeypatch.setattr("diptych.ptycho.engines.thick.result.settle_unlit", lambda image, light: image)
    wild = diptych.reconstruct(scan, epochs=25)
    known = lit(result.illumination)
    difference = np.abs(wild.object.values - result.object.values)
    assert difference[known].max() < 1e-5
    assert np.abs(np.abs(wild.object.values[~known]) - 1).max() > 0.6


def test_evaluate_agrees_with_a_mask_of_the_true_probe(scan, result):
    found = diptych.evaluate(result, truth=scan.truth)
    mine = lit(illumination(scan.true_probe, scan.positions, found.alignment.truth.origin, found.alignment.truth.shape))
    image, truth = (canvas.values[mine] for canvas in (found.alignment.result, found.alignment.truth))
    error = np.linalg.norm(image - truth) / np.linalg.norm(truth)
    assert found["complex_error"] == pytest.approx(error, rel=0.05)


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
def test_files_keep_the_illumination_and_old_ones_get_it(result, tmp_path, suffix):
    back = diptych.load(diptych.save(result, tmp_path / f"new{suffix}"))
    assert np.array_equal(back.illumination, result.illumination)
    old = diptych.load(diptych.save(replace(result, illumination=None), tmp_path / f"old{suffix}"))
    assert np.abs(old.illumination - result.illumination).max() < 1e-4 * result.illumination.max()


def test_results_of_other_programs(result, tmp_path):
    arrays = {"object": result.object.values, "probe": result.probe, "objectOrigin": result.object.origin}
    np.savez(tmp_path / "with.npz", **arrays, positions=result.positions)
    assert np.allclose(diptych.load(tmp_path / "with.npz").illumination, result.illumination, rtol=1e-4, atol=1e-3)
    np.savez(tmp_path / "without.npz", **arrays)
    np.savez(tmp_path / "elsewhere.npz", **arrays, positions=result.positions + 1000)
    for name in ("without", "elsewhere"):
        found = diptych.load(tmp_path / f"{name}.npz")
        assert found.illumination is None
        assert any(UNKNOWN in flag for flag in found.flags)


@pytest.mark.parametrize(
    "wrong", [np.ones((3, 3)), -np.ones((8, 8)), np.full((8, 8), np.nan), np.ones((8, 8), complex), "light"]
)
def test_a_wrong_illumination_is_refused(wrong):
    with pytest.raises(InputError, match="illumination"):
        Reconstruction(Canvas(np.ones((8, 8))), np.ones((4, 4)), np.empty((0, 2)), illumination=wrong)


def test_masked_frames_are_not_in_the_illumination(scan):
    mask = np.ones(scan.counts.shape, bool)
    far = np.argsort(-np.hypot(*(scan.positions - scan.positions.mean(axis=0)).T))[:20]
    mask[far] = False
    found = diptych.reconstruct(replace(scan, mask=mask), engine="rpie", epochs=2)
    kept = np.setdiff1d(np.arange(len(scan)), far)
    expected = illumination(found.probe, scan.positions[kept], found.object.origin, found.object.shape)
    assert np.allclose(found.illumination, expected, rtol=1e-4, atol=1e-3)


def test_figures_colour_by_lit_pixels_and_mark_the_others(result):
    """What unlit pixels hold changes neither colour ranges nor level and ramp of the phase."""
    known = lit(result.illumination)
    y, x = np.indices(known.shape)
    wild = np.where(known, result.object.values, 40 * np.exp(0.3j * y - 0.2j * x)).astype(np.complex64)
    calm = np.where(known, result.object.values, 1)
    figures = [plot_reconstruction(replace(result, object=replace(result.object, values=v))) for v in (calm, wild)]
    shown = shown_part(result).lit
    for title in ("Amplitude", "Phase"):
        images = [next(ax for ax in figure.axes if ax.get_title().startswith(title)).images[0] for figure in figures]
        assert images[1].get_clim() == pytest.approx(images[0].get_clim(), rel=1e-4)
        values = [np.asarray(image.get_array())[shown] for image in images]
        np.testing.assert_allclose(values[1], values[0], atol=1e-4)
    legend = next(ax for ax in figures[1].axes if ax.get_title() == "Amplitude").get_legend()
    assert legend.get_texts()[0].get_text() == UNLIT_LABEL


def test_an_isolated_position_does_not_shrink_the_picture(result):
    far = np.vstack([result.positions, result.positions.max(axis=0) + 300])
    side = int(far.max()) + 40
    big = replace(result, object=Canvas(np.ones((side, side), np.complex64), (0, 0)), positions=far, illumination=None)
    assert max(shown_part(big).canvas.shape) < 100
    assert max(shown_part(replace(big, positions=far[:4])).canvas.shape) < 100
