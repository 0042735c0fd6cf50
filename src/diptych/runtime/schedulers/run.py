"""Runs tasks on the scheduler that the options name, with retries."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from diptych.runtime.schedulers.options import SchedulerOptions
from diptych.runtime.schedulers.pools import ProcessPool, SerialPool
from diptych.runtime.schedulers.tasks import Answer, Task

log = logging.getLogger("diptych")

_POLL_SECONDS = 0.2
"""How often a cancel request is looked for while tasks run elsewhere, s."""


class CancelToken(Protocol):
    """A token that another thread may set to stop the work."""

    @property
    def requested(self) -> bool:
        """True once no further task should start."""


class Pool(Protocol):
    """Workers. Tasks go in, answers come out in the order in which they are finished."""

    def submit(self, task: Task) -> None:
        """Queue a task."""

    def next(self, seconds: float) -> Answer | None:
        """The next answer; None when there is none within ``seconds``."""

    def close(self) -> None:
        """Stop the workers, and what they are doing."""


def run_tasks(
    tasks: Sequence[Task],
    options: SchedulerOptions | None = None,
    cancel: CancelToken | None = None,
    started: Callable[[Task], None] | None = None,
) -> Iterator[Answer]:
    """Run tasks, and yield the answer of each as soon as it is there; a task that fails does not stop the others.

    Parameters
    ----------
    tasks : sequence of Task
        With distinct keys.
    options : SchedulerOptions, optional
        Where they run, and how often a failed one is run again.
    cancel : CancelToken, optional
        When its ``requested`` becomes true, no further answer is yielded and the workers are stopped.
    started : callable, optional
        Called with a task when a worker of this machine begins it.

    Raises
    ------
    InputError
        If the scheduler cannot be reached.
    UnavailableError
        If Dask, or the package for the batch system, is not installed.
    """
    options = options or SchedulerOptions()
    if not tasks:
        return
    by_key = {task.key: task for task in tasks}
    assert len(by_key) == len(tasks), "two tasks have one key"
    attempts = dict.fromkeys(by_key, 0)
    pool = _pool(options, len(tasks), started)
    try:
        for task in tasks:
            pool.submit(task)
        waiting = set(by_key)
        while waiting and not (cancel is not None and cancel.requested):
            answer = pool.next(_POLL_SECONDS)
            if answer is None:
                continue
            attempts[answer.key] += 1
            if answer.error and attempts[answer.key] <= options.retries:
                log.warning("%s: failed and is run again: %s", answer.key, answer.error)
                pool.submit(by_key[answer.key])
                continue
            waiting.remove(answer.key)
            yield replace(answer, attempts=attempts[answer.key])
    finally:
        pool.close()


def _pool(options: SchedulerOptions, tasks: int, started: Callable[[Task], None] | None) -> Pool:
    if options.scheduler == "serial":
        return SerialPool(started)
    if options.scheduler == "processes":
        return ProcessPool(options.workers, tasks, started)
    from diptych.runtime.schedulers.dask_pool import DaskPool

    return DaskPool(options, tasks)
