"""Commands made from option models: a field of a model is a flag, a key of the YAML file, and a line of ``--help``.

Precedence is flag > file > default. It rests on one fact: cyclopts hands a command only the arguments that were given.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from cyclopts import Group, Parameter
from pydantic.fields import FieldInfo

from diptych.cli.output import Report
from diptych.errors import InputError
from diptych.runtime.options import Options, read_yaml

Model = TypeVar("Model", bound=Options)
Verb = Callable[..., Report]
Layer = tuple[str, Mapping[str, Any]]

COMMON = Group("Every command", sort_key=90)
_KEYWORD = inspect.Parameter.KEYWORD_ONLY


@dataclass(frozen=True)
class Choices:
    """What the person chose, by option model: ``choices[ReconstructionOptions]`` is a validated object.

    Parameters
    ----------
    models : tuple of option models
        Those of the command; their field names are distinct.
    layers : tuple of (origin, values)
        Weakest first: files, then the command line.
    config : Path, optional
        The ``--config`` file, where one was given.
    """

    models: tuple[type[Options], ...]
    layers: tuple[Layer, ...] = ()
    config: Path | None = None

    def __getitem__(self, model: type[Model]) -> Model:
        values: dict[str, Any] = {}
        blame = "command line"
        for origin, layer in self.layers:
            part = {key: value for key, value in layer.items() if key in model.model_fields}
            values.update(part)
            if part and not _valid(model, part):
                blame = origin
        return model.build(values, origin=blame)

    def __iter__(self) -> Iterator[Options]:
        return (self[model] for model in self.models)

    def above(self, path: Path) -> Choices:
        """These choices, laid over those in another YAML file."""
        return replace(self, layers=(_file_layer(path, self.models), *self.layers))


def verb(*models: type[Options]) -> Callable[[Callable[..., Report]], Verb]:
    """Make a command of a function that takes its own arguments and ``choices: Choices``.

    The command's signature is the function's, with every field of ``models`` and the flags ``--config``, ``--json`` and
    ``--debug`` in the place of ``choices``.

    Raises
    ------
    ValueError
        If two of them have one name.
    """

    def decorate(function: Callable[..., Report]) -> Verb:
        own = [p for p in inspect.signature(function, eval_str=True).parameters.values() if p.name != "choices"]
        common = [
            p for p in inspect.signature(_common, eval_str=True).parameters.values() if models or p.name != "config"
        ]
        flags = [
            p for order, model in enumerate(models) for p in flags_of(model, Group(title(model), sort_key=10 + order))
        ]
        parameters = [*own, *flags, *common]
        names = [p.name for p in parameters]
        if len(set(names)) < len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ValueError(f"{function.__name__}: option names used twice: {', '.join(twice)}")

        @functools.wraps(function)
        def command(*positional: Any, **given: Any) -> Report:
            for name in ("json", "debug"):
                given.pop(name, None)
            config: Path | None = given.pop("config", None)
            layers = [_file_layer(config, models)] if config is not None else []
            chosen = {name: given.pop(name) for p in flags if (name := p.name) in given}
            layers.append(("command line", chosen))
            return function(*positional, **given, choices=Choices(models, tuple(layers), config))

        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        # What is wrapped has another signature, and parsers look through __wrapped__.
        del command.__wrapped__
        return command

    return decorate


def flags_of(model: type[Options], group: Group) -> list[inspect.Parameter]:
    """One keyword parameter per field: its type, its default, and its description with the allowed range."""
    return [
        inspect.Parameter(
            name,
            _KEYWORD,
            default=field.get_default(call_default_factory=True),
            annotation=Annotated[
                bare(field.annotation),
                Parameter(name=flag(name), help=_help(field), group=group, negative_iterable=(), consume_multiple=True),
            ],
        )
        for name, field in model.model_fields.items()
    ]


def flag(name: str) -> tuple[str, ...]:
    """``held_out`` as ``--held-out``; a unit's capitals stay, and the flag is known in lower case too."""
    exact = "--" + name.replace("_", "-")
    return (exact,) if exact.islower() else (exact, exact.lower())


def bare(annotation: Any) -> Any:
    """A type without the constraints that pydantic checks, which are no business of the parser."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return bare(inner[0])
    if origin in (Union, UnionType):
        return Union[tuple(map(bare, inner))]  # noqa: UP007 (built from a tuple)
    return tuple.__class_getitem__(tuple(map(bare, inner))) if origin is tuple else annotation


def title(model: type[Options]) -> str:
    """``ReconstructionOptions`` as the heading ``Reconstruction options``."""
    words = re.findall(r"[A-Z][a-z0-9]*", model.__name__)
    return " ".join([words[0], *(word.lower() for word in words[1:])])


def _common(
    *,
    config: Annotated[Path | None, Parameter(help="YAML file of options; flags win over it.", group=COMMON)] = None,
    json: Annotated[
        bool, Parameter(help="Standard output gets one JSON object and nothing else.", negative=(), group=COMMON)
    ] = False,
    debug: Annotated[bool, Parameter(help="Show the traceback of an error.", negative=(), group=COMMON)] = False,
) -> None:
    """The flags of every command."""


def _help(field: FieldInfo) -> str:
    symbols = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    constraints = [*field.metadata, *_constraints(field.annotation)]
    limits = [(sign, getattr(each, key, None)) for key, sign in symbols.items() for each in constraints]
    bounds = dict.fromkeys(f"{sign} {limit:g}" for sign, limit in limits if limit is not None)
    return f"{field.description} [{', '.join(bounds)}]" if bounds else str(field.description)


def _constraints(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Annotated:
        yield from get_args(annotation)[1:]
    for inner in get_args(annotation):
        yield from _constraints(inner)


def _file_layer(path: Path, models: tuple[type[Options], ...]) -> Layer:
    values = read_yaml(path)
    known = sorted(name for model in models for name in model.model_fields)
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise InputError(
            f"{path}: unknown option {', '.join(map(repr, unknown))}; expected some of {', '.join(known)}."
        )
    return str(path), values


def _valid(model: type[Options], values: dict[str, Any]) -> bool:
    try:
        model.build(values)
    except InputError:
        return False
    return True
