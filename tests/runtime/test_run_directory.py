"""Run directories: never over other people's files, never half a record."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from diptych.errors import InputError
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.runtime.device import ExecutionOptions
from diptych.runtime.run_directory import FILES, MARK, RunDirectory, plain

RECORD: dict[str, Any] = {"program": "diptych", "inputs": [{"path": "scan.npz", "sha256": "abc"}]}


def status(path: Path) -> str:
    return str(json.loads((path / MARK).read_text())["status"])


@pytest.mark.parametrize("exists", [False, True])
def test_an_absent_or_empty_folder_is_claimed(tmp_path: Path, exists: bool) -> None:
    path = tmp_path / "a" / "run"
    if exists:
        path.mkdir(parents=True)
    run = RunDirectory.create(path, RECORD)
    assert status(path) == "running"
    run.set_status("done")
    record = json.loads((path / MARK).read_text())
    assert record["status"] == "done"
    assert record["finished"].endswith("Z")


@pytest.mark.parametrize("overwrite", [False, True])
def test_other_peoples_files_are_never_touched(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"not a diptych run \(thesis\.tex\)"):
        RunDirectory.create(tmp_path, RECORD, overwrite=overwrite)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("foreign", ['{"agent": "prov"}', "[1, 2]", "not json", '{"program": "another"}'])
def test_a_foreign_provenance_file_is_no_mark_of_ours(tmp_path: Path, foreign: str) -> None:
    (tmp_path / MARK).write_text(foreign)
    with pytest.raises(InputError, match="not a diptych run"):
        RunDirectory.create(tmp_path, RECORD, overwrite=True)
    assert (tmp_path / MARK).read_text() == foreign


def test_an_earlier_run_is_kept_unless_overwrite_is_asked_for_and_then_only_its_own_files_go(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", RECORD)
    for name in FILES[1:]:
        (run.path / name).write_text("old")
    (run.path / "notes.md").write_text("mine")
    (run.path / ".result-abc.tmp.h5").write_text("of a killed writer")
    run.set_status("done")
    with pytest.raises(InputError, match=r"status done.*--overwrite.*--resume"):
        RunDirectory.create(run.path, RECORD)
    assert (run.path / "result.h5").read_text() == "old"
    RunDirectory.create(run.path, RECORD, overwrite=True)
    assert sorted(entry.name for entry in run.path.iterdir()) == ["notes.md", MARK]
    assert status(run.path) == "running"


def test_a_run_killed_while_claiming_its_folder_counts_as_a_run(tmp_path: Path) -> None:
    (tmp_path / MARK).write_text("")
    with pytest.raises(InputError, match="status running"):
        RunDirectory.create(tmp_path, RECORD)
    RunDirectory.create(tmp_path, RECORD, overwrite=True)


def test_of_two_runs_for_one_folder_one_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The other run claims the folder between this one's look and its own claim.
    monkeypatch.setattr("diptych.runtime.run_directory._earlier_status", lambda path: pytest.fail("looked empty"))
    original = Path.iterdir

    def look(path: Path) -> Any:
        entries = list(original(path))
        (path / MARK).write_text('{"program": "diptych"}')
        return iter(entries)

    monkeypatch.setattr(Path, "iterdir", look)
    with pytest.raises(InputError, match="another run has just claimed this folder"):
        RunDirectory.create(tmp_path / "run", RECORD)


def test_a_run_under_way_is_neither_replaced_nor_gone_on_with(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    path = tmp_path / "run"
    program = f"""
import sys, time
from diptych.runtime.run_directory import RunDirectory
run = RunDirectory.create({str(path)!r}, {RECORD!r})
print("claimed", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "claimed\n"
        before = (path / MARK).read_bytes()
        with pytest.raises(InputError, match="a run is under way in this folder"):
            RunDirectory.create(path, RECORD, overwrite=True)
        with pytest.raises(InputError, match="a run is under way in this folder"):
            RunDirectory.reopen(path, RECORD)
        assert (path / MARK).read_bytes() == before
        process.kill()
        process.wait()
    RunDirectory.reopen(path, RECORD).set_status("done")
    assert status(path) == "done"
    RunDirectory.create(path, RECORD, overwrite=True).discard()


def test_without_locks_the_mark_alone_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*args: Any) -> None:
        raise OSError("no locks on this file system")

    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(fcntl, "flock", refuses)
    assert RunDirectory.create(tmp_path / "run", RECORD).lock is None
    monkeypatch.setitem(sys.modules, "fcntl", None)
    assert RunDirectory.reopen(tmp_path / "run", RECORD).lock is None


def test_numbered_folders_never_collide(tmp_path: Path) -> None:
    names = [RunDirectory.numbered(tmp_path / "runs", "star", RECORD).path.name for _ in range(3)]
    assert names == ["star-1", "star-2", "star-3"]


@pytest.mark.parametrize(
    "make",
    [lambda path: RunDirectory.create(path / "x", RECORD), lambda path: RunDirectory.numbered(path, "x", RECORD)],
)
def test_a_file_in_the_way_is_an_input_error(tmp_path: Path, make: Any) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be (used|created)"):
        make(tmp_path / "file")


def test_reopening_keeps_the_earlier_record_and_asks_for_the_same_scan(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", {**RECORD, "commit": "old"})
    run.set_status("interrupted")
    again = RunDirectory.reopen(run.path, {**RECORD, "commit": "new"})
    record = json.loads((run.path / MARK).read_text())
    assert (record["commit"], record["status"]) == ("new", "running")
    assert [(old["commit"], old["status"]) for old in record["earlier"]] == [("old", "interrupted")]
    # A run that is killed leaves the status "running", and its lock goes with the process.
    again.release()
    RunDirectory.reopen(again.path, {**RECORD, "commit": "newest"}).release()
    record = json.loads((run.path / MARK).read_text())
    assert [old["commit"] for old in record["earlier"]] == ["old", "new"]
    with pytest.raises(InputError, match=r"other data \(scan\.npz\)"):
        RunDirectory.reopen(run.path, {**RECORD, "inputs": [{"path": "other.npz", "sha256": "def"}]})
    with pytest.raises(InputError, match="not a run directory"):
        RunDirectory.reopen(tmp_path, RECORD)


def test_discarding_a_reopened_run_gives_it_back_as_it_was(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", RECORD)
    run.write_options([ReconstructionOptions(modes=3)])
    run.set_status("interrupted")
    before = {path.name: path.read_bytes() for path in run.path.iterdir()}
    again = RunDirectory.reopen(run.path, RECORD)
    again.write_options([ReconstructionOptions(modes=2)])
    assert yaml.safe_load((run.path / "options.yaml").read_text())["modes"] == 2
    again.discard()
    assert {path.name: path.read_bytes() for path in run.path.iterdir()} == before
    RunDirectory.reopen(run.path, RECORD).release()


def test_discard_takes_away_what_the_run_made_and_no_more(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "new", RECORD)
    run.discard()
    assert not run.path.exists()
    (tmp_path / "there").mkdir()
    run = RunDirectory.create(tmp_path / "there", RECORD)
    (run.path / "notes.md").write_text("mine")
    run.discard()
    assert [entry.name for entry in run.path.iterdir()] == ["notes.md"]


def test_options_yaml_is_a_config_file_again(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", RECORD)
    options = ReconstructionOptions(engine="dm", epochs=7, momentum=None)
    run.write_options([options, ExecutionOptions(threads=2)])
    values = yaml.safe_load((run.path / "options.yaml").read_text())
    assert values == {**options.resolved(), **ExecutionOptions(threads=2).resolved()}
    assert ReconstructionOptions.build({key: values[key] for key in options.resolved()}).own("engine") == options.own(
        "engine"
    )


def test_metrics_csv_has_one_row_per_epoch_and_blank_cells_where_a_column_ends(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", RECORD)
    run.write_history({"epoch": [1, 2, 3], "fit": [4.0, 2.5, 1.25], "held_out_fit": [5.0]})
    rows = list(csv.reader((run.path / "metrics.csv").open()))
    assert rows == [["epoch", "fit", "held_out_fit"], ["1", "4.0", "5.0"], ["2", "2.5", ""], ["3", "1.25", ""]]


def test_json_values_are_strict() -> None:
    values = {
        "a": np.float32(0.5),
        "b": math.nan,
        "c": np.arange(2),
        "d": Path("x"),
        "e": (True, None, np.inf),
        1: {"n": np.int64(3)},
    }
    assert plain(values) == {"a": 0.5, "b": None, "c": [0, 1], "d": "x", "e": [True, None, None], "1": {"n": 3}}
    with pytest.raises(TypeError, match="object"):
        plain(object())
