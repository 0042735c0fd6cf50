"""compare: one area, one reference, the numbers of ``evaluate``, and methods that fail without affecting others."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.text import Text

import diptych
import diptych.ptycho.reconstruct as reconstruct_module
from diptych.errors import InputError, UnavailableError
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.ptycho.evaluate.compare import CompareOptions, ComparisonInterrupted
from diptych.ptycho.evaluate.comparison import COLUMNS, CURVE_COLUMNS
from diptych.ptycho.evaluate.options import EvaluationOptions
from diptych.ptycho.scan import Canvas, Reconstruction, Scan
from diptych.ptycho.simulate import simulate
from diptych.runtime.device import ExecutionOptions
from diptych.runtime.progress import Progress


@pytest.fixture(scope="module")
def small() -> Scan:
    """64 patterns of 32 x 32, with their truth."""
    return simulate(object="blocks", size=32, patterns=64, step=4.0, dose=1e5, probe_error=0.5, seed=0)


@pytest.fixture(scope="module")
def noisy(small: Scan) -> Callable[..., Reconstruction]:
    """The truth with complex Gaussian noise, as a result."""

    def make(level: float, seed: int = 0, probe: str = "refine", **provenance: Any) -> Reconstruction:
        rng = np.random.default_rng(seed)
        truth = small.truth
        assert truth is not None
        noise = rng.normal(size=truth.shape) + 1j * rng.normal(size=truth.shape)
        image = replace(truth, values=(truth.values + level * noise).astype(np.complex64))
        return Reconstruction(
            image, small.probe, small.positions, provenance={"options": {"probe": probe}, **provenance}
        )

    return make


@dataclass
class Network:
    """Stands in for a trained network; records how it was called."""

    result: Reconstruction
    fails: BaseException | None = None
    calls: list[dict[str, Any]] = field(default_factory=list)

    def reconstruct(self, scan: Scan, *, progress: Any, execution: ExecutionOptions, **rest: Any) -> Reconstruction:
        self.calls.append({"progress": progress, "execution": execution, **rest})
        if self.fails is not None:
            raise self.fails
        if progress is not None:
            progress(Progress("inference", 1, 1))
        return self.result


def same(first: Any, second: Any) -> bool:
    """Whether two rows hold the same numbers, NaN for NaN, apart from times."""
    timed = ("seconds", "patterns_per_second")
    return str({k: v for k, v in first.items() if k not in timed}) == str(
        {k: v for k, v in second.items() if k not in timed}
    )


def test_engines_networks_results_and_files_are_compared_in_one_call(small: Scan, noisy: Any, tmp_path: Path) -> None:
    noisy(0.1, 1).save(tmp_path / "other.npz")
    stages: list[str] = []
    methods = {
        "network": Network(noisy(0.02)),
        "engine": ReconstructionOptions(engine="rpie", epochs=8),
        "other": str(tmp_path / "other.npz"),
        "mine": noisy(0.05, 2),
    }
    table = diptych.compare(small, methods, truth=small.truth, progress=lambda report: stages.append(report.stage))
    assert [row["method"] for row in table.rows] == list(methods)
    assert [row["kind"] for row in table.rows] == ["network", "engine rpie", "result", "result"]
    assert table["network"]["complex_error"] < table["mine"]["complex_error"] < table["other"]["complex_error"]
    assert table["engine"]["complex_error"] < 0.2
    assert {stage.split(":")[0] for stage in stages} == {"network", "engine"}
    assert "engine: rpie" in stages
    assert table.reference == "truth"
    assert table.errors == {}


def test_the_numbers_are_those_of_evaluate(small: Scan, noisy: Any) -> None:
    result = noisy(0.05)
    alone, table = diptych.evaluate(result, truth=small), diptych.compare(small, {"a": result, "b": noisy(0.1, 1)})
    row = table["a"]
    for name, value in alone.items():
        np.testing.assert_equal(row[name], value)
    assert (row["shift_y_px"], row["shift_x_px"]) == alone.alignment.shift
    assert row["gauge"] == "full"
    np.testing.assert_array_equal(table.curves["a"].correlation, alone.curves["truth"].correlation)
    np.testing.assert_allclose(table.aligned["a"], alone.alignment.result.values, rtol=1e-6)
    assert "176" in table.details["a"]["phase_ms_ssim"].reason


def test_all_methods_are_evaluated_on_the_area_that_all_cover(small: Scan, noisy: Any) -> None:
    whole = noisy(0.05)
    y0, y1, x0, x1 = diptych.compare(small, {"whole": whole}).box
    cut = replace(whole, object=whole.object.crop(y0 + 4, y1 + 8, x0 - 8, x1 - 5))
    table = diptych.compare(small, {"whole": whole, "cut": cut})
    # Beyond the cut edges lies a pixel for the sub-pixel part of the shift.
    assert table.box == (y0 + 5, y1, x0, x1 - 6)
    assert {image.shape for image in table.aligned.values()} == {(y1 - y0 - 5, x1 - x0 - 6)}
    assert table.aligned.keys() == {"truth", "whole", "cut"}
    assert table["cut"]["complex_error"] == pytest.approx(table["whole"]["complex_error"], rel=0.02)
    assert "'cut' covers" in " ".join(table.notes)
    ys, xs = slice(y0 + 5 - small.truth.origin[0], None), slice(x0 - small.truth.origin[1], None)
    expected = small.truth.values[ys, xs][: y1 - y0 - 5, : x1 - x0 - 6]
    np.testing.assert_allclose(table.aligned["truth"], expected, atol=1e-6)


def test_a_result_that_lies_elsewhere_fails_alone(small: Scan, noisy: Any) -> None:
    good, away = noisy(0.05), noisy(0.05)
    rng = np.random.default_rng(3)
    other = np.exp(1j * rng.normal(size=away.object.shape)).astype(np.complex64)
    away = replace(away, object=Canvas(other, (away.object.origin[0] + 60, away.object.origin[1])))
    alone, table = diptych.compare(small, {"good": good}), diptych.compare(small, {"away": away, "good": good})
    assert "Check the origin" in table.errors["away"]
    assert "covers" in table.errors["away"]
    assert table["away"]["complex_error"] is None
    assert table.box == alone.box
    assert same(table["good"], alone["good"])


@pytest.mark.parametrize("moved", [(60, 0), (-500, 800)])
def test_a_result_in_other_coordinates_is_compared_where_it_agrees(
    small: Scan, noisy: Any, moved: tuple[int, int]
) -> None:
    plain = noisy(0.05)
    origin = (plain.object.origin[0] + moved[0], plain.object.origin[1] + moved[1])
    away = replace(plain, object=replace(plain.object, origin=origin))
    table = diptych.compare(small, {"plain": plain, "away": away})
    assert not table.errors
    assert table["away"]["complex_error"] == pytest.approx(table["plain"]["complex_error"], rel=0.02)
    assert (table["away"]["shift_y_px"], table["away"]["shift_x_px"]) == pytest.approx(moved, abs=0.2)
    assert f"'away' lies at {moved} px" in " ".join(table.notes)


def test_a_displaced_scaled_and_ramped_result_is_as_good_as_it_was(small: Scan, noisy: Any) -> None:
    result = noisy(0.02)
    y, x = (np.arange(n) for n in result.object.shape)
    turned = 0.7j * result.object.values * np.exp(0.05j * y)[:, None] * np.exp(-0.02j * x)
    moved = replace(result, object=Canvas(turned, (result.object.origin[0] + 3, result.object.origin[1] - 2)))
    table = diptych.compare(small, {"plain": result, "moved": moved})
    assert table["moved"]["complex_error"] == pytest.approx(table["plain"]["complex_error"], rel=0.05)
    assert table["moved"]["shift_y_px"] == pytest.approx(3, abs=0.1)
    assert table["moved"]["shift_x_px"] == pytest.approx(-2, abs=0.1)


def test_gauges_follow_the_probe_with_a_note_where_they_differ_and_can_be_set(small: Scan, noisy: Any) -> None:
    methods = {"free": noisy(0.05), "fixed": noisy(0.05, probe="fixed")}
    table = diptych.compare(small, methods)
    assert [row["gauge"] for row in table.rows] == ["full", "phase"]
    assert table["fixed"]["shift_y_px"] is None
    assert any("gauges differ" in note for note in table.notes)
    table = diptych.compare(small, methods, gauge="scale")
    assert [row["gauge"] for row in table.rows] == ["scale", "scale"]
    assert table.notes == ()
    assert table["free"]["complex_error"] == table["fixed"]["complex_error"]


def test_options_that_evaluate_has_mean_the_same_here() -> None:
    for name in CompareOptions().evaluation.model_fields_set:
        mine, theirs = (model.model_fields[name] for model in (CompareOptions, EvaluationOptions))
        assert (mine.annotation, mine.default, mine.description) == (
            theirs.annotation,
            theirs.default,
            theirs.description,
        )
        assert mine.metadata == theirs.metadata
    with pytest.raises(InputError, match="max_shift = -1"):
        CompareOptions().with_changes(max_shift=-1)


def test_area_shift_and_convention_reach_the_evaluation(small: Scan, noisy: Any) -> None:
    methods = {"a": noisy(0.05)}
    default, everywhere = diptych.compare(small, methods), diptych.compare(small, methods, crop="all")
    assert everywhere.box[0] < default.box[0]
    moved = replace(
        methods["a"], object=replace(methods["a"].object, origin=tuple(n + 13 for n in methods["a"].object.origin))
    )
    found = [
        diptych.compare(small, {"a": moved}, crop="all", max_shift=reach)["a"]["complex_error"] for reach in (1, 16)
    ]
    assert found[0] > 2 * found[1]
    published = diptych.compare(small, methods, convention="ptychopinn")
    assert all(name.endswith("_ptychopinn") for name in published.metrics)
    assert (
        published["a"]["phase_ssim_ptychopinn"]
        == diptych.evaluate(methods["a"], small, convention="ptychopinn")["phase_ssim_ptychopinn"]
    )
    assert "phase_ssim_ptychopinn" in str(diptych.compare(small, methods, convention="both").details["a"])


def test_without_a_truth_a_method_is_the_reference(small: Scan, noisy: Any) -> None:
    measured = replace(small, truth=None)
    methods = {"other": noisy(0.1, 1), "engine": noisy(0.02)}
    table = diptych.compare(measured, methods)
    assert table.reference == "engine"
    assert list(table.aligned) == ["engine", "other"]
    assert table["engine"]["complex_error"] is None
    against = diptych.compare(measured, {"other": methods["other"]}, truth=methods["engine"])
    assert same(table["other"], against["other"])
    assert "reference: engine" in str(table)
    assert "the method 'engine' is the reference" in str(table)
    assert diptych.compare(small, methods, reference="other").reference == "other"


@pytest.mark.parametrize("kind", ["canvas", "scan", "result", "file"])
def test_the_truth_may_be_of_several_kinds(small: Scan, noisy: Any, tmp_path: Path, kind: str) -> None:
    diptych.save(small, tmp_path / "small.npz")
    truths = {
        "canvas": small.truth,
        "scan": small,
        "file": tmp_path / "small.npz",
        "result": replace(noisy(0), object=small.truth),
    }
    measured = replace(small, truth=None)
    table = diptych.compare(measured, {"a": noisy(0.05)}, truth=truths[kind])
    assert table["a"]["complex_error"] == pytest.approx(
        diptych.compare(small, {"a": noisy(0.05)})["a"]["complex_error"], rel=1e-6
    )


def test_a_failing_method_costs_no_other(small: Scan, noisy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    methods = {"bad": Network(noisy(0), fails=InputError("it was trained on 64 x 64")), "good": noisy(0.05)}
    table = diptych.compare(small, {**methods, "absent": Network(noisy(0), fails=UnavailableError("no GPU here"))})
    assert table.errors == {"bad": "it was trained on 64 x 64", "absent": "no GPU here"}
    assert same(table["good"], diptych.compare(small, {"good": methods["good"]})["good"])
    assert "bad failed: it was trained on 64 x 64" in str(table)
    with pytest.raises(InputError, match=r"no method could be compared \(bad: it was trained"):
        diptych.compare(small, {"bad": methods["bad"]})
    with pytest.raises(InputError, match="the reference method 'bad' failed"):
        diptych.compare(small, methods, reference="bad")
    with pytest.raises(ZeroDivisionError):
        diptych.compare(small, {"fault": Network(noisy(0), fails=ZeroDivisionError()), "good": methods["good"]})


def test_ctrl_c_keeps_the_finished_methods(small: Scan, noisy: Any) -> None:
    stopped = Network(noisy(0), fails=KeyboardInterrupt())
    with pytest.raises(ComparisonInterrupted) as stop:
        diptych.compare(small, {"good": noisy(0.05), "stopped": stopped, "never": Network(noisy(0))})
    found = stop.value.comparison
    assert found["good"]["complex_error"] > 0
    assert found.errors == dict.fromkeys(["stopped", "never"], "interrupted before it was done")
    with pytest.raises(KeyboardInterrupt) as plain:
        diptych.compare(small, {"stopped": stopped, "good": noisy(0.05)}, reference="stopped")
    assert not isinstance(plain.value, ComparisonInterrupted)


def test_the_chunk_bounds_the_network_and_changes_no_number(small: Scan, noisy: Any) -> None:
    network, execution = Network(noisy(0.05)), ExecutionOptions(device="cpu", threads=1)
    rows = [diptych.compare(small, {"a": network}, chunk=chunk, execution=execution)["a"] for chunk in (None, 7)]
    assert [call.get("network_batch", "not passed") for call in network.calls] == ["not passed", 7]
    assert network.calls[0]["execution"] is execution
    assert same(*rows)


def test_the_engine_is_run_with_its_own_defaults(small: Scan, noisy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def solve(scan: Scan, **given: Any) -> Reconstruction:
        calls.append(given)
        return noisy(0.05)

    monkeypatch.setattr(reconstruct_module, "reconstruct", solve)
    execution = ExecutionOptions(device="cpu")
    table = diptych.compare(small, {"a": "auto", "b": "dm"}, execution=execution, chunk=5)
    assert [given["options"] for given in calls] == [ReconstructionOptions(), ReconstructionOptions(engine="dm")]
    assert calls[0]["execution"] is execution
    assert [row["timed"] for row in table.rows] == ["measured", "measured"]


def test_a_result_keeps_the_time_that_it_records(small: Scan, noisy: Any) -> None:
    table = diptych.compare(small, {"timed": noisy(0.05, seconds=2.0), "untimed": noisy(0.05)})
    assert (table["timed"]["seconds"], table["timed"]["timed"], table["timed"]["patterns_per_second"]) == (
        2.0,
        "recorded",
        32.0,
    )
    assert (table["untimed"]["seconds"], table["untimed"]["timed"], table["untimed"]["patterns_per_second"]) == (
        None,
        None,
        None,
    )


def test_results_of_other_programs_need_no_positions(small: Scan, noisy: Any, tmp_path: Path) -> None:
    image = noisy(0.05).object
    where = {"objectOrigin": np.array(image.origin)}
    np.savez(tmp_path / "theirs.npz", reconstructed_object=image.values, reconstructed_probe=small.probe, **where)
    table = diptych.compare(small, {"theirs": tmp_path / "theirs.npz", "ours": noisy(0.05)})
    assert table["theirs"]["complex_error"] == pytest.approx(table["ours"]["complex_error"], rel=1e-5)


def test_a_bundle_is_loaded_as_a_network(
    small: Scan, noisy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"weights")
    network, loaded = Network(noisy(0.05)), []
    bundle = SimpleNamespace(load_model=lambda path: loaded.append(path) or network, Model=type("Model", (), {}))
    monkeypatch.setitem(sys.modules, "diptych.ptycho.neural.model", bundle)
    table = diptych.compare(small, {"net": str(path)})
    assert (loaded, len(network.calls), table["net"]["kind"]) == ([str(path)], 1, "network")


@pytest.mark.parametrize(
    ("methods", "given", "phrase"),
    [
        ({}, {}, "no method is given"),
        ({"a": "magic"}, {}, "method 'a': 'magic' is neither an engine nor an existing file; expected one of auto, ml"),
        ({"a": "network"}, {}, "method 'a': 'network' is neither an engine nor an existing file"),
        ({"a": 3}, {}, "method 'a': is a int; expected a Reconstruction"),
        ({"truth": "auto"}, {}, "method 'truth': cannot be used as a name"),
        ({"a/b": "auto"}, {}, "method 'a/b': cannot be used as a name"),
        ({"a": "auto"}, {"reference": "b"}, "reference 'b': is not among the methods; expected one of a"),
        ({"a": "auto"}, {"reference": "a"}, "the only method"),
        (
            {"a": "auto", "b": "ml"},
            {"reference": "a", "truth": Canvas(np.ones((99, 99), complex))},
            "Leave one out",
        ),
        ({"a": "auto"}, {"truth": Canvas(np.ones((9, 9), complex), (900, 0))}, "truth: covers y 900..909"),
        ({"a": "auto"}, {"truth": 3}, "truth: is a int"),
        ({"a": "auto"}, {"truth": "absent.npz"}, "absent.npz: there is no such file"),
        ({"a": "auto"}, {"gauge": "most"}, "gauge = 'most'"),
    ],
)
def test_wrong_methods_are_errors_before_any_work(
    small: Scan, monkeypatch: pytest.MonkeyPatch, methods: dict[str, Any], given: dict[str, Any], phrase: str
) -> None:
    monkeypatch.setattr(reconstruct_module, "reconstruct", lambda *a, **k: pytest.fail("work was done"))
    with pytest.raises(InputError) as error:
        diptych.compare(small, methods, **given)
    assert phrase in str(error.value)


def test_a_measured_scan_needs_a_reference(small: Scan, noisy: Any) -> None:
    with pytest.raises(InputError, match=r"has no truth .* Pass truth= .*: a, b"):
        diptych.compare(replace(small, truth=None), {"a": noisy(0), "b": noisy(0)})
    with pytest.raises(InputError, match="the scan is a str; expected a Scan"):
        diptych.compare("scan.npz", {"a": "auto"})


def test_the_files_hold_what_the_table_says(small: Scan, noisy: Any, tmp_path: Path) -> None:
    broken = Network(noisy(0), fails=InputError("it broke"))
    table = diptych.compare(small, {"a": noisy(0.05, seconds=1.5), "b": noisy(0.1, 1), "broken": broken})
    table.save(tmp_path / "out")
    names = {"comparison.csv", "comparison.json", "frc.csv", "aligned.npz", "comparison.png"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    with (tmp_path / "out" / "comparison.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert tuple(lines[0]) == COLUMNS
    values = {(line["model"], line["metric"]): line for line in lines}
    assert float(values["b", "complex_error"]["value"]) == table["b"]["complex_error"]
    assert float(values["a", "seconds"]["value"]) == 1.5
    assert "176" in values["a", "phase_ms_ssim"]["reason"]
    assert values["broken", "error"]["reason"] == "it broke"
    record = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert record == table.to_dict()
    assert record["rows"][0]["complex_error"] == table["a"]["complex_error"]
    assert record["rows"][0]["phase_ms_ssim"] is None
    with (tmp_path / "out" / "frc.csv").open(newline="") as stream:
        curve = list(csv.DictReader(stream))
    assert tuple(curve[0]) == CURVE_COLUMNS
    assert [float(line["correlation"]) for line in curve if line["model"] == "b"] == table.curves[
        "b"
    ].correlation.tolist()
    with np.load(tmp_path / "out" / "aligned.npz", allow_pickle=False) as arrays:
        assert set(arrays) == {"truth", "a", "b", "origin", "pixel_m"}
        np.testing.assert_array_equal(arrays["a"], table.aligned["a"])
        assert tuple(arrays["origin"]) == table.origin
        error = np.linalg.norm(arrays["b"] - arrays["truth"]) / np.linalg.norm(arrays["truth"])
        assert error == pytest.approx(table["b"]["complex_error"], rel=1e-5)


def test_the_figure_shows_every_method_in_the_colour_range_of_the_reference(small: Scan, noisy: Any) -> None:
    table = diptych.compare(small, {"a": noisy(0.02), "b": noisy(0.2, 1)})
    figure = table.plot()
    images = [ax.images[0] for ax in figure.axes if ax.images and ax.get_title() != ""]
    amplitudes = [image for image in images if image.get_array().min() >= 0]
    assert len({image.get_clim() for image in amplitudes[:3]}) == 1
    texts = " ".join(text.get_text() for text in figure.findobj(Text))
    assert f"a: error {table['a']['complex_error']:.3g}" in texts
    assert f"phase rms {table['b']['phase_rms_rad']:.3g} rad" in texts
    assert "5 px" in texts
    curves = next(ax for ax in figure.axes if "ring correlation" in ax.get_ylabel())
    assert [line.get_label().split(":")[0] for line in curves.lines[:2]] == ["a", "b"]


def test_the_same_comparison_gives_the_same_numbers(small: Scan) -> None:
    methods = {"engine": ReconstructionOptions(engine="rpie", epochs=3)}
    assert same(*(diptych.compare(small, methods)["engine"] for _ in range(2)))
