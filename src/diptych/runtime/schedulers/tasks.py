"""A task and its answer, both JSON, and the function that a worker runs."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diptych.errors import DiptychError, InputError
from diptych.runtime.jobs.queue import resolve
from diptych.runtime.logging import log_file
from diptych.runtime.provenance import utc_now
from diptych.runtime.run_directory import plain

_PACKAGE = "diptych."


@dataclass(frozen=True)
class Task:
    """A call of a function of diptych.

    Parameters
    ----------
    key : str
        Unique name among the tasks of one run.
    work : str
        ``"module:function"`` in the package diptych; it returns a mapping of JSON values.
    arguments : mapping
        Its keyword arguments, JSON values. Paths must mean the same on every worker.
    log : path, optional
        File that the worker appends its log to, with the traceback of an error.
    """

    key: str
    work: str
    arguments: Mapping[str, Any]
    log: str | None = None

    def to_json(self) -> str:
        """The task as text."""
        values = {"key": self.key, "work": self.work, "arguments": plain(self.arguments), "log": self.log}
        return json.dumps(values, allow_nan=False)


@dataclass(frozen=True)
class Answer:
    """What came of a task.

    Parameters
    ----------
    key : str
        Key of the task.
    values : dict or None
        What the function returned; None when the task failed.
    error : str
        Why it failed; empty when it did not.
    traceback : str
        Where it failed, for errors that diptych does not raise on purpose.
    seconds : float
        Time of the last attempt.
    attempts : int
        How often the task was run.
    """

    key: str
    values: dict[str, Any] | None = None
    error: str = ""
    traceback: str = ""
    seconds: float = 0.0
    attempts: int = 1

    @classmethod
    def from_json(cls, text: str) -> Answer:
        """The answer in a text of :func:`answer`."""
        record = json.loads(text)
        return cls(record["key"], record["values"], record["error"], record["traceback"], record["seconds"])


def answer(text: str) -> str:
    """Run the task in a text of :meth:`Task.to_json`; return the answer as text. An error becomes the answer.

    Raises
    ------
    InputError
        If the task names a function outside diptych.
    """
    task = json.loads(text)
    work = str(task["work"])
    if not work.startswith(_PACKAGE):
        raise InputError(f"task {task['key']}", f"names the function {work!r}", "a function of the package diptych")
    record: dict[str, Any] = {"key": task["key"], "values": None, "error": "", "traceback": ""}
    began = time.perf_counter()
    with log_file(Path(task["log"])) if task["log"] else nullcontext():
        try:
            record["values"] = plain(resolve(work)(**task["arguments"]))
        except Exception as error:
            expected = isinstance(error, DiptychError)
            record["error"] = " ".join(str(error).split()) if expected else f"{type(error).__name__}: {error}"
            record["traceback"] = "" if expected else traceback.format_exc()
            if task["log"]:
                with Path(task["log"]).open("a", encoding="utf-8") as stream:
                    stream.write(f"{utc_now()} failed: {record['error']}\n{record['traceback']}")
    record["seconds"] = time.perf_counter() - began
    return json.dumps(record, allow_nan=False)
