"""Parallel work over CPU threads by whole batches of patterns.

A batch takes about thirty short array operations. Splitting each over threads, as torch does by default, spends as much
time on synchronisation as on work, and several times that where cores are shared. One thread per batch, with one torch
thread each, needs no synchronisation.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise
from typing import Any, TypeVar

from diptych.runtime.cpu.forking import forked

Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers:
    """``count`` threads, the caller's among them, that run a function on parts of a list.

    Results come in the order of the parts, so that sums are reproducible.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool = ThreadPoolExecutor(count - 1, initializer=_one_torch_thread) if count > 1 else None

    def map(self, work: Callable[[Item], Result], parts: Sequence[Item]) -> list[Result]:
        """``[work(part) for part in parts]``, at the same time; returns, or raises, when all parts have ended."""
        if self._pool is None or len(parts) < 2:
            return [work(part) for part in parts]
        others = [self._pool.submit(work, part) for part in parts[1:]]
        try:
            first = work(parts[0])
        finally:
            wait(others)
        return [first, *(other.result() for other in others)]

    def close(self) -> None:
        """Wait for running work and end the threads."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def _one_torch_thread() -> None:
    """Initialise a worker thread: otherwise an FFT that runs first in it would use all cores."""
    import torch

    torch.set_num_threads(1)


@contextmanager
def shared_out(parallel: bool, threads: int | None = None) -> Iterator[Workers]:
    """Workers for the duration of the block; torch's number of threads is restored afterwards.

    Parameters
    ----------
    parallel : bool
        One worker per thread, each with one torch thread. False (a GPU does the work): one worker.
    threads : int, optional
        Number of threads; None means as many as torch uses.
    """
    import torch

    threads = torch.get_num_threads() if threads is None else threads
    with torch_threads(1 if parallel else threads):
        workers = Workers(threads if parallel else 1)
        try:
            yield workers
        finally:
            workers.close()


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Set torch's number of CPU threads within the block; None, or a forked process, changes nothing."""
    if count is None or forked():
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def split_evenly(items: Sequence[Item], parts: int) -> list[Sequence[Item]]:
    """At most ``parts`` consecutive slices of ``items``, none empty, of nearly equal length."""
    parts = min(parts, len(items))
    cuts = [len(items) * i // max(parts, 1) for i in range(parts + 1)]
    return [items[a:b] for a, b in pairwise(cuts)]


_blas = threading.Lock()
_inside = 0
_limit: Any = None


@lru_cache(maxsize=1)
def _blas_libraries() -> Any:
    import scipy.linalg  # noqa: F401 - so that its library is found
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _set() -> None:
    global _limit
    _limit = _blas_libraries().limit(limits=1, user_api="blas")


def _briefly(work: Callable[[], None]) -> None:
    """Run ``work`` in a thread that ends: threadpoolctl lets only the first thread that asks change limits while that
    thread is alive.
    """
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


@contextmanager
def one_blas_thread(wanted: bool = True) -> Iterator[None]:
    """Limit linear algebra of NumPy and SciPy to one thread, in the whole process, while any thread is in the block.

    Products of medium size gain little from a second thread, and lose much where it spins waiting for a core that
    another thread of the program uses.

    Parameters
    ----------
    wanted : bool
        False: change nothing.
    """
    global _inside
    if not wanted:
        yield
        return
    with _blas:
        _inside += 1
        if _inside == 1:
            _briefly(_set)
    try:
        yield
    finally:
        with _blas:
            _inside -= 1
            if _inside == 0:
                _briefly(_limit.restore_original_limits)
