"""``prefer``: the preference panel. Its verbs are in modules of their own, loaded when they are called."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from diptych.cli.output import Report
from diptych.errors import InputError
from diptych.prefer.exchange import environment
from diptych.runtime.logging import LOGGER, log_file
from diptych.runtime.option_fields import Choices

if TYPE_CHECKING:
    from diptych.cli.prefer.status import Status
    from diptych.prefer.ledger.ledger import Ledger
    from diptych.prefer.session.session import Session

Folder = Annotated[
    Path | None, Parameter(help="The session; without it the folder of the prompt below $IPO_DATA_ROOT, or data.")
]

LOG = "session.log"
"""Log file in the folder of a session."""

VERBS = {
    "label": ("label:label", "Judge images at the terminal: g, b, 1 to 9, t, s, u, a, q."),
    "upload": ("images:upload", "Blend an image of your own into a session."),
    "match": ("images:match", "Search for an image that resembles one of yours."),
    "best": ("session:best", "Make the best image; print code or settings that make it again."),
    "score": ("session:score", "Report leave-one-out agreement with the judgements, or score saved images."),
    "rows": ("session:rows", "Count the judgements, once a second."),
    "settings": ("settings:settings", "Show, change or forget the options that a session stores."),
    "sessions": ("session:sessions", "List the sessions of a folder."),
    "train": ("train:train", "Train a utility model on stored judgements, and save it."),
    "export": ("files:export", "Write judgements as row folders, a state file, or CSV and PNG."),
    "import": ("files:import_", "Import row folders or a state file."),
    "simulate": ("train:simulate", "Let a simulated person judge."),
    "sanity": ("decoder:sanity", "Decode once, and fail when the image is flat."),
    "serve-decoder": ("decoder:serve_decoder", "Serve the decoder over HTTP."),
    "make-tiny-pipeline": (
        "decoder:make_tiny_pipeline",
        "Write a tiny Stable Diffusion pipeline with random weights.",
    ),
}

app = App(name="prefer", help="Learn what a person likes from the first dozen labels, and propose better images.")
for _name, (_home, _summary) in VERBS.items():
    app.command(f"diptych.cli.prefer.{_home}", name=_name, help=_summary)


def logged(function: Callable[..., Report]) -> Callable[..., Report]:
    """Show the log lines that ``$IPO_LOG_LEVEL`` selects while the function runs."""

    @wraps(function)
    def with_log(*positional: Any, **named: Any) -> Report:
        with tagged_log():
            return function(*positional, **named)

    return with_log


@contextmanager
def tagged_log() -> Iterator[None]:
    """Log lines below warnings, which are shown anyway, on standard error."""
    name = environment.log_level()
    level = logging.getLevelName(name)
    if not isinstance(level, int):
        where = f"environment variable {environment.LOG_LEVEL}"
        raise InputError(where, f"is {name}", "DEBUG, INFO, WARNING or ERROR")
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(level)
    handler.addFilter(lambda record: record.levelno < logging.WARNING)
    before = LOGGER.level
    LOGGER.addHandler(handler)
    LOGGER.setLevel(min(level, before or level))
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(before)


def home_of(folder: Path | None, choices: Choices) -> Path:
    """The folder of the session: the one given, or that of the prompt."""
    from diptych.prefer.session.folder import default_folder

    return folder if folder is not None else default_folder(given_options(choices).get("prompt"))


def given_options(choices: Choices) -> dict[str, Any]:
    """The options that were given, flags over files. They are validated together with those that a session stores:
    which decoder an option belongs to may be stored.
    """
    return {name: value for _, values in choices.layers for name, value in values.items()}


def repeated(home: Path, choices: Choices) -> str:
    """The flags of this run that differ from what a session stores, to be given again; empty, or a space first."""
    from diptych.prefer.session.folder import flags_of, merged, read_settings

    stored = read_settings(home)
    now = merged(stored, given_options(choices)).model_dump(mode="json", exclude_unset=True)
    return flags_of(now, merged(stored, {}).model_dump(mode="json", exclude_unset=True))


@contextmanager
def opened_session(
    folder: Path | None, choices: Choices, *, create: bool, synchronous: bool = False
) -> Iterator[tuple[Session, Status]]:
    """The open session, and a status line for work that takes long; what is logged is also in :data:`LOG`, beside the
    ledger. Options of the command line are stored in a new session; otherwise they override, for this run, those that
    it stores. Without ``create`` the session must be there, and nothing but the log is written to it.
    """
    from diptych.cli.prefer.status import status
    from diptych.prefer.session.folder import SETTINGS
    from diptych.prefer.session.session import Session

    home = home_of(folder, choices)
    if not create:
        open_ledger(home).close()
    new = create and not (home / SETTINGS).exists()
    given = given_options(choices)
    parts = {name: given.pop(name, None) for name in ("utility", "proposal")}
    with ExitStack() as stack:
        line = stack.enter_context(status())
        stack.enter_context(session_log(home))
        with line.doing("opening the session"):
            opened = Session.open(
                home,
                given.pop("decoder", None),
                synchronous=synchronous,
                read_only=not create,
                remember=new,
                progress=line,
                **parts,
                **given,
            )
        yield stack.enter_context(opened), line


@contextmanager
def session_log(home: Path) -> Iterator[None]:
    """Log to :data:`LOG` in a folder that can be written; elsewhere the log is not kept."""
    with ExitStack() as stack:
        try:
            home.mkdir(parents=True, exist_ok=True)
            stack.enter_context(log_file(home / LOG))
        except OSError as error:
            LOGGER.debug("%s: no log is kept (%s)", home / LOG, error.strerror)
        yield


def open_ledger(home: Path) -> Ledger:
    """The ledger of a session that exists."""
    from diptych.prefer.ledger.ledger import Ledger

    return Ledger.open(home, read_only=True)
