"""The command line: ``diptych VERB``, the verbs listed in :data:`VERBS`.

One module per verb group, imported when its verb is called. Exit codes: 0 done; 2 the user's input is wrong; 130
interrupted by SIGINT (Ctrl-C) or SIGTERM, with the best state saved; 1 anything else.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, NoReturn

from diptych.errors import DiptychError, InputError, on_one_line
from diptych.runtime.interrupts import RaiseKeyboardInterrupt, end, install

if TYPE_CHECKING:
    from cyclopts import App

    from diptych.cli.output import Report

VERBS = {
    "info": ("diptych.cli.scans:info", "Describe a file: contents, summary numbers and warnings."),
    "check": ("diptych.cli.scans:check", "Try orientations, position conventions and centring; rank them."),
    "fetch": ("diptych.cli.scans:fetch", "Download a measured scan by name."),
    "prepare": ("diptych.cli.scans:prepare", "Choose frames; crop, bin, centre, mask, correct positions: a new scan."),
    "convert": ("diptych.cli.scans:convert", "Write a scan or a result in another format; list what is lost."),
    "validate": ("diptych.cli.scans:validate", "Check whether a file conforms to a standard; name each deviation."),
    "simulate": ("diptych.cli.scans:simulate", "Simulate a scan with its truth."),
    "reconstruct": ("diptych.cli.reconstruction:reconstruct", "Recover the object and the probe from a scan."),
    "train": ("diptych.cli.training:train", "Train a network on scans; `reconstruct --model` starts from it."),
    "networks": ("diptych.cli.networks:networks", "List the networks that can be trained, with their options."),
    "batch": ("diptych.cli.batch:batch", "Run a verb on many files, on this machine or on a cluster."),
    "study": ("diptych.cli.study:study", "Measure a quantity over a grid of conditions; list the studies."),
    "evaluate": (
        "diptych.cli.evaluation:evaluate",
        "Compute metrics against the truth, or the resolution from half scans.",
    ),
    "bound": ("diptych.cli.evaluation:bound", "Compute the least error and the resolution that photon noise allows."),
    "compare": ("diptych.cli.comparison:compare", "Reconstruct a scan with several methods and compare the results."),
    "prefer": ("diptych.cli.prefer:app", "Learn what a person likes, and propose better images; a group of verbs."),
    "studio": ("diptych.cli.studio:studio", "Open the browser app over both panels."),
    "demo": ("diptych.cli.demo:demo", "Reconstruct a measured Siemens star, with a picture."),
}


def main() -> NoReturn:
    """Entry point of the ``diptych`` script."""
    # OpenMP threads that spin while they wait slow torch down several times when cores are shared (login nodes, CI).
    # The variable is read once, when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    before = frozenset(threading.enumerate())
    install(RaiseKeyboardInterrupt())
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (head, less) has exited; what is still buffered must not raise again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as error:
        # Standard output is a file on a full disk; Python would try to write what is buffered once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"error: standard output: could not be written ({error.strerror})", file=sys.stderr)
        code = 1
    end(code, before)


def run(argv: list[str]) -> int:
    """Run a command line and return its exit code; errors that a user can cause do not raise.

    Parameters
    ----------
    argv : list of str
        The arguments, without the program's name.
    """
    from diptych.cli.output import Report, show

    as_json = "--json" in _flags(argv)
    report = execute(argv)
    if not isinstance(report, Report):
        return 0
    show(report, as_json=as_json)
    return report.code


def execute(argv: list[str]) -> Report | None:
    """Run a command line and return its report, None after ``--help``; errors that a user can cause do not raise.

    Parameters
    ----------
    argv : list of str
        The arguments, without the program's name.
    """
    from cyclopts import CycloptsError

    from diptych.cli.output import Report
    from diptych.runtime.logging import warnings_on_stderr

    flags = _flags(argv)
    # What libraries print during the work must not reach standard output with --json.
    quiet = contextlib.redirect_stdout(sys.stderr) if "--json" in flags else contextlib.nullcontext()
    try:
        with quiet, warnings_on_stderr():
            report: Any = make_app()(argv, exit_on_error=False, print_error=False, result_action="return_value")
    except BrokenPipeError:
        raise
    except BaseException as error:
        if "--debug" in flags:
            import traceback

            traceback.print_exc()
        parsing = isinstance(error, CycloptsError)
        report = _failure(error, 2 if parsing or isinstance(error, InputError) else 1)
    return report if isinstance(report, Report) else None


def _flags(argv: list[str]) -> list[str]:
    return argv[: argv.index("--")] if "--" in argv else argv


def make_app() -> App:
    """The cyclopts application; verbs are imported when they are called."""
    from cyclopts import App

    import diptych

    app = App(
        name="diptych",
        help="Recover images from indirect evidence: diffraction counts in, complex object out.",
        version=diptych.__version__,
        help_format="plaintext",
        suppress_keyboard_interrupt=False,
    )
    for name, (home, summary) in VERBS.items():
        app.command(home, name=name, help=summary)
    return app


def _missing(error: BaseException) -> str:
    """Which argument or option a command line lacks, what it is, and which words were not understood; or nothing."""
    from cyclopts import MissingArgumentError

    if not isinstance(error, MissingArgumentError) or error.argument is None:
        return ""
    argument, unused = error.argument, error.unused_tokens or []
    if argument.tokens or error.keyword is not None or argument.name in unused:
        return ""  # It is there, without its value: the parser says so.
    verb = " ".join(["diptych", *(error.command_chain or ())])
    what = f" ({argument.parameter.help.rstrip('.')})" if argument.parameter.help else ""
    extra = f"; not understood: {' '.join(unused)}" if unused else ""
    return f"{verb}: {argument.name} is missing{what}{extra}. See {verb} --help."


def _failure(error: BaseException, code: int) -> Report:
    from diptych.cli.output import Report

    if isinstance(error, SystemExit):
        raise error
    if isinstance(error, KeyboardInterrupt):
        message, code = str(error) or "interrupted; nothing was saved.", 130
    elif isinstance(error, DiptychError) or code == 2:
        message = on_one_line(_missing(error) or str(error))
    elif (
        isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or "can't allocate memory" in str(error)
    ):
        message = f"not enough memory: {' '.join(str(error).split())}"
    elif isinstance(error, OSError):
        message = f"{error.filename + ': ' if error.filename else ''}{error.strerror or error}"
    else:
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"
        message = f"internal error: {text}. Run the command again with --debug and report the traceback as a bug."
    return Report(
        {"error": message, "exit_code": code}, code=code, note=message if code == 130 else f"error: {message}"
    )
