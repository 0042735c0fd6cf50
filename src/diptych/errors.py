"""The errors a user meets.

Every message names the file or argument, what was found, what was expected and how to mend it. The command line prints
the message alone and exits with code 2.
"""

from __future__ import annotations


class DiptychError(Exception):
    """Base of the errors that diptych raises on purpose."""


class InputError(DiptychError, ValueError):
    """The user's input is wrong: a file, an array or an option. Exit code 2 on the command line."""


class UnavailableError(DiptychError, RuntimeError):
    """Something the task needs is not here: a network, a device, an optional package. Exit code 1."""
