"""Verbs as job functions: from plain values, in a queue, cancelled with the best state saved, and resumed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import diptych
from diptych.ptycho.jobs import run_comparison, run_reconstruction, run_study_job, run_training
from diptych.ptycho.jobs.reconstruction import model_of
from diptych.runtime.interrupts import Cancel
from diptych.runtime.jobs import JobContext, JobQueue, list_records
from diptych.runtime.progress import Progress

RECONSTRUCTION = "diptych.ptycho.jobs:run_reconstruction"


@pytest.fixture
def scan_file(tmp_path: Path) -> Path:
    scan = diptych.simulate(object="lines", size=16, patterns=36, step=3.0, dose=1e5, seed=0)
    path: Path = diptych.save(scan, tmp_path / "scan.npz")
    return path


@pytest.fixture
def queue() -> Iterator[JobQueue]:
    with JobQueue() as jobs:
        yield jobs


def test_a_reconstruction_from_plain_values(scan_file: Path, tmp_path: Path, queue: JobQueue) -> None:
    options = {"engine": "rpie", "alpha": 0.2, "epochs": 3}
    arguments = {"file": str(scan_file), "run": str(tmp_path / "runs" / "a"), "options": options}
    job = queue.submit(RECONSTRUCTION, arguments, title="three epochs")
    assert job.wait(120)
    assert (job.state, job.error) == ("done", "")
    assert job.result is not None
    assert (job.result["status"], job.result["engine"], job.result["epochs"]) == ("done", "rpie", 3)
    assert set(job.preview) == {"amplitude", "phase", "probe"}
    assert isinstance(diptych.load(job.result["result"]), diptych.Reconstruction)
    found = list_records(tmp_path / "runs")[0]
    assert (found.state, found.title, found.work, found.arguments) == (
        "done",
        "three epochs",
        RECONSTRUCTION,
        arguments,
    )


def test_a_wrong_option_fails_before_there_is_a_run(scan_file: Path, tmp_path: Path, queue: JobQueue) -> None:
    job = queue.submit(RECONSTRUCTION, {"file": str(scan_file), "run": str(tmp_path / "a"), "options": {"epoch": 3}})
    assert job.wait(60)
    assert job.state == "failed"
    assert "unknown option 'epoch'" in job.error
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("process", [False, pytest.param(True, marks=pytest.mark.integration)])
def test_cancelled_with_its_best_state_and_resumed(
    scan_file: Path, tmp_path: Path, queue: JobQueue, process: bool
) -> None:
    run = tmp_path / "runs" / "long"
    options = {"epochs": 1_000_000, "stop": False, "seed": 4}
    job = queue.submit(RECONSTRUCTION, {"file": str(scan_file), "run": str(run), "options": options}, process=process)
    third = threading.Event()
    job.listen(lambda each: third.set() if each.progress is not None and each.progress.done >= 3 else None)
    assert third.wait(120)
    job.cancel()
    assert job.wait(60)
    assert job.state == "cancelled"
    assert job.result is not None
    assert job.result["status"] == "interrupted"
    assert list_records(tmp_path / "runs")[0].state == "cancelled"
    epochs = job.result["epochs"] + 2
    again = run_reconstruction(scan_file, run=run, resume=True, options={"epochs": epochs})
    assert (again.status, again.data["epochs"]) == ("done", epochs)
    assert again.result is not None
    assert again.result.provenance["options"]["seed"] == 4


@pytest.mark.integration
def test_other_jobs_are_cancelled_between_their_parts(scan_file: Path, tmp_path: Path) -> None:
    cancel = Cancel()

    def stop(progress: Progress) -> None:
        if "b" in progress.stage or progress.stage == "dose-response":
            cancel.request()

    methods = {"a": "rpie", "b": "rpie", "c": "rpie"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        compared: Any = run_comparison(scan_file, methods, run="compared", context=JobContext(stop, cancel))
        assert compared.status == "interrupted"
        grid = {"size": "quick", "objects": ["lines"], "doses": [1e4], "repeats": 2, "patterns": 16, "training": "off"}
        cancel = Cancel()
        study = run_study_job("dose-response", "dose", options=grid, context=JobContext(stop, cancel))
        assert (study.status, study.data["done"], study.data["cells"]) == ("interrupted", 1, 2)
        assert run_study_job("dose-response", "dose", options=grid).data["done"] == 2


@pytest.mark.integration
def test_what_is_given_to_others_names_no_folder_of_this_machine(scan_file: Path, tmp_path: Path) -> None:
    made = run_reconstruction(scan_file, run=tmp_path / "a", options={"epochs": 2})
    trained = run_training([scan_file], run=tmp_path / "t", options={"epochs": 1, "validation": 0.0})
    model = tmp_path / "t" / "model.safetensors"
    run_reconstruction(scan_file, run=tmp_path / "b", options={"epochs": 2}, model=model)
    run_comparison(scan_file, {"a": str(tmp_path / "a" / "result.h5"), "n": str(model)}, run=tmp_path / "c")
    assert made.result is not None
    assert trained.model is not None
    secret = str(tmp_path).encode()
    found = {path for path in tmp_path.rglob("*") if path.is_file() and secret in path.read_bytes()}
    assert found == {tmp_path / "b" / "paths.json"}
    # The path of the network is kept where a resumed run finds it.
    assert model_of(tmp_path / "b") == model
