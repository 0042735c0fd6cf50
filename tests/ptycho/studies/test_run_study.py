"""Studies: cells, manifest, resume, cancel, failed cells, stale folders, dry run."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from pydantic import Field

from diptych.errors import InputError
from diptych.ptycho.figures.studies import Panel, plot_curves
from diptych.ptycho.studies import (
    STUDIES,
    Cell,
    CellResult,
    Estimate,
    Study,
    StudyOptions,
    StudyRun,
    Table,
    run_study,
)
from diptych.ptycho.studies import base as studies_base
from diptych.ptycho.studies.report import mean_and_deviation
from diptych.runtime.device import ExecutionOptions
from diptych.runtime.progress import Progress

FILES = {
    "manifest.json",
    "results.csv",
    "results.json",
    "summary.md",
    "figure.png",
    "verification.json",
    "inventory.txt",
    "cells",
    "tables",
}


class SquaresOptions(StudyOptions):
    count: int = Field(4, description="Numbers.")
    broken: tuple[int, ...] = Field((), description="Numbers whose cell fails.")


def squares(ran: list[int], wrong: set[int] | None = None) -> Study:
    """A study that squares numbers and remembers which cells it ran."""

    def run(cell: Cell, options: SquaresOptions, execution: ExecutionOptions) -> Mapping[str, Any]:
        number = cell.parameters["number"]
        ran.append(number)
        if number in options.broken or number in (wrong or ()):
            raise ZeroDivisionError(f"no square of {number}")
        return {"square": number**2, "undefined": float("nan")}

    def tables(rows: Sequence[Mapping[str, Any]], options: SquaresOptions) -> list[Table]:
        return [Table("sums", "Sum of all squares", [{"sum": sum(row["square"] for row in rows)}])]

    def plot(made: Sequence[Table], options: SquaresOptions) -> Figure:
        return plot_curves(
            [{"n": 1, "sum": made[0].rows[0]["sum"], "all": "all"}],
            "n",
            [Panel("sum", "sum")],
            by="all",
            xlabel="n",
            title="Sum",
        )

    return Study(
        name="squares",
        help="Squares of numbers.",
        options=SquaresOptions,
        cells=lambda options: [Cell(f"number-{n}", {"number": n}) for n in range(options.count)],
        run=run,
        estimate=lambda cell, options: Estimate(3600.0, 2**30),
        tables=tables,
        plot=plot,
    )


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Registers the study ``squares`` for one test."""
    return register(monkeypatch)


def register(monkeypatch: pytest.MonkeyPatch, wrong: set[int] | None = None) -> list[int]:
    ran: list[int] = []
    monkeypatch.setattr(studies_base.STUDIES, "_registered", {"squares": squares(ran, wrong)})
    return ran


class After:
    """A cancel token that is set after some cells."""

    def __init__(self, cells: int) -> None:
        self.left = cells

    def progress(self, report: Progress) -> None:
        self.left -= 1

    @property
    def requested(self) -> bool:
        return self.left <= 0


def files(folder: Path) -> dict[str, bytes]:
    """The tables of a study, byte for byte."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".csv", ".md") or path.parent.name == "tables" or path.name == "results.json"
    }


def manifest(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "manifest.json").read_text()))


def test_a_study_leaves_manifest_cells_tables_figure_and_summary(ran: list[int], tmp_path: Path) -> None:
    reports: list[Progress] = []
    run = run_study("squares", tmp_path / "s", progress=reports.append)
    assert (run.status, run.done, run.errors, ran) == ("done", 4, {}, [0, 1, 2, 3])
    assert {path.name for path in (tmp_path / "s").iterdir()} == FILES
    with (tmp_path / "s" / "results.csv").open(newline="") as stream:
        assert list(csv.DictReader(stream))[3] == {"number": "3", "square": "9", "undefined": ""}
    assert json.loads((tmp_path / "s" / "results.json").read_text())["rows"][2] == {
        "number": 2,
        "square": 4,
        "undefined": None,
    }
    record = manifest(tmp_path / "s")
    assert (record["study"], record["status"], record["options"]["count"]) == ("squares", "done", 4)
    assert record["cells"]["number-3"] == {"status": "done", "parameters": {"number": 3}}
    assert "| 14 |" in (tmp_path / "s" / "summary.md").read_text()
    assert [(report.done, report.total) for report in reports] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert json.loads(json.dumps(run.to_dict()))["tables"]["sums"] == [{"sum": 14}]


def test_a_cancelled_study_that_is_resumed_gives_the_same_tables(ran: list[int], tmp_path: Path) -> None:
    run_study("squares", tmp_path / "whole")
    ran.clear()
    token = After(2)
    half = run_study("squares", tmp_path / "halves", cancel=token, progress=token.progress)
    assert (half.status, ran, manifest(tmp_path / "halves")["status"]) == ("interrupted", [0, 1], "interrupted")
    assert half.tables[1].rows == [{"sum": 1}]
    again = run_study("squares", tmp_path / "halves")
    assert (again.status, ran) == ("done", [0, 1, 2, 3])
    assert files(tmp_path / "halves") == files(tmp_path / "whole")
    run_study("squares", tmp_path / "halves")
    assert ran == [0, 1, 2, 3]


def test_ctrl_c_keeps_the_finished_cells(ran: list[int], tmp_path: Path) -> None:
    def stop(report: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"1 of 4 cells are finished.* the same call continues"):
        run_study("squares", tmp_path, progress=stop)
    assert manifest(tmp_path)["status"] == "interrupted"
    assert run_study("squares", tmp_path).status == "done"
    assert ran == [0, 1, 2, 3]


def test_a_failing_cell_is_recorded_and_run_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wrong = {1}
    ran = register(monkeypatch, wrong)
    run = run_study("squares", tmp_path)
    assert (run.status, run.done) == ("done", 3)
    assert run.errors == {"number-1": "ZeroDivisionError: no square of 1"}
    assert "no square of 1" in (tmp_path / "summary.md").read_text()
    assert "Traceback" in json.loads((tmp_path / "cells" / "number-1.json").read_text())["traceback"]
    assert manifest(tmp_path)["cells"]["number-1"]["status"] == "failed"
    wrong.clear()
    run = run_study("squares", tmp_path)
    assert (run.errors, ran) == ({}, [0, 1, 2, 3, 1])
    assert "Failed cells" not in (tmp_path / "summary.md").read_text()
    assert run_study("squares", tmp_path / "all", broken=(0, 1, 2, 3)).status == "failed"


def test_a_cell_file_cut_short_is_computed_again(ran: list[int], tmp_path: Path) -> None:
    run_study("squares", tmp_path)
    before = files(tmp_path)
    (tmp_path / "cells" / "number-2.json").write_text('{"status": "do')
    assert run_study("squares", tmp_path).status == "done"
    assert (ran, files(tmp_path)) == ([0, 1, 2, 3, 2], before)


def test_results_of_other_options_are_refused_unless_clobbered(ran: list[int], tmp_path: Path) -> None:
    run_study("squares", tmp_path)
    with pytest.raises(InputError) as error:
        run_study("squares", tmp_path, count=2, dry_run=True)
    assert error.value.where == str(tmp_path)
    assert "count = 4 there, 2 here" in error.value.found
    assert "--clobber" in error.value.remedy
    (tmp_path / "mine.txt").write_text("mine")
    run = run_study("squares", tmp_path, count=2, clobber=True)
    assert run.done == 2
    assert {path.name for path in (tmp_path / "cells").iterdir()} == {"number-0.json", "number-1.json"}
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_results_of_another_version_are_refused(
    ran: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_study("squares", tmp_path)
    monkeypatch.setattr("diptych.__version__", "99.0")
    with pytest.raises(InputError) as error:
        run_study("squares", tmp_path)
    assert "99.0" in error.value.found


def test_a_folder_of_other_files_is_left_alone(ran: list[int], tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text("mine")
    for clobber in (False, True):
        with pytest.raises(InputError, match="holds files, but no manifest"):
            run_study("squares", tmp_path, clobber=clobber)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be read as the manifest"):
        run_study("squares", tmp_path)
    with pytest.raises(InputError, match="is a file"):
        run_study("squares", tmp_path / "results.csv")
    assert ran == []


def test_a_dry_run_estimates_and_writes_nothing(ran: list[int], tmp_path: Path) -> None:
    plan = run_study("squares", tmp_path / "s", dry_run=True)
    assert (plan.status, len(plan.cells), plan.hours, plan.memory_bytes) == ("planned", 4, 4.0, 2**30)
    assert (ran, list(tmp_path.iterdir())) == ([], [])
    assert "about 4 h" in str(plan)


def test_cells_may_be_run_in_any_order_by_another_executor(ran: list[int], tmp_path: Path) -> None:
    def backwards(job: Callable[[Cell], CellResult], cells: Sequence[Cell]) -> Iterator[CellResult]:
        return map(job, reversed(cells))

    run_study("squares", tmp_path / "forwards")
    run_study("squares", tmp_path / "backwards", executor=backwards)
    assert ran == [0, 1, 2, 3, 3, 2, 1, 0]
    assert files(tmp_path / "backwards") == files(tmp_path / "forwards")


def test_wrong_names_and_options_are_input_errors(ran: list[int], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected one of dose-response, .*squares"):
        run_study("dose", tmp_path)
    with pytest.raises(InputError, match="unknown option 'dose'"):
        run_study("squares", tmp_path, dose=3)
    with pytest.raises(InputError, match="SquaresOptions"):
        run_study("squares", tmp_path, options=StudyOptions())
    with pytest.raises(InputError, match="at least one"):
        run_study("squares", tmp_path, count=0)
    with pytest.raises(InputError, match="cannot be the name of a file"):
        Cell("../escape", {})


def test_means_over_seeds_leave_out_no_undefined_value() -> None:
    rows = [{"dose": 1, "error": 1.0}, {"dose": 1, "error": 3.0}, {"dose": 2, "error": None}, {"dose": 2, "error": 1.0}]
    first, second = mean_and_deviation(rows, ("dose",), ("error",))
    assert (first["n"], first["error"], first["error_sd"]) == (2, 2.0, pytest.approx(np.sqrt(2)))
    assert (second["error"], second["error_sd"]) == (None, None)


DOSE: dict[str, Any] = {
    "size": "quick",
    "objects": ("dead-leaves",),
    "doses": (1e3, 1e6),
    "repeats": 1,
    "training": "off",
}


def table_of(run: StudyRun) -> list[Mapping[str, Any]]:
    return list(run.tables[1].rows)


@pytest.mark.integration
def test_dose_response_resumed_half_way_gives_the_same_table_and_more_photons_a_smaller_error(tmp_path: Path) -> None:
    execution = ExecutionOptions(device="cpu")
    token = After(1)
    half = run_study(
        "dose-response", tmp_path / "halves", cancel=token, progress=token.progress, execution=execution, **DOSE
    )
    assert (half.status, half.done) == ("interrupted", 1)
    resumed = run_study("dose-response", tmp_path / "halves", execution=execution, **DOSE)
    whole = run_study("dose-response", tmp_path / "whole", execution=execution, **DOSE)
    assert resumed.errors == whole.errors == {}
    for one, other in zip(table_of(resumed), table_of(whole), strict=True):
        assert one.keys() == other.keys()
        for name in one:
            expected = pytest.approx(other[name], rel=0.05) if isinstance(other[name], float) else other[name]
            assert one[name] == expected, name
    low, high = table_of(whole)
    assert high["complex_error"] < 0.2 * low["complex_error"]
    assert high["frc50"] >= low["frc50"]
    assert (tmp_path / "whole" / "figure.png").stat().st_size > 1000


@pytest.mark.parametrize("size", ["quick", "standard", "full"])
def test_dose_response_has_a_grid_of_every_size(size: str, tmp_path: Path) -> None:
    plan = run_study("dose-response", tmp_path, size=size, dry_run=True)
    assert len(plan.cells) == {"quick": 16, "standard": 66, "full": 232}[size]
    assert plan.hours > 0
    assert plan.memory_bytes > 0


def test_every_study_can_be_listed_without_loading_torch_or_matplotlib() -> None:
    code = (
        "import sys; from diptych.ptycho.studies import STUDIES; STUDIES.entries(); "
        "print(*[m for m in ('torch', 'matplotlib', 'scipy', 'skimage', 'h5py') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
    assert all(study.options.model_fields.keys() >= {"size", "seed"} for study in STUDIES.entries())
