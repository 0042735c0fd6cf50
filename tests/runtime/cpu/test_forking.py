"""Processes forked after torch has computed with several threads do work, and end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from diptych.errors import UnavailableError
from diptych.runtime.cpu import forking
from diptych.runtime.device import choose_device

CODE = """
import multiprocessing, diptych, torch

def child():
    scan = diptych.simulate(object="blocks", size=64, patterns=36, step=8, dose=1e5, seed=2)
    diptych.reconstruct(scan, epochs=1)
    print("child", torch.get_num_threads(), flush=True)

scan = diptych.simulate(object="blocks", size=64, patterns=36, step=8, dose=1e5, seed=1)
diptych.reconstruct(scan, epochs=1)
process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join(60)
print("parent", torch.get_num_threads(), process.exitcode)
process.kill()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
def test_a_forked_child_simulates_and_reconstructs(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, timeout=180, env=environment, cwd=tmp_path
    )
    assert done.stdout.splitlines() == ["child 1", "parent 2 0"], done.stderr


def test_cuda_is_refused_at_once_where_the_parent_used_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forking, "_forked", True)
    monkeypatch.setattr(forking, "_used_cuda", True)
    assert choose_device("auto")[0].type == "cpu"
    with pytest.raises(UnavailableError, match="spawn"):
        choose_device("cuda:0")
