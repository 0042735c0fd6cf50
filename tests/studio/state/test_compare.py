from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import numpy as np
import pytest

import diptych
from diptych.errors import InputError
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.ptycho.scan import Canvas, Reconstruction
from diptych.studio.context import Studio
from diptych.studio.options import StudioOptions
from diptych.studio.state.compare.compared import compare_results, read_comparison
from diptych.studio.state.compare.page import ComparePage, level, short_names


def result(turn: float = 0.0, noise: float = 0.0, name: str = "a") -> Reconstruction:
    """An object of blocks, times a global phase, with noise."""
    rng = np.random.default_rng(3)
    values = np.kron(rng.uniform(0.5, 1.5, (12, 12)), np.ones((8, 8)))
    phase = np.kron(rng.uniform(-1, 1, (12, 12)), np.ones((8, 8)))
    added = noise * (rng.normal(size=values.shape) + 1j * rng.normal(size=values.shape))
    positions = np.stack(np.meshgrid(np.arange(16.0, 80, 8), np.arange(16.0, 80, 8)), -1).reshape(-1, 2)
    canvas = Canvas((values * np.exp(1j * (phase + turn)) + added).astype(np.complex64), pixel_m=(1e-8, 1e-8))
    light = np.full(values.shape, 100, np.float32)
    return Reconstruction(canvas, np.ones((1, 16, 16), np.complex64), positions, illumination=light, name=name)


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    for name, made in (("one", result()), ("two", result(0.7)), ("three", result(0.2, 0.05))):
        diptych.save(made, tmp_path / f"{name}.h5")
    return Studio(StudioOptions(data=(tmp_path,)))


def test_results_are_compared_up_to_what_the_data_leave_free() -> None:
    found = compare_results({"one": result(), "two": result(0.7), "three": result(0.2, 0.05)}, "one")
    assert found.others == ["two", "three"]
    assert found.values["two"]["complex_error"] < 1e-3 < found.values["three"]["complex_error"]
    shapes = {each.shape for each in found.aligned.values()}
    assert len(shapes) == 1
    np.testing.assert_allclose(found.aligned["two"], found.aligned["one"], atol=1e-3)
    assert "removed" in found.gauges["two"]
    assert max(found.curves["two"][1]) <= 1 + 1e-6
    row = next(row for row in found.rows() if row["metric"].startswith("complex_error"))
    assert float(row["two"]) == pytest.approx(found.values["two"]["complex_error"], rel=1e-2, abs=1e-6)


def test_table_gives_the_reason_of_undefined_values() -> None:
    found = compare_results({"one": result(), "two": result(0.7)}, "one")
    undefined = [name for name, value in found.values["two"].items() if not math.isfinite(value)]
    assert undefined
    text = {row["metric"].split(" ")[0]: row["two"] for row in found.rows()}
    assert all(text[name].startswith("undefined: ") and len(text[name]) > 15 for name in undefined)


def test_csv_has_a_line_for_every_value() -> None:
    found = compare_results({"one": result(), "two": result(0.7), "three": result(0.2, 0.05)}, "one")
    lines = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert len(lines) == sum(len(each) for each in found.values.values())
    assert {line["model"] for line in lines} == {"two", "three"}
    assert all(line["gauge"] for line in lines)
    curves = list(csv.DictReader(io.StringIO(found.curves_csv())))
    assert len(curves) == sum(len(frequency) for frequency, _ in found.curves.values())


def test_levelling_keeps_differences() -> None:
    found = compare_results({"one": result(0.4), "three": result(0.2, 0.05)}, "one")
    turned = level(found)
    assert abs(np.angle(turned.aligned["one"].sum())) < 1e-3
    before = np.abs(found.aligned["one"] - found.aligned["three"])
    np.testing.assert_allclose(np.abs(turned.aligned["one"] - turned.aligned["three"]), before, atol=1e-5)


def test_one_result_is_nothing_to_compare() -> None:
    with pytest.raises(InputError, match="at least two"):
        compare_results({"one": result()}, "one")


def quick(engine: str) -> ReconstructionOptions:
    return ReconstructionOptions.build({"engine": engine, "epochs": 5})


def test_a_run_of_compare_is_read_back(tmp_path: Path) -> None:
    scan = diptych.simulate(object="blocks", size=24, patterns=64, step=6.0, dose=1e5, seed=0)
    table = diptych.compare(scan, {"rpie": quick("rpie"), "epie": quick("epie")})
    folder = table.save(tmp_path / "run")
    found = read_comparison(folder)
    assert found.reference == "truth"
    assert set(found.aligned) == {"truth", "rpie", "epie"}
    assert found.values["rpie"]["complex_error"] == pytest.approx(table["rpie"]["complex_error"])
    assert found.origin == table.origin
    assert set(found.curves) == {"rpie", "epie"}
    np.testing.assert_allclose(found.curves["epie"][1], table.curves["epie"].correlation)
    page = ComparePage(Studio(StudioOptions(data=(tmp_path,))))
    page.show("run")
    assert page.collect()
    assert list(page.aligned_keys()) == ["truth", "rpie", "epie"]
    with pytest.raises(InputError, match="outside"):
        page.show("../run")
    (folder / "comparison.json").write_text("{}")
    with pytest.raises(InputError, match="no comparison"):
        read_comparison(folder)


def test_page_compares_files_in_a_job(studio: Studio) -> None:
    page = ComparePage(studio)
    assert page.problem
    assert len(page.results()) == 3
    page.choose(["one.h5", "two.h5"])
    assert (list(page.files), page.reference, page.problem) == (["one", "two"], "one", "")
    before = page.revision
    assert page.start().wait(60)
    assert page.job is not None
    assert page.job.state == "done", page.job.error
    assert page.collect()
    assert page.revision > before
    difference = studio.images[page.difference_keys()["two"]]
    values = difference.quantities["complex-difference"].read(0, (slice(None), slice(None)))
    assert values.max() < 1e-3
    assert [studio.images[key].name for key in page.aligned_keys().values()] == ["one", "two"]
    page.choose(["one.h5"])
    assert page.compared is None
    studio.close()


def test_page_says_why_a_comparison_failed(studio: Studio, tmp_path: Path) -> None:
    page = ComparePage(studio)
    page.choose(["one.h5", "two.h5"])
    (tmp_path / "two.h5").write_bytes(b"no result")
    job = page.start()
    assert job.wait(60)
    assert job.state == "failed"
    assert "two.h5" in job.error
    assert not page.collect()
    studio.close()


def test_a_result_is_taken_once(studio: Studio, tmp_path: Path) -> None:
    page = ComparePage(studio)
    page.choose(["one.h5", str(tmp_path / "one.h5"), "two.h5"])
    assert list(page.files) == ["one", "two"]
    studio.close()


def test_paths_outside_the_data_folders_are_refused(studio: Studio) -> None:
    page = ComparePage(studio)
    for path in ("../x.h5", "/etc/passwd", "missing.h5"):
        with pytest.raises(InputError):
            page.choose([path])
    assert page.files == {}
    studio.close()


def test_names_tell_files_apart() -> None:
    paths = [Path("runs/a-1/result.h5"), Path("runs/a-2/result.h5"), Path("x/b.h5"), Path("y/b.h5"), Path("truth.npz")]
    assert short_names(paths) == ["a-1", "a-2", "b", "b-2", "truth-file"]
    odd = short_names([Path("<script>alert(1)</script>.h5"), Path("....h5"), Path(f"{'long' * 30}.h5")])
    from diptych.ptycho.evaluate.methods import check_names

    check_names(dict.fromkeys(odd))
