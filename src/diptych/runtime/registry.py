"""Extension points: things of one kind by name, built in, registered by a program, or offered by an installed package.

Each kind (formats, networks, engines, studies, decoders, utilities, proposals) has one :class:`Registry`. A module that
adds a thing defines one :class:`Extension` of that kind; the registry imports the module when the thing is asked for.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import Any, ClassVar, Generic, Self, TypeVar

from pydantic import ConfigDict, model_validator

from diptych.errors import InputError, UnavailableError
from diptych.runtime.options import Options

log = logging.getLogger("diptych")


def offered(group: str) -> EntryPoints:
    """The entry points that installed packages have in a group.

    The metadata of the packages is read once for each ``sys.path``: what is installed while a program runs is seen by
    the next one.
    """
    return _offered(group, tuple(sys.path))


@lru_cache(maxsize=32)
def _offered(group: str, path: tuple[str, ...]) -> EntryPoints:
    """The entry points of a group; ``path`` is only part of the key they are remembered under."""
    return entry_points(group=group)


class NoOptions(Options):
    """For extensions that have no options of their own."""


@dataclass(frozen=True)
class Extension:
    """What every extension declares of itself; each kind adds how it is built.

    Parameters
    ----------
    name : str
        How users call it: lower case, words joined by hyphens.
    help : str
        One sentence for ``--help`` and lists.
    options : type of Options
        Its own frozen options; the command line, YAML files and forms are generated from them.
    """

    name: str
    help: str
    options: type[Options]


E = TypeVar("E", bound=Extension)


class Registry(Generic[E]):
    """The extensions of one kind.

    Parameters
    ----------
    kind : str
        What one of them is called in messages, for instance ``"network"``.
    group : str
        Entry-point group under which installed packages offer more, for instance ``"diptych.networks"``. Each entry
        point names an object of type ``base``.
    base : type of Extension
        What every entry must be.
    builtin : mapping of str to str
        Name to ``"module:attribute"`` of the extensions that diptych brings. Their order is the order of lists.
    """

    def __init__(self, kind: str, group: str, base: type[E], builtin: Mapping[str, str]) -> None:
        self.kind, self.group, self.base = kind, group, base
        self._builtin = dict(builtin)
        self._registered: dict[str, E] = {}

    def names(self) -> tuple[str, ...]:
        """All names, without importing anything: built in, registered, then offered by installed packages."""
        return tuple(dict.fromkeys([*self._builtin, *self._registered, *self._offered()]))

    def register(self, extension: E) -> None:
        """Add one from a program. Raises InputError if the name is taken or the object is of another kind."""
        self._check(extension, f"{self.kind} to register")
        if extension.name in self.names():
            raise InputError(
                f"{self.kind} {extension.name!r}",
                "is registered already",
                f"a name other than {', '.join(self.names())}",
            )
        self._registered[extension.name] = extension

    def __getitem__(self, name: str) -> E:
        """The extension of that name.

        Raises
        ------
        InputError
            If there is none; the message lists those there are.
        UnavailableError
            If an installed package offers it and importing it fails.
        """
        if name in self._registered:
            return self._registered[name]
        if name in self._builtin:
            module, _, attribute = self._builtin[name].partition(":")
            extension = getattr(import_module(module), attribute)
            assert isinstance(extension, self.base), f"{self._builtin[name]} is not a {self.base.__name__}"
            assert extension.name == name, f"{self._builtin[name]} is not called {name!r}"
            return extension
        if (point := self._offered().get(name)) is not None:
            return self._load(point)
        raise InputError(f"{self.kind} {name!r}", "is not known", f"one of {', '.join(self.names())}")

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def entries(self) -> list[E]:
        """All extensions, in the order of :meth:`names`.

        An extension of an installed package that fails to load is logged and left out.
        """
        found = []
        for name in self.names():
            try:
                found.append(self[name])
            except (UnavailableError, InputError) as error:
                log.warning("%s", error)
        return found

    def option_models(self) -> dict[str, type[Options]]:
        """The option model of each extension, for generating flags and forms."""
        return {entry.name: entry.options for entry in self.entries()}

    def _offered(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in offered(self.group)}

    def _load(self, point: EntryPoint) -> E:
        source = f"{self.kind} {point.name!r} of {point.dist.name if point.dist else point.value}"
        try:
            loaded: Any = point.load()
        except Exception as error:
            raise UnavailableError(f"{source}: cannot be loaded ({type(error).__name__}: {error}).") from error
        return self._check(loaded, source)

    def _check(self, extension: Any, source: str) -> E:
        if not isinstance(extension, self.base):
            raise InputError(
                source, f"is a {type(extension).__name__}", f"a {self.base.__module__}.{self.base.__name__}"
            )
        return extension


class SelectingOptions(Options):
    """Options of which some fields name an extension; the extension's own options stand beside them, flat.

    ``{"engine": "rpie", "alpha": 0.1}`` is one mapping in Python, in a YAML file and on the command line: ``engine`` is
    a field of the model, ``alpha`` one of the options that the engine rpie declares. Read them as
    ``options.own("engine").alpha``.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    registries: ClassVar[Mapping[str, Registry[Any]]] = {}
    """Field that names an extension to the registry it is looked up in."""

    def chosen(self, field: str) -> Any:
        """The extension that ``field`` names; None where the field is None."""
        name = getattr(self, field)
        return None if name is None else self.registries[field][name]

    def own(self, field: str) -> Any:
        """The options, validated, of the extension that ``field`` names: an instance of its option model."""
        extension = self.chosen(field)
        if extension is None:
            return NoOptions()
        given = {key: value for key, value in (self.model_extra or {}).items() if key in extension.options.model_fields}
        return extension.options.build(given, origin=f"{self.registries[field].kind} {extension.name}")

    def resolved(self) -> dict[str, Any]:
        """Every option as JSON values, with the defaults of the chosen extensions."""
        own = [self.own(field).model_dump(mode="json") for field in self.registries]
        return {**super().resolved(), **{key: value for values in own for key, value in values.items()}}

    @model_validator(mode="after")
    def _every_option_belongs_to_a_chosen_extension(self) -> Self:
        known: set[str] = set()
        for field in self.registries:
            known.update(type(self.own(field)).model_fields)
        for key in self.model_extra or {}:
            if key not in known:
                raise ValueError(self._unknown(key, known))
        return self

    def _unknown(self, key: str, known: set[str]) -> str:
        owners = [
            f"{registry.kind} {name}"
            for registry in self.registries.values()
            for name, model in registry.option_models().items()
            if key in model.model_fields
        ]
        chosen = ", ".join(f"{self.registries[field].kind} {getattr(self, field)}" for field in self.registries)
        if owners:
            return (
                f"{key} is not an option of {chosen}; it belongs to {', '.join(owners)}. "
                "Leave it out, or choose one of those"
            )
        return f"unknown option {key!r}; expected one of {', '.join(sorted({*type(self).model_fields, *known}))}"
