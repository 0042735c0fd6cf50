"""A program that leaves a busy daemon thread behind ends with its code, output flushed, nothing finalised under it."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import atexit, sys, threading, time
import diptych.cli as cli

class Late:
    def __del__(self):
        print("finalised", flush=True)

late = Late()
atexit.register(print, "atexit")
{before}
def run(argv):
    {work}
    print("said")
    return {code}
cli.run = run
sys.argv = ["diptych"]
cli.main()
"""

WAITS = "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"

COMPUTES = """
import torch
busy = threading.Event()
def multiply():
    a = torch.ones(300, 300)
    while True:
        for _ in range(5):
            a = torch.nn.functional.normalize(a @ a)
        busy.set()
"""


def ends(before: str, work: str, code: int) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.format(before=before, work=work, code=code)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("code", [0, 130])
def test_a_thread_that_is_left_keeps_neither_code_nor_output_nor_exit_functions_from_the_user(code: int) -> None:
    done = ends("", WAITS, code)
    assert (done.returncode, done.stderr) == (code, "")
    assert done.stdout.split() == ["said", "atexit"]


def test_without_such_a_thread_python_is_finalised_as_usual() -> None:
    done = ends("", "pass", 130)
    assert done.returncode == 130
    assert done.stdout.split() == ["said", "atexit", "finalised"]


@pytest.mark.integration
def test_a_thread_in_torch_does_not_abort_the_process() -> None:
    threads = "[threading.Thread(target=multiply, daemon=True).start() for _ in range(3)]; busy.wait(60)"
    for _ in range(3):
        done = ends(COMPUTES, threads, 130)
        assert (done.returncode, done.stderr) == (130, "")
