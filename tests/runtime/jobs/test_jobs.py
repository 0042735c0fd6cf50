"""A job runs in a thread or a process, reports, is cancelled, fails with its reason, and leaves a record."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import diptych.runtime.jobs.process as process_module
from diptych.errors import InputError
from diptych.runtime.jobs import Finished, Job, JobContext, JobQueue, list_records, stopping
from diptych.runtime.jobs.child import Channel
from diptych.runtime.jobs.job import PREVIEW_SECONDS, PREVIEW_SHARE, Pace
from diptych.runtime.progress import Preview, Progress
from diptych.runtime.run_directory import RunDirectory

HERE = "job_functions"
RECORD = {"program": "diptych", "command": "sleep", "started": "2026-01-01T00:00:00Z"}


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[JobQueue]:
    """A queue, and this module importable under the same name in processes."""
    (tmp_path / f"{HERE}.py").write_text(Path(__file__).read_text(encoding="utf-8"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))
    with JobQueue() as jobs:
        yield jobs
    sys.modules.pop(HERE, None)


def count(*, to: int, context: JobContext, seconds: float = 0.0) -> Finished:
    """Counts, and stops when asked."""
    print("noise on standard output")
    for done in range(1, to + 1):
        if context.cancel.requested:
            return Finished({"done": done}, "interrupted")
        context.progress(Progress("count", done, to, {"value": float(done)}))
        time.sleep(seconds)
    return Finished({"done": to})


def deaf(*, context: JobContext) -> Finished:
    """Has no cancel parameter, only a progress callback."""
    report = stopping(context)
    for done in range(100_000):
        report(Progress("deaf", done, 100_000))
        time.sleep(0.01)
    return Finished({})


def wrong(*, context: JobContext) -> Finished:
    raise InputError("scan.npz", "holds no counts", "an array counts")


def broken(*, run: str, context: JobContext) -> Finished:
    directory = RunDirectory.create(run, RECORD)
    directory.log.touch()
    context.opened(directory.path)
    try:
        raise ZeroDivisionError("division by zero")
    finally:
        directory.set_status("failed", error="division by zero")


def stuck(*, run: str, context: JobContext) -> Finished:
    """Holds a run directory and does not listen."""
    directory = RunDirectory.create(run, RECORD)
    context.opened(directory.path)
    time.sleep(1000)
    return Finished({})


def threads(*, context: JobContext) -> Finished:
    import torch

    return Finished({"threads": torch.get_num_threads()})


def seen(*, to: int, context: JobContext) -> Finished:
    made: list[float] = []

    def preview() -> Preview:
        made.append(time.monotonic())
        return Preview.of(np.ones((4, 4), np.complex64), np.ones((1, 2, 2), np.complex64))

    for done in range(1, to + 1):
        context.progress(Progress("see", done, to, preview=preview))
        time.sleep(0.02)
    return Finished({"previews": len(made)})


@pytest.mark.parametrize("process", [False, pytest.param(True, marks=pytest.mark.integration)])
def test_a_job_reports_and_returns(queue: JobQueue, process: bool) -> None:
    states: list[tuple[str, int]] = []
    job = queue.submit(f"{HERE}:count", {"to": 3}, title="three", process=process)
    job.listen(lambda each: states.append((each.state, each.progress.done if each.progress else 0)))
    assert job.wait(60)
    assert (job.state, job.result, job.error) == ("done", {"done": 3}, "")
    assert job.progress == Progress("count", 3, 3, {"value": 3.0})
    assert states[-1] == ("done", 3)
    assert queue.jobs() == [job]


def test_heavy_jobs_run_one_at_a_time_and_light_ones_at_once(queue: JobQueue) -> None:
    first = queue.submit(f"{HERE}:count", {"to": 10_000, "seconds": 0.01})
    second = queue.submit(f"{HERE}:count", {"to": 1})
    light = queue.submit(f"{HERE}:count", {"to": 1}, heavy=False)
    assert light.wait(30)
    assert (first.state, second.state, light.state) == ("running", "queued", "done")
    first.cancel()
    assert second.wait(30)
    assert (first.state, first.result is not None, second.state) == ("cancelled", True, "done")


def test_a_queued_job_is_cancelled_at_once(queue: JobQueue) -> None:
    first = queue.submit(f"{HERE}:count", {"to": 10_000, "seconds": 0.01})
    second = queue.submit(f"{HERE}:count", {"to": 1})
    second.cancel()
    assert second.wait(0)
    assert (second.state, second.progress) == ("cancelled", None)
    first.cancel()
    assert first.wait(30)


@pytest.mark.parametrize("process", [False, pytest.param(True, marks=pytest.mark.integration)])
@pytest.mark.parametrize(("work", "arguments"), [("count", {"to": 10_000, "seconds": 0.01}), ("deaf", {})])
def test_a_running_job_stops_when_cancelled(
    queue: JobQueue, work: str, arguments: dict[str, Any], process: bool
) -> None:
    job = queue.submit(f"{HERE}:{work}", arguments, process=process)
    running = threading.Event()
    job.listen(lambda each: running.set() if each.progress is not None else None)
    assert running.wait(60)
    job.cancel()
    assert job.wait(30)
    assert job.state == "cancelled"
    assert (job.result is not None) == (work == "count")


@pytest.mark.parametrize("process", [False, pytest.param(True, marks=pytest.mark.integration)])
def test_an_error_is_the_jobs_and_not_the_queues(queue: JobQueue, process: bool, tmp_path: Path) -> None:
    job = queue.submit(f"{HERE}:wrong", process=process)
    other = queue.submit(f"{HERE}:broken", {"run": str(tmp_path / "run")}, process=process)
    assert other.wait(60)
    assert (job.state, job.error) == ("failed", "scan.npz: holds no counts; expected an array counts.")
    assert (other.state, other.error) == ("failed", "internal error: ZeroDivisionError: division by zero")
    assert other.log == tmp_path / "run" / "log.txt"
    assert "Traceback" in other.log.read_text()
    assert job.log is None


def test_a_listener_that_fails_does_not_harm_and_one_that_has_left_hears_nothing(queue: JobQueue) -> None:
    job = queue.submit(f"{HERE}:count", {"to": 200, "seconds": 0.005})
    heard: list[str] = []
    job.listen(lambda each: 1 // 0)
    job.listen(lambda each: heard.append("stays"))
    leave = job.listen(lambda each: heard.append("leaves"))
    leave()
    leave()
    assert job.wait(30)
    assert job.state == "done"
    assert set(heard) == {"stays"}


@pytest.mark.parametrize("process", [False, pytest.param(True, marks=pytest.mark.integration)])
def test_previews_are_images_and_rare(queue: JobQueue, process: bool) -> None:
    job = queue.submit(f"{HERE}:seen", {"to": 50}, process=process)
    began = time.monotonic()
    assert job.wait(60)
    assert set(job.preview) == {"amplitude", "phase", "probe"}
    assert job.preview["amplitude"].shape == (4, 4)
    assert job.result is not None
    assert 1 <= job.result["previews"] <= 1 + (time.monotonic() - began) / PREVIEW_SECONDS


@pytest.mark.parametrize("process", [False, pytest.param(True, marks=pytest.mark.integration)])
def test_threads_are_those_of_the_job(queue: JobQueue, process: bool) -> None:
    import torch

    before = torch.get_num_threads()
    job = queue.submit(f"{HERE}:threads", threads=2, process=process)
    assert job.wait(60)
    assert job.result == {"threads": 2}
    assert torch.get_num_threads() == before


def test_nothing_is_submitted_to_a_closed_queue() -> None:
    jobs = JobQueue()
    jobs.close()
    with pytest.raises(RuntimeError, match="closed"):
        jobs.submit(f"{HERE}:count", {"to": 1})


def test_runs_are_listed_after_a_restart(tmp_path: Path, queue: JobQueue) -> None:
    assert list_records(tmp_path / "absent") == []
    root = tmp_path / "runs"
    (root / "holiday").mkdir(parents=True)
    for name, status in (("a", "done"), ("b", "interrupted"), ("c", "failed")):
        RunDirectory.create(root / name, {**RECORD, "started": name}).set_status(status)  # type: ignore[arg-type]
    going = RunDirectory.create(root / "d", {**RECORD, "started": "d"})
    killed = RunDirectory.create(root / "e", {**RECORD, "started": "e"})
    killed.release()
    job = queue.submit(f"{HERE}:broken", {"run": str(root / "f")}, title="a broken job")
    assert job.wait(30)
    found = {record.folder.name: record for record in list_records(root)}
    assert {name: record.state for name, record in found.items()} == {
        **{"a": "done", "b": "cancelled", "c": "failed"},
        **{"d": "running", "e": "failed", "f": "failed"},
    }
    assert "ended before" in found["e"].error
    assert (found["f"].title, found["f"].work, found["f"].arguments) == (
        *("a broken job", f"{HERE}:broken"),
        {"run": str(root / "f")},
    )
    assert found["a"].title == "a"
    going.release()


@pytest.mark.integration
def test_a_process_that_does_not_listen_is_killed_and_one_that_died_is_reported(
    queue: JobQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "GRACE_SECONDS", 1.0)

    def started(job: Job) -> None:
        opened = threading.Event()
        job.listen(lambda each: opened.set() if each.folder is not None else None)
        assert opened.wait(60) or job.folder is not None

    job = queue.submit(f"{HERE}:stuck", {"run": str(tmp_path / "runs" / "a")}, process=True)
    started(job)
    job.cancel()
    assert job.wait(30)
    assert job.state == "cancelled"
    dying = queue.submit(f"{HERE}:dying", {}, process=True)
    assert dying.wait(60)
    assert dying.state == "failed"
    assert "SIGKILL" in dying.error
    assert list_records(tmp_path / "runs")[0].state == "failed"


def dying(*, context: JobContext) -> Finished:
    os.kill(os.getpid(), signal.SIGKILL)
    return Finished({})


def test_a_report_to_a_parent_that_has_ended_does_not_end_the_work() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    lost: list[str] = []
    with suppress(BrokenPipeError), os.fdopen(writing, "w", encoding="utf-8") as stream:
        channel = Channel(stream, lambda: lost.append("lost"))
        channel.send("progress", done=1)
        channel.send("finished")
        assert lost == ["lost", "lost"]
    assert lost


@pytest.mark.parametrize("cost", [0.0, 0.001, 0.1, 3.0])
def test_previews_take_a_small_share_of_the_time_however_long_they_take(cost: float) -> None:
    now, spent, made = 0.0, 0.0, 0
    pace = Pace(lambda: now)
    while now < 30 / PREVIEW_SHARE * max(cost, PREVIEW_SECONDS):
        now += 0.01 * max(cost, 1.0)
        if pace.due:
            with pace.making():
                now += cost
            spent, made = spent + cost, made + 1
    assert made >= 25
    assert made <= 1 + now / PREVIEW_SECONDS
    assert spent <= 1.05 * PREVIEW_SHARE * now + cost


def test_a_preview_that_fails_is_not_tried_at_once_again() -> None:
    pace = Pace(lambda: 5.0)
    with pytest.raises(ValueError, match="no"), pace.making():
        raise ValueError("no")
    assert not pace.due
