"""The errors that a user meets.

Every message names the file or argument, what was found, what was expected and the remedy. The command line prints the
message alone and exits with code 2.
"""

from __future__ import annotations

from typing import Any

_COMMAND = "  diptych "
"""What a line with a command begins with, in a message."""

LONGEST = 1000
"""Characters of a part of a message: what a file holds may be of any length, and is shortened in the middle."""


def to_type(purpose: str, command: str) -> str:
    """A command, alone on an indented line so that it can be copied, below what it is for; the end of a message."""
    return f"{purpose}:\n  {command}"


def on_one_line(text: str) -> str:
    """A message on one line, but for the commands in it (:func:`to_type`), which keep lines of their own."""
    made: list[str] = []
    for line in text.splitlines():
        command = line.startswith(_COMMAND)
        words = line.rstrip() if command else " ".join(line.split())
        if made and not command and not made[-1].startswith(_COMMAND):
            made[-1] = f"{made[-1]} {words}".strip()
        elif words:
            made.append(words)
    return "\n".join(made)


class DiptychError(Exception):
    """Base of the errors that diptych raises on purpose."""


class InputError(DiptychError, ValueError):
    """The user's input is wrong: a file, an array or an option. Exit code 2 on the command line.

    The parts stay separate, so that callers can act on them or reword one; the message is rendered from them once.

    Parameters
    ----------
    where : object
        What is wrong: a file, an argument, a dataset in a file.
    found : str
        What was found there.
    expected : str
        What was expected instead.
    remedy : str
        What the user can do, as a sentence.

    Examples
    --------
    >>> print(InputError("scan.npz", "counts has shape (3, 4)", "(patterns, N, N)", "Transpose the array."))
    scan.npz: counts has shape (3, 4); expected (patterns, N, N). Transpose the array.
    """

    def __init__(self, where: object, found: str = "", expected: str = "", remedy: str = "") -> None:
        self.where, self.found, self.expected, self.remedy = str(where), found, expected, remedy
        super().__init__(self._render())

    def changed(self, **parts: Any) -> InputError:
        """The same error with some parts replaced, for instance ``where`` by the file that the value came from."""
        kept = {"where": self.where, "found": self.found, "expected": self.expected, "remedy": self.remedy}
        return type(self)(**{**kept, **parts})

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.where, self.found, self.expected, self.remedy)

    def _render(self) -> str:
        if not (self.found or self.expected or self.remedy):
            return _shortened(self.where, 3 * LONGEST)
        where, found, expected, remedy = map(_shortened, (self.where, self.found, self.expected, self.remedy))
        text = f"{where}: {found}" if found else where
        if expected:
            text = f"{text.rstrip('.')}; expected {expected}"
        if remedy:
            text = f"{text.rstrip('.')}. {remedy}"
        closed = text.endswith((".", "?", "!", ")")) or f"\n{_COMMAND}" in text[text.rfind("\n") :]
        return text if closed else f"{text}."


def _shortened(text: str, longest: int = LONGEST) -> str:
    """A text of at most a little more than ``longest`` characters: its beginning and end."""
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]}... ({len(text):,} characters) ...{text[-half:]}"


class IncompleteError(InputError):
    """The user's file is in order, but does not state something that has to be given; the message says what."""


class UnavailableError(DiptychError, RuntimeError):
    """Something the task needs is missing: a network, a device, an optional package. Exit code 1."""
