"""Slices: what is refused, what is recovered, interruption, and files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import diptych
from diptych.errors import InputError
from diptych.ptycho.engines.flags.base import SLICES, by_kind, faults
from diptych.ptycho.engines.thick import trials
from diptych.ptycho.engines.thick.stage import STAGE, Sliced, checkpoint_of
from diptych.ptycho.figures.slices import plot_slices
from diptych.ptycho.physics.illumination import lit
from diptych.ptycho.reconstruct import Interrupted
from diptych.ptycho.scan import Geometry, Reconstruction, Scan
from diptych.runtime.progress import Progress
from small_runs import same, solve

GEOMETRY: dict[str, Any] = {"energy_eV": 8e3, "distance_m": 2.0, "detector_pixel_m": 75e-6}


def spacing(size: int, depths_of_field: float) -> float:
    pixel, wavelength = Geometry(**GEOMETRY).object_pixel_m(size), Geometry(**GEOMETRY).wavelength_m
    assert pixel is not None
    assert wavelength is not None
    return depths_of_field * 2 * pixel[0] ** 2 / wavelength


def thick_scan(size: int = 32, depths_of_field: float = 8.0, **changes: Any) -> Scan:
    made: dict[str, Any] = {"object": "dead-leaves", "patterns": 64, "step": 3.0, "slices": 2, "seed": 1, **changes}
    return diptych.simulate(size=size, slice_distance_m=spacing(size, depths_of_field), **GEOMETRY, **made)


def phase(values: NDArray[Any], where: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Phase at some pixels, without its mean and ramp."""
    y, x = np.nonzero(where)
    design = np.stack([np.ones(len(y)), y, x], axis=1)
    found = np.angle(values * np.exp(-1j * np.angle(values[where].sum())))[where]
    return np.asarray(found - design @ np.linalg.lstsq(design, found, rcond=None)[0])


def correlations(result: Reconstruction, scan: Scan) -> NDArray[np.float64]:
    """Of the phase of each slice (rows) with that of each true one."""
    assert result.slices is not None
    assert result.illumination is not None
    assert scan.truth is not None
    assert scan.true_slices is not None
    (y, x), (h, w) = np.subtract(result.object.origin, scan.truth.origin), result.object.shape
    where = lit(result.illumination)
    rows = [phase(each, where) for each in result.slices]
    columns = [phase(each[y : y + h, x : x + w], where) for each in scan.true_slices]
    return np.array([[np.corrcoef(a, b)[0, 1] for b in columns] for a in rows])


@pytest.fixture(scope="module")
def scan() -> Scan:
    return thick_scan()


@pytest.fixture(scope="module")
def result(scan: Scan) -> Reconstruction:
    return solve(scan, engine="ml", slices=2, slice_distance_m=spacing(32, 8.0), epochs=40)


def test_two_layers_are_told_apart_where_one_slice_explains_nothing(scan: Scan, result: Reconstruction) -> None:
    """Eight depths of field apart: this seed ends in a local minimum from the plane in which the single slice lies."""
    found = correlations(result, scan)
    assert found.diagonal().min() > 0.8
    assert np.abs(found[~np.eye(2, dtype=bool)]).max() < 0.3
    about = result.provenance["slices"]
    assert about["fit_before"] > 5
    assert about["fit"] < 1.6
    assert about["fit"] == pytest.approx(result.provenance["held_out_fit"], rel=0.02)
    assert result.history["stage"][-1] == STAGE
    assert len({len(column) for column in result.history.values()}) == 1
    assert list(by_kind(result.flags)) == [SLICES]
    assert faults(result.flags) == ()


def test_the_object_is_the_product_in_the_usual_gauge(scan: Scan, result: Reconstruction) -> None:
    assert result.slices is not None
    np.testing.assert_allclose(result.slices.prod(0), result.object.values, rtol=1e-5, atol=1e-6)
    assert result.slices.dtype == np.complex64
    assert result.slice_distance_m == pytest.approx(spacing(32, 8.0))
    assert diptych.evaluate(result, scan.truth)["phase_ssim"] > 0.8
    with pytest.raises(InputError, match="one slice"):
        diptych.error_bars(result, scan)


@pytest.mark.parametrize("suffix", [".h5", ".npz", ".nxs"])
def test_a_saved_result_loads_equal(suffix: str, result: Reconstruction, tmp_path: Path) -> None:
    loaded = diptych.load(diptych.save(result, tmp_path / f"r{suffix}"))
    assert isinstance(loaded, Reconstruction)
    assert result.slices is not None
    assert loaded.slices is not None
    np.testing.assert_array_equal(loaded.slices, result.slices)
    np.testing.assert_array_equal(loaded.object.values, result.object.values)
    assert loaded.slice_distance_m == result.slice_distance_m
    assert loaded.object.origin == result.object.origin


@pytest.mark.parametrize("suffix", [".h5", ".npz", ".cxi"])
def test_products_keep_layers_and_their_spacing(suffix: str, result: Reconstruction, tmp_path: Path) -> None:
    """Written for Ptychodus, and read as if Ptychodus had written them."""
    import h5py

    from diptych.ptycho.io.writers.product import write_cxi_product, write_npz_product

    path = tmp_path / f"p{suffix}"
    if suffix == ".h5":
        diptych.save(result, path)
        with h5py.File(path, "r+") as file:
            del file["diptych"]
    else:
        (write_npz_product if suffix == ".npz" else write_cxi_product)(result, path)
    loaded = diptych.load(path)
    assert isinstance(loaded, Reconstruction)
    assert result.slices is not None
    assert loaded.slices is not None
    np.testing.assert_array_equal(loaded.slices, result.slices)
    assert loaded.slice_distance_m == pytest.approx(result.slice_distance_m)
    np.testing.assert_allclose(loaded.object.values, result.object.values, rtol=1e-5, atol=1e-6)


def test_the_figure_shows_each_slice_at_its_depth(result: Reconstruction, scan: Scan) -> None:
    titles = [ax.get_title() for ax in plot_slices(result).axes]
    assert [title for title in titles if title.startswith("Slice")] == [
        "Slice 1 at 0: amplitude",
        "Slice 2 at 1.72 mm: amplitude",
        "Slice 1 at 0: phase",
        "Slice 2 at 1.72 mm: phase",
    ]
    with pytest.raises(InputError, match="one slice"):
        plot_slices(Reconstruction(result.object, result.probe, result.positions))


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"slices": 2}, "without a distance"),
        ({"slice_distance_m": 1e-6}, "with one slice"),
        ({"slices": 2, "slice_distance_m": 1e-6, "engine": "rpie"}, "engine auto or ml"),
        ({"slices": 2, "slice_distance_m": 1e-6, "refine_distance": "on"}, "fits of one slice"),
        ({"slices": 2, "slice_distance_m": 1e-6, "regularisation": "auto"}, "made for one slice"),
        ({"slices": 2, "slice_distance_m": 1e-6, "error_bars": True}, "no error bars"),
        ({"slices": 2, "slice_distance_m": -1.0}, "slice_distance_m"),
        ({"slices": 0}, "slices"),
    ],
)
def test_what_does_not_go_with_slices_is_refused(options: dict[str, Any], part: str, scan: Scan) -> None:
    with pytest.raises(InputError, match=part):
        solve(scan, **options)


def test_a_scan_that_lacks_lengths_is_refused_with_what_is_missing() -> None:
    scan = diptych.simulate(object="blocks", size=16, patterns=9, step=2.0, energy_eV=8e3, seed=0)
    with pytest.raises(InputError, match="lacks distance_m, detector_pixel_m"):
        solve(scan, slices=2, slice_distance_m=1e-6)


def test_the_note_says_where_one_slice_does_as_well() -> None:
    assert "One slice explains" not in Sliced(2, 1e-6, 4.0, 5.0, 1.1).flag()
    assert "One slice explains the counts as well" in Sliced(2, 1e-9, 0.01, 1.02, 1.02).flag()


def stop_in(stage: str, epochs: int) -> Callable[[Progress], None]:
    def callback(report: Progress) -> None:
        if report.stage.startswith(stage) and report.done == epochs:
            raise KeyboardInterrupt

    return callback


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the trials: from the single slice. Among the slices: from their last state. Both bit for bit."""
    monkeypatch.setattr(trials, "STEPS", 4)
    scan = thick_scan(16, 5.0, patterns=36, step=2.0)
    how: dict[str, Any] = {"slices": 2, "slice_distance_m": spacing(16, 5.0), "epochs": 10, "engine": "ml"}
    whole = solve(scan, **how)
    # Some runs end in the trial of frame factors, which must not reach the slices.
    assert whole.provenance["held_out_fit"] == pytest.approx(whole.provenance["slices"]["fit"], rel=0.02)
    for stage, epochs in (("trial", 3), ("2 slices", 4)):
        path = tmp_path / f"{epochs}.npz"
        with pytest.raises(Interrupted) as caught:
            solve(scan, progress=stop_in(stage, epochs), checkpoint=path, **how)
        best = caught.value.result
        assert (best.slices is None) == (stage == "trial")
        assert "interrupted" in by_kind(best.flags)
        assert checkpoint_of(path).exists() == (stage == "2 slices")
        resumed = solve(scan, checkpoint=path, resume=True, **how)
        assert same(resumed, whole)
        assert resumed.slices is not None
        assert whole.slices is not None
        np.testing.assert_array_equal(resumed.slices, whole.slices)


@pytest.mark.integration
def test_positions_are_refined_with_slices_and_the_run_goes_on(tmp_path: Path) -> None:
    scan = thick_scan(position_error=0.5, seed=2)
    how: dict[str, Any] = {"slices": 2, "slice_distance_m": spacing(32, 8.0), "correct_positions": "on", "epochs": 60}
    how["engine"] = "ml"
    whole = solve(scan, **how)
    true = np.array(scan.metadata["simulation"]["true_positions"])

    def error(positions: NDArray[np.float64]) -> float:
        off = positions - true
        return float(np.sqrt(((off - off.mean(0)) ** 2).mean()))

    assert error(whole.positions) < 0.3 * error(scan.positions)
    assert correlations(whole, scan).diagonal().min() > 0.8
    with pytest.raises(Interrupted):
        solve(scan, progress=stop_in("2 slices", 9), checkpoint=tmp_path / "c.npz", **how)
    resumed = solve(scan, checkpoint=tmp_path / "c.npz", resume=True, **how)
    assert same(resumed, whole)
    np.testing.assert_array_equal(resumed.positions, whole.positions)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("changes", "depths", "least"),
    [
        ({"object": "natural", "probe_error": 1.0, "seed": 2}, 8.0, 0.9),
        ({"object": "natural", "probe_error": 0.5, "seed": 7}, 3.0, 0.85),
        ({"object": "dead-leaves", "slices": 3, "seed": 5}, 6.0, 0.8),
        ({"object": "dead-leaves", "dose": 1e5, "probe_error": 1.0}, 8.0, 0.85),
    ],
)
def test_other_objects_probes_and_numbers_of_slices(changes: dict[str, Any], depths: float, least: float) -> None:
    scan = thick_scan(depths_of_field=depths, **{"patterns": 100, **changes})
    result = solve(scan, slices=changes.get("slices", 2), slice_distance_m=spacing(32, depths))
    found = correlations(result, scan)
    others = np.abs(found[~np.eye(len(found), dtype=bool)])
    assert found.diagonal().min() > least
    assert others.max() < 0.5
    assert result.provenance["held_out_fit"] < 1.5
