"""Training by two processes: the losses and the network of a single one with the same batches."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from diptych.ptycho.neural.model import load_model

pytestmark = pytest.mark.integration

# Two scans, batches of 5 groups that two processes cannot halve, and a last batch of a single group.
PROGRAM = """
import json, sys, diptych
from diptych.ptycho.neural.options import TrainerOptions
if __name__ == "__main__":
    scans = [
        diptych.simulate(object="dead-leaves", size=32, patterns=100, step=4.0, dose=1e5, seed=seed) for seed in (1, 2)
    ]
    trainer = TrainerOptions(device="cpu", threads=1, pictures=False, logger="none", **json.loads(sys.argv[2]))
    options = dict(width=4, passes=2, epochs=3, warmup=3, n_groups=21, batch=20, jitter=0.2, tv=1e-3, consistency=0.1)
    model = diptych.train(scans, run=sys.argv[1], trainer=trainer, **options, **json.loads(sys.argv[3]))
"""


def history(run: Path) -> dict[str, list[float]]:
    rows = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    return {name: [float(row[name]) for row in rows] for name in rows[0]}


def trained(script: Path, run: Path, trainer: str, options: str, *launcher: str) -> Path:
    """The run directory of a training in a process of its own."""
    command = [sys.executable, *launcher, str(script), str(run), trainer, options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return run


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(PROGRAM)
    return path


# Where a magnitude is near zero, the gradient of an absolute error jumps, so rounding grows from step to step.
@pytest.mark.parametrize(
    ("options", "losses", "gradients"), [("{}", 1e-5, 1e-5), ('{"network": "hybrid", "loss": "mae"}', 1e-3, 2e-2)]
)
def test_two_processes_have_the_losses_of_one(
    script: Path, tmp_path: Path, options: str, losses: float, gradients: float
) -> None:
    one = trained(script, tmp_path / "one", "{}", options)
    two = trained(script, tmp_path / "two", '{"devices": 2, "strategy": "ddp"}', options)
    for name in ("loss", "validation_loss"):
        assert history(two)[name] == pytest.approx(history(one)[name], rel=losses), name
    assert history(two)["grad_norm"] == pytest.approx(history(one)["grad_norm"], rel=gradients)
    assert history(two)["learning_rate"] == history(one)["learning_rate"]
    assert history(two)["loss"][-1] < history(two)["loss"][0]
    first, second = (load_model(run / "model.safetensors") for run in (one, two))
    assert second.provenance["epochs"] == 3
    for name, weights in first.network.state_dict().items():
        # To one step of the optimiser, 1e-3.
        torch.testing.assert_close(second.network.state_dict()[name], weights, rtol=1e-2, atol=1e-3)


def test_torchrun_starts_the_processes_of_one_training(script: Path, tmp_path: Path) -> None:
    one = trained(script, tmp_path / "one", "{}", "{}")
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    two = trained(script, tmp_path / "two", '{"strategy": "ddp"}', "{}", *launcher)
    assert history(two)["loss"] == pytest.approx(history(one)["loss"], rel=1e-5)
    assert (two / "model.safetensors").exists()
