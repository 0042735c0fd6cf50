"""Packages whose public names are imported on first use, so that importing the package costs almost nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(
    package: str, modules: Mapping[str, str], namespace: dict[str, Any]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a package.

    Parameters
    ----------
    package : str
        The package's ``__name__``, for the error of an unknown name.
    modules : mapping of str to str
        Module of each public name.
    namespace : dict
        The package's ``globals()``: a name that was imported once is kept there.
    """

    def __getattr__(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        namespace[name] = value = getattr(import_module(modules[name]), name)
        return value

    return __getattr__, lambda: sorted(modules)
