"""One verb on many files: failures, what is kept, what is run again."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import diptych
from diptych.errors import InputError
from diptych.ptycho.jobs import run_batch
from diptych.runtime.jobs.context import JobContext
from diptych.runtime.progress import Progress
from diptych.runtime.schedulers.batch import BatchJob, find_files


@pytest.fixture
def scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two scans and a file that is cut short."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "scans"
    folder.mkdir()
    for seed in range(3):
        scan = diptych.simulate(object="blocks", size=16, patterns=16, step=2.0, dose=1e4, seed=seed)
        diptych.save(scan, folder / f"scan{seed}.npz")
    broken = folder / "scan1.npz"
    broken.write_bytes(broken.read_bytes()[:500])
    return folder


def test_a_broken_file_is_reported_and_only_what_is_missing_runs_again(scans: Path) -> None:
    reports: list[Progress] = []
    first = run_batch("scans/*", "info", out="out", context=JobContext(reports.append))
    assert (first.data["files"], first.data["done"], first.data["waiting"], first.status) == (3, 2, 0, "done")
    (why,) = first.data["failed"].values()
    assert "truncated or damaged" in why
    (failed,) = [job for job in first.jobs if job.state == "failed"]
    assert (failed.file.name, failed.attempts) == ("scan1.npz", 2)
    assert failed.task.log is not None
    assert "truncated" in Path(failed.task.log).read_text()
    assert first.jobs[0].values is not None
    assert first.jobs[0].values["arrays"]
    assert (reports[-1].done, reports[-1].total, reports[-1].values["failed"]) == (3, 3, 1.0)
    with (scans.parent / "out" / "batch.csv").open(newline="") as stream:
        assert [row["state"] for row in csv.DictReader(stream)] == ["done", "failed", "done"]

    diptych.save(diptych.simulate(object="blocks", size=16, patterns=16, step=2.0, seed=9), scans / "scan1.npz")
    again = run_batch("scans/*", "info", out="out")
    assert [(job.kept, job.attempts) for job in again.jobs] == [(True, 0), (False, 1), (True, 0)]
    assert again.data["failed"] == {}
    assert [job.kept for job in run_batch("scans/*", "info", out="out").jobs] == [True, True, True]


def test_ctrl_c_says_what_is_kept(scans: Path) -> None:
    def stop(jobs: Sequence[BatchJob]) -> None:
        if any(job.state == "done" for job in jobs):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"1 of 3 files are finished.* the same command continues"):
        run_batch("scans/*", "info", out="out", show=stop)
    with (scans.parent / "out" / "batch.csv").open(newline="") as stream:
        assert [row["state"] for row in csv.DictReader(stream)] == ["done", "waiting", "waiting"]
    assert [job.kept for job in run_batch("scans/*", "info", out="out").jobs] == [True, False, False]


def test_changed_content_and_arguments_are_other_results(scans: Path) -> None:
    run_batch(scans / "scan0.npz", "info", out="out")
    (other,) = run_batch(scans / "scan0.npz", "info", ("--domain", "counts"), out="out").jobs
    assert not other.kept
    scan = diptych.simulate(object="blocks", size=16, patterns=16, step=2.0, dose=1e4, seed=7)
    diptych.save(scan, scans / "scan0.npz")
    (changed,) = run_batch(scans / "scan0.npz", "info", out="out").jobs
    assert not changed.kept


def test_a_reconstruction_has_a_run_directory_and_is_made_again_when_that_is_deleted(scans: Path) -> None:
    import shutil

    seen: list[tuple[BatchJob, ...]] = []
    call: dict[str, Any] = {"arguments": ("--epochs", "3"), "out": "out"}
    done = run_batch([scans / "scan0.npz"], **call, show=lambda jobs: seen.append(tuple(jobs)))
    (job,) = done.jobs
    assert job.values is not None
    run = Path(job.values["run"])
    assert (run / "result.h5").is_file()
    assert run.parent == (scans.parent / "out" / "runs").resolve()
    assert [each[0].state for each in seen] == ["waiting", "running", "done"]
    assert json.loads((run / "provenance.json").read_text())["status"] == "done"
    shutil.rmtree(run)
    (again,) = run_batch([scans / "scan0.npz"], **call).jobs
    assert (again.kept, again.state, (run / "result.h5").is_file()) == (False, "done", True)


def test_a_folder_is_named_as_such(scans: Path) -> None:
    with pytest.raises(InputError, match=r"is a folder; expected files, or a quoted pattern such as 'scans/\*'"):
        find_files(["scans"])


def test_wrong_calls_say_what_is_expected(scans: Path) -> None:
    with pytest.raises(InputError, match="names no file"):
        run_batch("nothing/*", out="out")
    with pytest.raises(InputError, match="cannot be run on many files; expected one of reconstruct"):
        run_batch("scans/*", "study", out="out")
    with pytest.raises(InputError, match="is set by the batch"):
        run_batch("scans/*", arguments=("--run", "x"), out="out")
    assert not (scans.parent / "out").exists()
    assert [path.name for path in find_files(["scans/scan0.npz", "scans/*"])] == [f"scan{n}.npz" for n in range(3)]


@pytest.mark.integration
def test_a_dask_cluster_loses_nothing_when_a_scan_is_corrupt_and_a_worker_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    psutil = pytest.importorskip("psutil")
    monkeypatch.chdir(tmp_path)
    for seed in range(8):
        scan = diptych.simulate(object="blocks", size=32, patterns=36, step=4.0, dose=1e5, seed=seed)
        diptych.save(scan, tmp_path / f"scan{seed}.npz")
    broken = tmp_path / "scan3.npz"
    broken.write_bytes(broken.read_bytes()[:2000])
    killed: list[int] = []

    def kill_one_worker(jobs: Sequence[BatchJob]) -> None:
        # Once a result is there and others are under way: Dask's workers are children that were spawned.
        if killed or not any(job.state == "done" for job in jobs):
            return
        workers = [
            child
            for child in psutil.Process().children(recursive=True)
            if any("spawn_main" in word for word in child.cmdline())
        ]
        assert len(workers) >= 2
        workers[0].kill()
        killed.append(workers[0].pid)

    call: dict[str, Any] = {
        "arguments": ("--epochs", "30"),
        "out": "out",
        "scheduler": {"scheduler": "dask", "workers": 2},
    }
    done = run_batch("scan*.npz", **call, show=kill_one_worker)
    assert killed
    assert (done.data["files"], done.data["done"], len(done.data["failed"])) == (8, 7, 1)
    assert [job.file.name for job in done.jobs if job.state == "failed"] == ["scan3.npz"]
    assert "truncated or damaged" in next(iter(done.data["failed"].values()))
    for job in done.jobs:
        if job.state == "done":
            assert job.values is not None
            assert (Path(job.values["run"]) / "result.h5").is_file()
    again = run_batch("scan*.npz", "reconstruct", call["arguments"], out="out")
    assert [job.kept for job in again.jobs] == [job.file.name != "scan3.npz" for job in again.jobs]
