"""What an option model offers: names, types, choices, ranges and help texts of its fields, for flags, tables and forms.

For a :class:`~diptych.runtime.registry.SelectingOptions` the options of every extension that can be selected are listed
too. Nothing here imports torch as long as the option models do not.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from diptych.errors import InputError
from diptych.runtime.options import Options, read_yaml
from diptych.runtime.registry import SelectingOptions

log = logging.getLogger("diptych")

Model = TypeVar("Model", bound=Options)
Layer = tuple[str, Mapping[str, Any]]

_SYMBOLS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
_KINDS = {bool: "yes or no", int: "whole number", float: "number", str: "text"}


@dataclass(frozen=True)
class OptionField:
    """One option, as a flag, a row of a table or a form field needs it.

    Parameters
    ----------
    name : str
        Name of the field; the key in YAML files.
    annotation : type
        Its type, without the constraints that pydantic checks.
    help : str
        Description, with the unit.
    default : object
        Its default; None where there is none, or where extensions differ in it.
    bounds : tuple of str
        Allowed range, for instance ``(">= 1", "<= 32")``.
    group : str
        Heading under which it is listed.
    owners : tuple of str
        The extensions it belongs to, for instance ``("engine rpie",)``; empty for a field of the model itself.
    """

    name: str
    annotation: Any
    help: str
    default: Any
    bounds: tuple[str, ...]
    group: str
    owners: tuple[str, ...] = ()

    @property
    def choices(self) -> tuple[Any, ...]:
        """The values of a Literal, in their order; empty for other types."""
        inner = [self.annotation, *get_args(self.annotation)]
        return next((get_args(each) for each in inner if get_origin(each) is Literal), ())

    @property
    def optional(self) -> bool:
        """Whether None is allowed: the program decides."""
        return NoneType in get_args(self.annotation)

    @property
    def kind(self) -> str:
        """What may be given: ``choice``, ``whole number``, ``number``, ``text``, ``yes or no``, ``3 numbers``."""
        return "choice" if self.choices else _kind(self.annotation)

    @property
    def help_with_bounds(self) -> str:
        """The description, followed by the allowed range where there is one."""
        return f"{self.help} [{', '.join(self.bounds)}]" if self.bounds else self.help


def option_fields(model: type[Options]) -> list[OptionField]:
    """The fields of a model, followed by the options of every extension that it can select.

    An option that several extensions declare is listed once, with all its owners. Where their types differ, it is text
    on the command line and the chosen extension validates it. An extension's option with the name of a field of the
    model could never be set; it is left out with a logged warning.
    """
    own = [_field(name, info, title(model)) for name, info in model.model_fields.items()]
    if not issubclass(model, SelectingOptions):
        return own
    own = [_selecting(field, model) if field.name in model.registries else field for field in own]
    merged: dict[str, OptionField] = {}
    for registry in model.registries.values():
        for name, options in registry.option_models().items():
            for key, info in options.model_fields.items():
                owner = f"{registry.kind} {name}"
                if key in model.model_fields:
                    log.warning("option %s of the %s has the name of a general option and cannot be set", key, owner)
                    continue
                field = replace(_field(key, info, ""), owners=(owner,))
                merged[key] = field if key not in merged else _merged(merged[key], field)
    extra = [replace(field, group=_heading(field.owners)) for field in merged.values()]
    return own + sorted(extra, key=lambda field: (len(field.owners) == 1, field.group))


def option_names(model: type[Options]) -> tuple[str, ...]:
    """Names of all options of a model, those of selectable extensions included."""
    return tuple(field.name for field in option_fields(model))


def title(model: type[Options]) -> str:
    """``ReconstructionOptions`` as the heading ``Reconstruction options``."""
    words = re.findall(r"[A-Z][a-z0-9]*", model.__name__)
    return " ".join([words[0], *(word.lower() for word in words[1:])])


@dataclass(frozen=True)
class Choices:
    """Values of several option models in layers, the weakest first: defaults, files, command line or form.

    ``choices[ReconstructionOptions]`` is a validated object. A layer that selects another extension (``--engine epie``)
    drops the options of the one it replaces from the layers below.

    Parameters
    ----------
    models : tuple of option models
        Their option names are distinct.
    layers : tuple of (origin, values)
        Weakest first; the origin (a file name, ``"command line"``) is what messages name.
    config : Path, optional
        The YAML file among the layers, where one was given.
    """

    models: tuple[type[Options], ...]
    layers: tuple[Layer, ...] = ()
    config: Path | None = None

    def __getitem__(self, model: type[Model]) -> Model:
        names = set(option_names(model))
        values: dict[str, Any] = {}
        source = "command line"
        for origin, layer in self.layers:
            part = {key: value for key, value in layer.items() if key in names}
            values = {**_without_replaced(model, values, part), **part}
            if part and not _valid(model, part):
                source = origin
        return model.build(values, origin=source)

    def __iter__(self) -> Iterator[Options]:
        return (self[model] for model in self.models)

    def with_values(self, **values: Any) -> Choices:
        """These choices, with values laid over all layers."""
        return replace(self, layers=(*self.layers, ("command line", values)))

    def above(self, path: Path) -> Choices:
        """These choices, laid over those in another YAML file."""
        return replace(self, layers=(file_layer(path, self.models), *self.layers))


def file_layer(path: Path, models: tuple[type[Options], ...]) -> Layer:
    """The options in a YAML file. Raises InputError for a key that none of ``models`` has."""
    values = read_yaml(path)
    known = sorted({name for model in models for name in option_names(model)})
    if unknown := sorted(set(values) - set(known)):
        raise InputError(path, f"unknown option {', '.join(map(repr, unknown))}", f"some of {', '.join(known)}")
    return str(path), values


def bare(annotation: Any) -> Any:
    """A type without the constraints that pydantic checks and parsers do not know."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return bare(inner[0])
    if origin in (Union, UnionType):
        return Union[tuple(map(bare, inner))]  # noqa: UP007 (built from a tuple)
    return tuple.__class_getitem__(tuple(map(bare, inner))) if origin is tuple else annotation


def _field(name: str, info: FieldInfo, group: str) -> OptionField:
    constraints = [*info.metadata, *_constraints(info.annotation)]
    limits = [(sign, getattr(each, key, None)) for key, sign in _SYMBOLS.items() for each in constraints]
    bounds = tuple(dict.fromkeys(f"{sign} {limit:g}" for sign, limit in limits if limit is not None))
    default = None if info.is_required() else info.get_default(call_default_factory=True)
    return OptionField(name, bare(info.annotation), str(info.description), default, bounds, group)


def _constraints(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Annotated:
        for each in get_args(annotation)[1:]:
            yield from each.metadata if isinstance(each, FieldInfo) else [each]
    for inner in get_args(annotation):
        yield from _constraints(inner)


def _selecting(field: OptionField, model: type[SelectingOptions]) -> OptionField:
    """The field that names an extension: the registered names are its choices."""
    choices: Any = Literal.__getitem__(model.registries[field.name].names())
    return replace(field, annotation=choices | None if field.optional else choices)


def _merged(one: OptionField, other: OptionField) -> OptionField:
    """One option for two extensions that declare the same name."""
    same = bare_of_none(one.annotation) == bare_of_none(other.annotation)
    base = one.annotation if same else str
    # Where the defaults of one type differ, leaving the option out means None: the chosen extension decides.
    undecided = one.optional or other.optional or (same and one.default != other.default)
    return replace(
        one,
        annotation=base | None if undecided else base,
        help=one.help if one.help == other.help else f"{one.help} ({', '.join(other.owners)}: {other.help})",
        default=one.default if one.default == other.default else None,
        bounds=one.bounds if one.bounds == other.bounds else (),
        owners=(*one.owners, *other.owners),
    )


def bare_of_none(annotation: Any) -> Any:
    """A type without None among its alternatives."""
    if get_origin(annotation) not in (Union, UnionType):
        return annotation
    return Union[tuple(each for each in get_args(annotation) if each is not NoneType)]  # noqa: UP007 (built from a tuple)


def _heading(owners: tuple[str, ...]) -> str:
    """``("engine rpie", "engine epie")`` as ``Options of the engines rpie, epie``."""
    names: dict[str, list[str]] = {}
    for owner in owners:
        kind, _, name = owner.rpartition(" ")
        names.setdefault(kind, []).append(name)
    plural = {kind: kind[:-1] + "ies" if kind.endswith("y") else kind + "s" for kind in names}
    parts = [f"{kind if len(each) == 1 else plural[kind]} {', '.join(each)}" for kind, each in names.items()]
    return f"Options of the {' and the '.join(parts)}"


def _without_replaced(model: type[Options], values: dict[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` without the options of extensions that ``part`` replaces by others."""
    if not issubclass(model, SelectingOptions):
        return values
    changed = [key for key in model.registries if key in part and key in values and part[key] != values[key]]
    if not changed:
        return values
    kept: set[str] = set(model.model_fields)
    for key, registry in model.registries.items():
        name = {**values, **part}.get(key, model.model_fields[key].default)
        if name in registry:
            kept.update(registry[name].options.model_fields)
    return {key: value for key, value in values.items() if key in kept}


def _valid(model: type[Options], values: dict[str, Any]) -> bool:
    try:
        model.build(values)
    except InputError:
        return False
    return True


def _kind(annotation: Any) -> str:
    inner = [each for each in get_args(annotation) if each is not NoneType]
    if annotation in _KINDS:
        return _KINDS[annotation]
    if get_origin(annotation) in (tuple, list):
        plural = "texts" if inner[0] is str or get_origin(inner[0]) is Literal else "numbers"
        return plural if Ellipsis in inner or get_origin(annotation) is list else f"{len(inner)} {plural}"
    return _kind(inner[0]) if inner else str(annotation)
