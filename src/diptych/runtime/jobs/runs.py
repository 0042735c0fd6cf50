"""What job functions with a run directory have in common: which directory, and how its end is recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from diptych.errors import DiptychError, InputError
from diptych.runtime.files import unless_refused
from diptych.runtime.jobs.context import JobContext
from diptych.runtime.option_fields import Choices
from diptych.runtime.options import Options, read_yaml
from diptych.runtime.run_directory import RunDirectory

Model = TypeVar("Model", bound=Options)


def options_from(
    model: type[Model], given: Model | Mapping[str, Any] | None, resumed: str | Path | None = None
) -> Model:
    """Options as an object: an object as it is, a mapping validated; None means the defaults.

    Parameters
    ----------
    resumed : path, optional
        The run directory that is resumed: None then means the options of that run, and a mapping is laid over them.
    """
    if isinstance(given, model):
        return given
    values = dict(given or {})
    if resumed is None or not (Path(resumed) / "options.yaml").is_file():
        return model.build(values)
    path = Path(resumed) / "options.yaml"
    return Choices((model,), ((str(path), read_yaml(path)), ("options", values)))[model]


def open_run(
    run: str | Path | None, stem: str, record: dict[str, Any], context: JobContext, *, resume: bool, overwrite: bool
) -> RunDirectory:
    """Open the run directory that is asked for, ``runs/<stem>-<number>`` when ``run`` is None, and report it.

    Raises
    ------
    InputError
        If the folder cannot be used, or there is no run to resume in it.
    """
    if run is None:
        directory = RunDirectory.numbered("runs", stem, record)
    else:
        directory = (
            RunDirectory.reopen(run, record) if resume else RunDirectory.create(run, record, overwrite=overwrite)
        )
    context.opened(directory.path)
    return directory


@contextmanager
def recorded(
    directory: RunDirectory, state: Path | None, *, resume: bool = False, kept: str = "", nothing: str
) -> Iterator[None]:
    """Work in ``directory``; however it ends, the run's status says so and the directory is released.

    An error raised on purpose before there is any state removes the directory again.

    Parameters
    ----------
    state : Path or None
        The file from which the run can be resumed, once it exists; None where there is no such file.
    kept, nothing : str
        What an interrupted run leaves, when that file exists and when it does not.
    """

    def begun() -> bool:
        return state is not None and state.exists()

    try:
        yield
    except KeyboardInterrupt:
        with unless_refused("the status of the run stays as it was"):
            directory.set_status("interrupted")
        what = f"{kept} (continue with --run {directory.path} --resume)" if begun() else nothing
        raise KeyboardInterrupt(f"interrupted; {what}; the log is in {directory.path}.") from None
    except Exception as error:
        # Without a file of the state, only a wrong input is known to come before there is anything to keep.
        nothing_done = isinstance(error, InputError if state is None else DiptychError) and not begun()
        # A resumed run that is refused (other options, another scan) is left as it was, so that it can be resumed.
        if nothing_done or (isinstance(error, InputError) and resume):
            directory.discard()
        else:
            with unless_refused("the status of the run stays as it was"):
                directory.set_status("failed", error=str(error) if isinstance(error, DiptychError) else repr(error))
        raise
    finally:
        directory.release()
