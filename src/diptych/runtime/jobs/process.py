"""A job in a process of its own: the parent's side. The two talk in lines of JSON.

The parent writes the call, then ``cancel``; the child writes events (``progress``, ``opened``, ``finished``,
``cancelled``, ``failed``). A child whose standard input ends has lost its parent, and ends too.
"""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from diptych.runtime.jobs.context import Finished
from diptych.runtime.progress import Progress
from diptych.runtime.run_directory import plain

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diptych.runtime.jobs.job import Job

GRACE_SECONDS = 30.0
"""Time that a cancelled process has to save its state before it is killed, s."""

_POLL_SECONDS = 0.1
_TAIL = 20


def run_in_process(job: Job, threads: int | None) -> None:
    """Run a job in a new process and wait for its end; nothing is raised."""
    environment = dict(os.environ)
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    try:
        call = json.dumps({"work": job.work, "arguments": plain(job.arguments), "threads": threads})
        # A session of its own: Ctrl-C at the terminal reaches the parent alone, and the group can be killed.
        child = subprocess.Popen(
            [sys.executable, "-m", "diptych.runtime.jobs.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )
    except (OSError, TypeError) as error:
        job.end(error=f"the process could not be started: {error}")
        return
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    tail: list[str] = []
    reader = threading.Thread(target=_read_tail, args=(child.stderr, tail), daemon=True)
    reader.start()
    over = threading.Event()
    guard = threading.Thread(target=_guard, args=(job, child, over), daemon=True)
    last: dict[str, Any] = {}
    try:
        _send(child.stdin, call)
        guard.start()
        for line in child.stdout:
            last = _receive(job, json.loads(line)) or last
    finally:
        over.set()
        child.stdin.close()
        # What the process has started in its group ends with it.
        code = _ended(child)
        reader.join(5)
        child.stdout.close()
        child.stderr.close()
    _conclude(job, last, code, "\n".join(tail))


def encode(images: Mapping[str, NDArray[Any]]) -> str:
    """Arrays as the text of an NPZ file in base64."""
    import numpy as np

    stream = io.BytesIO()
    # Not compressed: that takes ten times as long as what it saves on the way between two processes.
    np.savez(stream, **images)  # type: ignore[arg-type]
    return base64.b64encode(stream.getvalue()).decode("ascii")


def decode(text: str) -> dict[str, NDArray[Any]]:
    """The arrays in a text of :func:`encode`."""
    import numpy as np

    with np.load(io.BytesIO(base64.b64decode(text)), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _receive(job: Job, event: dict[str, Any]) -> dict[str, Any]:
    """Act on one event of the child; return it when it is the last one."""
    if event["event"] == "progress":
        progress = Progress(event["stage"], event["done"], event["total"], event["values"])
        job.report(progress, decode(event["preview"]) if event.get("preview") else None)
        return {}
    if event["event"] == "opened":
        job.opened(Path(event["folder"]))
        return {}
    return event


def _conclude(job: Job, last: dict[str, Any], code: int, tail: str) -> None:
    if last.get("event") == "finished":
        job.end(Finished(last["data"], last["status"]))
    elif last.get("event") == "cancelled" or (not last and job.context().cancel.requested):
        job.end()
    elif last.get("event") == "failed":
        job.log_traceback(last["traceback"])
        job.end(error=last["error"])
    else:
        job.log_traceback(tail)
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        job.end(error=f"the process of the job ended without a result ({how}); {tail.splitlines()[-1] if tail else ''}")


def _guard(job: Job, child: subprocess.Popen[str], over: threading.Event) -> None:
    """Pass a cancel request on to the child, and kill it when it does not end in time."""
    token = job.context().cancel
    while not over.is_set() and not token.wait(_POLL_SECONDS):
        pass
    if over.is_set():
        return
    assert child.stdin is not None
    _send(child.stdin, "cancel")
    if not over.wait(GRACE_SECONDS):
        _kill(child)


def _send(stream: IO[str], line: str) -> None:
    try:
        stream.write(line + "\n")
        stream.flush()
    except (BrokenPipeError, ValueError):
        # The child has ended; what it wrote before says why.
        return


def _ended(child: subprocess.Popen[str]) -> int:
    try:
        return child.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        _kill(child)
        return child.wait()


def _kill(child: subprocess.Popen[str]) -> None:
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError, AttributeError):
        child.kill()


def _read_tail(stream: IO[str], tail: list[str]) -> None:
    for line in stream:
        tail.append(line.rstrip("\n"))
        del tail[:-_TAIL]
