"""Workers of this machine: the process itself, or processes that talk in lines of JSON."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import IO

from diptych.runtime.schedulers.tasks import Answer, Task, answer

Started = Callable[[Task], None] | None

_GRACE_SECONDS = 30.0
"""Time that a worker has to save its state when the pool is closed, s."""

_TAIL = 20


def cores() -> int:
    """CPU cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


class SerialPool:
    """Runs one task after the other in this process, when its answer is asked for."""

    def __init__(self, started: Started = None) -> None:
        self._waiting: deque[Task] = deque()
        self._started = started

    def submit(self, task: Task) -> None:
        """Queue a task."""
        self._waiting.append(task)

    def next(self, seconds: float) -> Answer | None:
        """Run the next task."""
        if not self._waiting:
            return None
        task = self._waiting.popleft()
        if self._started is not None:
            self._started(task)
        return Answer.from_json(answer(task.to_json()))

    def close(self) -> None:
        """Forget what is queued."""
        self._waiting.clear()


class ProcessPool:
    """Processes of this machine, each running one task at a time. One that dies is replaced.

    Parameters
    ----------
    workers : int or None
        Processes; by default one per core, and never more than there are tasks.
    tasks : int
        Number of tasks.
    started : callable, optional
        Called with a task when a process begins it.
    """

    def __init__(self, workers: int | None, tasks: int, started: Started = None) -> None:
        self._count = min(workers or cores(), tasks)
        self._waiting: deque[Task] = deque()
        self._answers: queue.SimpleQueue[tuple[_Worker, Answer]] = queue.SimpleQueue()
        self._busy: set[_Worker] = set()
        self._idle: list[_Worker] = []
        self._started = started

    def submit(self, task: Task) -> None:
        """Queue a task, and start it where a process is free."""
        self._waiting.append(task)
        self._dispatch()

    def next(self, seconds: float) -> Answer | None:
        """The next answer of any process; None when there is none within ``seconds``."""
        try:
            worker, found = self._answers.get(timeout=seconds)
        except queue.Empty:
            return None
        self._busy.discard(worker)
        if worker.alive:
            self._idle.append(worker)
        self._dispatch()
        return found

    def close(self) -> None:
        """Stop the processes: a running task gets SIGTERM, and a few seconds to save its state."""
        self._waiting.clear()
        workers = [*self._busy, *self._idle]
        for worker in workers:
            worker.stop()
        for worker in workers:
            worker.join()
        self._busy.clear()
        self._idle.clear()

    def _dispatch(self) -> None:
        while self._waiting and (self._idle or len(self._busy) < self._count):
            worker = self._idle.pop() if self._idle else _Worker(self._answers, self._count)
            task = self._waiting.popleft()
            self._busy.add(worker)
            if self._started is not None:
                self._started(task)
            worker.begin(task)


class _Worker:
    """One process and the threads that read what it writes."""

    def __init__(self, answers: queue.SimpleQueue[tuple[_Worker, Answer]], workers: int) -> None:
        environment = {"OMP_NUM_THREADS": str(max(1, cores() // workers)), **os.environ}
        # A session of its own: Ctrl-C at the terminal reaches this process alone, which then stops the others.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "diptych.runtime.schedulers.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )
        self.alive = True
        self._key, self._answers, self._lock = "", answers, threading.Lock()
        self._tail: deque[str] = deque(maxlen=_TAIL)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._input: IO[str] = self._process.stdin
        self._errors = threading.Thread(target=self._read_errors, args=(self._process.stderr,), daemon=True)
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._errors.start()
        self._reader.start()

    def begin(self, task: Task) -> None:
        """Give the process a task. A process that has died meanwhile answers through its reader."""
        self._key = task.key
        try:
            self._input.write(task.to_json() + "\n")
            self._input.flush()
        except (BrokenPipeError, ValueError):
            self._reader.join()
            self._died()

    def stop(self) -> None:
        """Close its standard input, which ends an idle process, and interrupt a running task."""
        try:
            self._input.close()
        except OSError:
            self.alive = False
        if self._key:
            # The worker also interrupts itself at the end of its input; the two count as one request.
            self._process.terminate()

    def join(self) -> None:
        """Wait for the end of the process; kill it when it takes too long."""
        try:
            self._process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(1)
        self._errors.join(1)

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self._key = ""
            self._answers.put((self, Answer.from_json(line)))
        self._process.wait()
        self._errors.join(1)
        self._died()

    def _read_errors(self, stream: IO[str]) -> None:
        self._tail.extend(line.rstrip("\n") for line in stream)

    def _died(self) -> None:
        """Answer for the task that the process has left, once."""
        with self._lock:
            self.alive = False
            key, self._key = self._key, ""
        if not key:
            return
        code = self._process.returncode
        how = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        last = self._tail[-1] if self._tail else ""
        text = f"the worker process ended without an answer ({how}). {last}".strip()
        self._answers.put((self, Answer(key, error=text, traceback="\n".join(self._tail))))
