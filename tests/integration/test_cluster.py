"""Many jobs on several processes: a worker is killed, a file is broken, a study is killed; nothing done is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import diptych
from diptych.ptycho.jobs import run_batch
from diptych.runtime.schedulers.batch import BatchJob

pytestmark = pytest.mark.integration


@pytest.fixture
def scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight scans, of which one is cut short."""
    monkeypatch.chdir(tmp_path)
    for seed in range(8):
        scan = diptych.simulate(object="blocks", size=16, patterns=49, step=2.0, dose=1e5, seed=seed)
        diptych.save(scan, tmp_path / f"scan{seed}.npz")
    broken = tmp_path / "scan3.npz"
    broken.write_bytes(broken.read_bytes()[:2000])
    return tmp_path


@pytest.mark.parametrize("scheduler", ["dask", "processes"])
def test_eight_scans_one_broken_one_worker_killed_are_seven_results(scheduler: str, scans: Path) -> None:
    psutil = pytest.importorskip("psutil")
    if scheduler == "dask":
        pytest.importorskip("distributed")
    marks = {"dask": "spawn_main", "processes": "diptych.runtime.schedulers.worker"}
    killed: list[int] = []

    def kill_one(jobs: Sequence[BatchJob]) -> None:
        """Kill a worker after the first result, while others are under way."""
        if killed or not any(job.state == "done" for job in jobs):
            return
        children = psutil.Process().children(recursive=True)
        workers = [child for child in children if any(marks[scheduler] in part for part in child.cmdline())]
        os.kill(workers[-1].pid, signal.SIGKILL)
        killed.append(workers[-1].pid)

    done = run_batch(
        "scan*.npz",
        arguments=("--epochs", "30"),
        out="batch",
        scheduler={"scheduler": scheduler, "workers": 2},
        show=kill_one,
    )
    assert killed
    assert (done.data["done"], list(done.data["failed"])) == (7, ["scan3.npz"])
    assert "truncated or damaged" in done.data["failed"]["scan3.npz"]
    for job in done.jobs:
        if job.state == "done":
            assert job.values is not None
            result = diptych.load(job.values["result"])
            assert result.object.values.shape
            assert json.loads((Path(job.values["run"]) / "provenance.json").read_text())["status"] == "done"
    assert len(list((scans / "batch" / "answers").iterdir())) == 7
    again = run_batch("scan*.npz", arguments=("--epochs", "30"), out="batch", scheduler={"retries": 0})
    assert (again.data["kept"], list(again.data["failed"])) == (7, ["scan3.npz"])


def tables(folder: Path) -> dict[str, str]:
    """The tables of a study, without the columns of times."""
    return {
        path.name: json.dumps(
            [
                {name: value for name, value in row.items() if "seconds" not in name}
                for row in json.loads(path.read_text())["rows"]
            ]
        )
        for path in sorted(folder.rglob("tables/*.json"))
    }


def test_a_study_that_is_killed_half_way_ends_with_the_tables_of_one_left_alone(tmp_path: Path) -> None:
    call = [str(Path(sys.executable).with_name("diptych"))]
    call += ["study", "dose-response", "--quick", "--objects", "blocks", "--doses", "1e4", "1e5", "--repeats", "2"]
    call += ["--patterns", "36", "--training", "off", "--threads", "1", "--scheduler", "processes", "--workers", "2"]
    process = subprocess.Popen([*call, "--run", "killed"], cwd=tmp_path, start_new_session=True)
    cells = tmp_path / "killed" / "cells"
    deadline = time.monotonic() + 300
    while not list(cells.glob("[!.]*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    finished = {path.name: path.read_bytes() for path in cells.glob("[!.]*.json")}
    assert 1 <= len(finished) < 4
    subprocess.run([*call, "--run", "killed"], cwd=tmp_path, check=True, capture_output=True)
    subprocess.run([*call, "--run", "alone"], cwd=tmp_path, check=True, capture_output=True)
    assert tables(tmp_path / "killed") == tables(tmp_path / "alone")
    assert all((cells / name).read_bytes() == content for name, content in finished.items())
    record = json.loads((tmp_path / "killed" / "verification.json").read_text())
    assert (record["all_valid"], record["evidence"]) == (True, False)


def test_an_interrupted_batch_keeps_the_state_of_what_runs_and_continues(scans: Path) -> None:
    """Worker processes save before they end, as a command in this process does."""
    call = [str(Path(sys.executable).with_name("diptych")), "batch", "scan0.npz", "reconstruct"]
    call += ["--scheduler", "processes", "--workers", "2", "--", "--epochs", "400", "--no-stop"]
    process = subprocess.Popen(call, start_new_session=True, stderr=subprocess.PIPE, text=True)
    logs = (scans / "batch" / "runs").glob
    deadline = time.monotonic() + 120
    while not any(" 5/400" in log.read_text() for log in logs("*/log.txt")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "0 of 1 files are finished" in err
    assert len(list(logs("*/checkpoint.npz"))) == len(list(logs("*/result.h5"))) == 1
    done = run_batch("scan0.npz", arguments=("--epochs", "400", "--no-stop"), out="batch")
    assert done.data["failed"] == {}
    (path,) = logs("*/provenance.json")
    record = json.loads(path.read_text())
    assert (record["status"], record["earlier"][0]["status"]) == ("done", "interrupted")
