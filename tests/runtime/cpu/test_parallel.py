"""Work shared out over threads: order, errors, torch's setting, and the same result as with one thread."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import diptych
from diptych.runtime.cpu.parallel import Workers, shared_out, split_evenly
from diptych.runtime.device import ExecutionOptions


@given(st.lists(st.integers(), max_size=40), st.integers(1, 9))
def test_a_list_is_split_evenly_in_order(items: list[int], parts: int) -> None:
    split = split_evenly(items, parts)
    assert [item for part in split for item in part] == items
    assert len(split) == min(parts, len(items))
    lengths = [len(part) for part in split]
    assert not lengths or max(lengths) - min(lengths) <= 1


def test_results_come_in_order_and_from_several_threads() -> None:
    workers, meeting = Workers(3), threading.Barrier(3, timeout=10)

    def work(item: int) -> int:
        meeting.wait()  # breaks unless three run at once
        return item**2

    assert workers.map(work, [3, 1, 2]) == [9, 1, 4]
    workers.close()


def test_an_error_in_a_worker_reaches_the_caller_and_the_setting_is_put_back() -> None:
    before = torch.get_num_threads()
    with shared_out(True, 2) as workers:
        assert torch.get_num_threads() == 1
        with pytest.raises(ZeroDivisionError):
            workers.map(lambda item: 1 // item, [1, 0])
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("engine", ["auto", "rpie", "dm"])
def test_two_threads_give_what_one_gives(engine: str) -> None:
    scan = diptych.simulate(object="blocks", size=32, patterns=49, step=4.0, dose=1e6, probe_error=0.5, seed=1)
    one, two, again = (
        diptych.reconstruct(scan, engine=engine, epochs=15, execution=ExecutionOptions(threads=n, precision="double"))
        for n in (1, 2, 2)
    )
    np.testing.assert_allclose(two.object.values, one.object.values, atol=1e-5)
    np.testing.assert_array_equal(two.object.values, again.object.values)
    assert torch.get_num_threads() == 1


BLAS = """
import threading
import scipy.linalg
from threadpoolctl import threadpool_info
from diptych.runtime.cpu.parallel import one_blas_thread

def threads():
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

inside, leave = threading.Event(), threading.Event()

def other():
    with one_blas_thread():
        inside.set()
        leave.wait(10)

usual = threads()  # {2}, or {1} on a single core
with one_blas_thread():
    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(10)
assert threads() == {1}, "the other is still inside"
leave.set()
thread.join()
assert threads() == usual
with one_blas_thread(wanted=False):
    assert threads() == usual
try:
    with one_blas_thread():
        assert threads() == {1}
        1 / 0
except ZeroDivisionError:
    assert threads() == usual
else:
    raise SystemExit("an error was lost")
"""


def test_linear_algebra_has_one_thread_while_anybody_is_inside() -> None:
    """In a process of its own: the number is the process's, and fits of other tests may be under way."""
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", BLAS], capture_output=True, text=True, check=False, timeout=60, env=environment
    )
    assert done.returncode == 0, done.stderr
