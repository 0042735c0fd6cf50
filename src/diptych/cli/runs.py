"""What commands that work in a run directory have in common: which directory, and how its end is recorded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diptych.errors import DiptychError, InputError
from diptych.runtime.run_directory import RunDirectory


def open_run(run: Path | None, stem: str, record: dict[str, Any], *, resume: bool, overwrite: bool) -> RunDirectory:
    """The run directory that the flags ask for."""
    if run is None:
        return RunDirectory.numbered("runs", stem, record)
    return RunDirectory.reopen(run, record) if resume else RunDirectory.create(run, record, overwrite=overwrite)


@contextmanager
def recorded(
    directory: RunDirectory, state: Path | None, *, resume: bool = False, kept: str = "", nothing: str
) -> Iterator[None]:
    """Work in ``directory``; however it ends, the run's status says so and the directory is released.

    An error on purpose before there is any state takes the directory away again.

    Parameters
    ----------
    state : Path or None
        The file from which the run can be resumed, once it is there; None where there is no such thing.
    kept, nothing : str
        What a Ctrl-C leaves, when that file is there and when it is not.
    """

    def begun() -> bool:
        return state is not None and state.exists()

    try:
        yield
    except KeyboardInterrupt:
        directory.set_status("interrupted")
        what = f"{kept} (go on with --run {directory.path} --resume)" if begun() else nothing
        raise KeyboardInterrupt(f"interrupted; {what}; the log is in {directory.path}.") from None
    except Exception as error:
        # Without a file of the state, only a wrong input is known to come before there is anything to keep.
        nothing_done = isinstance(error, InputError if state is None else DiptychError) and not begun()
        # A resumed run that is refused (other options, another scan) is left as it was, to be resumed rightly.
        if nothing_done or (isinstance(error, InputError) and resume):
            directory.discard()
        else:
            directory.set_status("failed", error=str(error) if isinstance(error, DiptychError) else repr(error))
        raise
    finally:
        directory.release()
