"""Schedulers: options, JSON tasks, retries, failures, cancelling; several processes in the integration tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from diptych.errors import InputError
from diptych.runtime.schedulers import Answer, SchedulerOptions, Task, run_tasks
from diptych.runtime.schedulers import tasks as tasks_module
from diptych.runtime.schedulers.pools import ProcessPool
from diptych.runtime.schedulers.tasks import answer

HASH = "diptych.runtime.files:sha256"


def tasks(folder: Path, count: int = 3) -> list[Task]:
    """Tasks that hash a file each; the last file is missing."""
    for number in range(count - 1):
        (folder / f"{number}.txt").write_text(str(number))
    return [Task(f"t{n}", HASH, {"path": str(folder / f"{n}.txt")}, str(folder / f"log{n}.txt")) for n in range(count)]


@pytest.fixture
def paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets tasks hash files in this process: the function takes a Path, and the task holds a text."""
    monkeypatch.setattr(tasks_module, "resolve", lambda work: lambda path: {"size": len(Path(path).read_bytes())})


@pytest.mark.parametrize(
    ("given", "phrase"),
    [
        ({"scheduler": "slurm"}, "scheduler = 'slurm' is not known"),
        ({"scheduler": "dask://node7:8786"}, "needs an encrypted connection"),
        ({"scheduler": "dask://10.0.0.1:8786"}, "needs an encrypted connection"),
        ({"scheduler": "dask://localhost"}, "is not known"),
        ({"scheduler": "dask://localhost:99999"}, "is not known"),
        ({"scheduler": "dask://localhost:8786", "workers": 2}, "workers cannot be set"),
        ({"scheduler": "serial", "workers": 2}, "workers cannot be set"),
        ({"scheduler": "dask", "tls_ca": "ca.pem"}, "given together"),
        ({"scheduler": "dask://localhost:1", "tls_ca": "a", "tls_cert": "b"}, "given together"),
        ({"retries": -1}, "retries"),
    ],
)
def test_wrong_options_say_what_is_expected(given: dict[str, Any], phrase: str) -> None:
    with pytest.raises(InputError, match=phrase):
        SchedulerOptions.build(given)


@pytest.mark.parametrize(
    "name", ["serial", "processes", "dask", "dask://127.0.0.1:8786", "dask://[::1]:1", "dask-slurm"]
)
def test_schedulers_by_name(name: str) -> None:
    assert SchedulerOptions(scheduler=name).scheduler == name


def test_a_scheduler_elsewhere_is_allowed_with_certificates() -> None:
    options = SchedulerOptions(scheduler="dask://node7:8786", tls_ca="a", tls_cert="b", tls_key="c")
    assert (options.address, options.loopback) == (("node7", 8786), False)


@pytest.mark.usefixtures("paths")
def test_a_failing_task_is_retried_reported_with_its_log_and_stops_no_other(tmp_path: Path) -> None:
    found = {each.key: each for each in run_tasks(tasks(tmp_path), SchedulerOptions(retries=2))}
    assert found["t0"].values == {"size": 1}
    assert (found["t1"].error, found["t1"].attempts) == ("", 1)
    assert found["t2"].values is None
    assert found["t2"].attempts == 3
    assert "FileNotFoundError" in found["t2"].error
    assert "Traceback" in found["t2"].traceback
    assert (tmp_path / "log2.txt").read_text().count("FileNotFoundError") >= 3


def test_a_task_that_succeeds_the_second_time_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def flaky(path: str) -> dict[str, int]:
        seen.append(path)
        if len(seen) == 1:
            raise OSError("stale file handle")
        return {"tries": len(seen)}

    monkeypatch.setattr(tasks_module, "resolve", lambda work: flaky)
    (found,) = run_tasks([Task("a", HASH, {"path": "x"})])
    assert (found.values, found.error, found.attempts) == ({"tries": 2}, "", 2)


@pytest.mark.usefixtures("paths")
def test_cancelling_stops_before_the_next_task(tmp_path: Path) -> None:
    class Token:
        requested = False

    token, done = Token(), []
    for each in run_tasks(tasks(tmp_path), cancel=token):
        done.append(each.key)
        token.requested = True
    assert done == ["t0"]


def test_tasks_and_answers_are_json_and_name_functions_of_diptych_alone() -> None:
    text = Task("a", "diptych.runtime.provenance:versions", {}).to_json()
    assert json.loads(text)["work"] == "diptych.runtime.provenance:versions"
    found = Answer.from_json(answer(text))
    assert found.values is not None
    assert "diptych" in found.values
    with pytest.raises(InputError, match="a function of the package diptych"):
        answer(Task("a", "os:system", {"command": "true"}).to_json())


@pytest.mark.integration
@pytest.mark.parametrize("name", ["processes", "dask"])
def test_other_processes_answer_as_this_one_does(name: str) -> None:
    if name == "dask":
        pytest.importorskip("distributed")
    many = [Task(f"t{n}", "diptych.runtime.provenance:versions", {}) for n in range(5)]
    many.append(Task("bad", "diptych.runtime.provenance:nothing", {}))
    found = {each.key: each for each in run_tasks(many, SchedulerOptions(scheduler=name, workers=2))}
    (here,) = run_tasks(many[:1])
    assert {each.key for each in found.values() if not each.error} == {f"t{n}" for n in range(5)}
    assert found["t3"].values == here.values
    assert (found["bad"].attempts, "AttributeError" in found["bad"].error) == (2, True)


@pytest.mark.integration
def test_a_worker_process_that_dies_fails_its_task_alone() -> None:
    good = [Task(f"t{n}", "diptych.runtime.provenance:versions", {}) for n in range(3)]
    pool = ProcessPool(1, 3)
    try:
        for task in good:
            pool.submit(task)
        first = pool.next(60)
        assert first is not None
        assert not first.error
        (worker,) = pool._busy
        worker._process.kill()
        others = [pool.next(60) for _ in range(2)]
        assert sum(each is not None and not each.error for each in others) >= 1
        died = [each for each in others if each is not None and each.error]
        assert all("SIGKILL" in each.error for each in died)
    finally:
        pool.close()
