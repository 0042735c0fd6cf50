"""``diptych train``: what lies in the run directory, what is said, and how it is interrupted, resumed and refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from diptych.errors import InputError, UnavailableError
from diptych.ptycho import train as training
from diptych.ptycho.io import save
from diptych.ptycho.neural.model import load_model
from diptych.ptycho.simulate import simulate
from diptych.runtime.interrupts import SIGNALS

Cli = Callable[..., Any]
QUICK = ("--width", 4, "--passes", 1, "--n-groups", 8, "--epochs", 2, "--device", "cpu", "--threads", 1)


@pytest.fixture
def larger(tmp_path: Path) -> Path:
    """A scan of 64 patterns of 32 x 32, larger than the network's least size."""
    return save(simulate(size=32, patterns=100, step=4.0, dose=1e5, seed=1), tmp_path / "scan.npz")


def record(run: Path) -> Any:
    return json.loads((run / "provenance.json").read_text())


def test_a_run_leaves_all_that_a_reader_needs(cli: Cli, larger: Path, tmp_path: Path) -> None:
    done = cli("train", larger, larger, "--run", "run", "--out", "model.safetensors", *QUICK, "--json")
    assert done.code == 0, done.err
    run = tmp_path / "run"
    assert {path.name for path in run.iterdir()} == {
        *("options.yaml", "provenance.json", "log.txt", "metrics.csv", "summary.json", "subsample_indices.json"),
        *("model.safetensors", "training.png", "checkpoints", "pictures", "logs"),
    }
    told = record(run)
    assert (told["status"], told["command"], len(told["inputs"])) == ("done", "train", 2)
    assert told["seeds"] == {"TrainingOptions.seed": 0}
    options = yaml.safe_load((run / "options.yaml").read_text())
    assert (options["width"], options["loss"], options["device"], options["domain"]) == (4, "poisson", "cpu", "auto")
    log = (run / "log.txt").read_text()
    assert "device cpu (as requested)" in log
    assert "epoch 2/2: seconds=" in log
    assert "INFO done after" in log
    assert done.json["status"] == "done"
    assert done.json["epochs"] == 2
    assert [each["groups"] for each in done.json["scans"]] == [8, 8]
    first, second = (load_model(path) for path in (run / "model.safetensors", tmp_path / "model.safetensors"))
    assert first.digest == second.digest


def test_the_statement_says_what_was_trained_on(cli: Cli, larger: Path) -> None:
    done = cli("train", larger, *QUICK)
    assert done.code == 0, done.err
    text = " ".join(done.out.split())
    assert "on 8 groups of" in text
    assert "2 epochs," in text
    assert "stop: all 2 epochs done" in text
    assert "runs/scan-1/model.safetensors" in text
    assert "Lightning" not in done.out + done.err
    assert not done.err


def test_a_run_is_replaced_only_when_told_to_and_what_is_not_its_own_stays(
    cli: Cli, larger: Path, tmp_path: Path
) -> None:
    assert cli("train", larger, "--run", "run", *QUICK).code == 0
    done = cli("train", larger, "--run", "run", *QUICK)
    assert done.code == 2
    assert "holds an earlier run" in done.err
    (tmp_path / "run" / "notes.txt").write_text("mine")
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    done = cli("train", larger, "--run", "run", *QUICK, "--overwrite", "--seed", 3, "--no-pictures")
    assert done.code == 0, done.err
    assert (tmp_path / "run" / "model.safetensors").read_bytes() != before
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
    assert not (tmp_path / "run" / "pictures").exists()


def test_ctrl_c_saves_and_resume_goes_on_with_the_same_options(
    cli: Cli, larger: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    whole = ("--run", "whole", *QUICK[:-6], "--epochs", 3, "--no-pictures", "--device", "cpu", "--threads", 1)
    assert cli("train", larger, *whole).code == 0
    train = training.train

    def interrupted(files: Any, options: Any, run: Any, progress: Any, **rest: Any) -> Any:
        def stop(step: Any) -> None:
            if step.done == 3:
                signal.raise_signal(signal.SIGINT)

        return train(files, options, run, stop, **rest)

    monkeypatch.setattr(training, "train", interrupted)
    done = cli("train", larger, "--run", "run", *whole[2:], "--json")
    assert done.code == 130
    assert done.json["status"] == "interrupted"
    assert "the best network so far is saved in run (continue with --run run --resume)" in done.err
    assert record(tmp_path / "run")["status"] == "interrupted"
    assert load_model(tmp_path / "run" / "model.safetensors").provenance["epochs"] == 2
    monkeypatch.setattr(training, "train", train)
    # Other options are refused, and the run stays as it was.
    kept = record(tmp_path / "run")
    done = cli("train", larger, "--run", "run", "--resume", "--epochs", 9)
    assert (done.code, "was written with epochs = 3, now 9" in done.err) == (2, True)
    assert record(tmp_path / "run") == kept
    done = cli("train", larger, "--run", "run", "--resume")
    assert done.code == 0, done.err
    assert record(tmp_path / "run")["earlier"][0]["status"] == "interrupted"
    first, second = (load_model(tmp_path / run / "model.safetensors").network.state_dict() for run in ("run", "whole"))
    assert all(torch.equal(first[name], second[name]) for name in second)


def test_what_is_refused_leaves_no_folder(cli: Cli, larger: Path, scan_file: Path, tmp_path: Path) -> None:
    for arguments, text in (
        (("none.npz",), "there is no such file"),
        ((larger, scan_file), "expected one size"),
        ((larger, "--epochs", 0), "command line: epochs = 0"),
        ((larger, "--resume"), "Pass --run DIR"),
        ((larger, "--out", "model.h5"), "the suffix is '.h5'; expected .safetensors"),
        ((larger, "--devices", 2), "expected strategy 'ddp'"),
        ((larger, "--supervision", "labels", "--loss", "mae"), "loss: used with supervision=physics only"),
    ):
        done = cli("train", *arguments, *(() if "--resume" in arguments else ("--run", "run")))
        assert (done.code, text in done.err) == (2, True), done.err
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("error", "code"), [(UnavailableError("no lightning: pip install 'diptych[train]'"), 1), (InputError("bad"), 2)]
)
def test_errors_on_purpose_are_one_line(
    error: Exception, code: int, cli: Cli, larger: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error

    monkeypatch.setattr(training, "train", fail)
    done = cli("train", larger, "--run", "run")
    assert (done.code, done.err) == (code, f"error: {error}\n")
    assert not (tmp_path / "run").exists()


def test_faults_leave_the_log(cli: Cli, larger: Path, tmp_path: Path, monkeypatch: Any) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("a wire has come loose")

    monkeypatch.setattr(training, "train", fail)
    assert cli("train", larger, "--run", "run").code == 1
    assert record(tmp_path / "run")["status"] == "failed"
    assert "a wire has come loose" in record(tmp_path / "run")["error"]


@pytest.mark.integration
@pytest.mark.parametrize("number", SIGNALS)
def test_a_real_signal_ends_the_process_with_130(larger: Path, tmp_path: Path, number: signal.Signals) -> None:
    """Through the real entry point: Lightning must neither swallow the signal nor end the process by itself."""
    arguments = [
        str(each) for each in ("train", larger, "--run", "run", *QUICK[:-6], "--epochs", 5000, "--no-pictures")
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", "from diptych.cli import main; main()", *arguments],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert "interrupted; the best network so far is saved in run" in err
    assert record(tmp_path / "run")["status"] == "interrupted"
