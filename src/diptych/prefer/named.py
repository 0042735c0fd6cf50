"""Classes by name: each lives in a module of its own, which is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from diptych.errors import InputError


def make_named(
    homes: Mapping[str, tuple[str, str]], package: str, what: str, protocol: str, name: str, options: Mapping[str, Any]
) -> Any:
    """An object of the class of a name.

    Parameters
    ----------
    homes : mapping of str to (str, str)
        Module below ``package``, and class in it, of each name.
    package : str
        Such as ``diptych.prefer.utility``.
    what, protocol : str
        What the named are, for the error.
    name : str
    options : mapping
        What the class takes.

    Raises
    ------
    InputError
        There is none of that name.
    """
    if name not in homes:
        known = ", ".join(homes)
        raise InputError(
            f"there is no {what} {name!r}; expected one of {known}, or an object that meets the {protocol} protocol"
        )
    module, kind = homes[name]
    return getattr(import_module(f"{package}.{module}"), kind)(**options)
