"""Job functions of the Compare page that run in a thread of the server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from diptych.ptycho.evaluate.options import EvaluationOptions
from diptych.ptycho.io import load_result
from diptych.runtime.jobs.context import Finished, JobContext, stopping
from diptych.runtime.progress import Progress
from diptych.studio.state.compare.compared import Compared, compare_results


def compare_files(
    files: Mapping[str, Path], reference: str, gauge: str, receive: Callable[[Compared], None], *, context: JobContext
) -> Finished:
    """Read result files and compare them with one of them.

    Parameters
    ----------
    files : mapping of str to Path
        Result files by name.
    reference : str
        One of the names.
    gauge : str
        ``auto``, ``full``, ``scale``, ``phase`` or ``none``.
    receive : callable
        Given the comparison, in the thread of the job.
    context : JobContext
        Progress and cancel token.
    """
    report = stopping(context)
    results = {}
    for done, (name, path) in enumerate(files.items()):
        report(Progress(f"reading {name}", done, len(files) + 1))
        results[name] = load_result(path)
    report(Progress("aligning and comparing", len(files), len(files) + 1))
    found = compare_results(results, reference, EvaluationOptions.build({"gauge": gauge}))
    receive(found)
    return Finished({"results": list(files), "reference": reference})
