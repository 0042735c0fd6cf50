"""Commands generated from option models: a field of a model is a flag, a key of the YAML file and a line of ``--help``.

Precedence is flag > file > default. It relies on cyclopts passing to a command only the arguments that were given.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter

from diptych.cli.output import Report
from diptych.runtime.option_fields import Choices, OptionField, file_layer, option_fields
from diptych.runtime.options import Options

Verb = Callable[..., Report]

COMMON = Group("Every command", sort_key=90)
_KEYWORD = inspect.Parameter.KEYWORD_ONLY
log = logging.getLogger("diptych")


def verb(*models: type[Options], without: tuple[str, ...] = ()) -> Callable[[Callable[..., Report]], Verb]:
    """Make a command of a function that takes its own arguments and ``choices: Choices``.

    The command's signature is the function's, with every option of ``models`` and the flags ``--config``, ``--json``
    and ``--debug`` in the place of ``choices``.

    Parameters
    ----------
    *models : option models
        Their options become flags.
    without : tuple of str
        Options that get no flag, because the function sets them from arguments of its own.

    Raises
    ------
    ValueError
        If two of them have one name. An option of an extension whose name is taken has no flag, which is logged: an
        installed package must not make a command unusable.
    """

    def decorate(function: Callable[..., Report]) -> Verb:
        own = [p for p in inspect.signature(function, eval_str=True).parameters.values() if p.name != "choices"]
        common = [
            p for p in inspect.signature(_common, eval_str=True).parameters.values() if models or p.name != "config"
        ]
        every = [field for model in models for field in option_fields(model) if field.name not in without]
        fields = _distinct(every, {p.name for p in own})
        flags = flags_of(fields)
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
            layers = [file_layer(config, models)] if config is not None else []
            chosen = {name: given.pop(name) for p in flags if (name := p.name) in given}
            layers.append(("command line", chosen))
            return function(*positional, **given, choices=Choices(models, tuple(layers), config))

        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        # The wrapped function has another signature, and parsers look through __wrapped__.
        del command.__wrapped__
        return command

    return decorate


def flags_of(fields: Iterable[OptionField]) -> list[inspect.Parameter]:
    """One keyword parameter per option: its type, its default, and its description with the allowed range."""
    groups: dict[str, Group] = {}
    for field in fields:
        groups.setdefault(field.group, Group(field.group, sort_key=10 + len(groups)))
    return [
        inspect.Parameter(
            field.name,
            _KEYWORD,
            default=field.default,
            annotation=Annotated[
                # Extensions may differ in the default; the parser then sees None, which it would refuse for a number.
                field.annotation | None if field.default is None else field.annotation,
                Parameter(
                    name=flag(field.name),
                    help=field.help_with_bounds,
                    group=groups[field.group],
                    negative_iterable=(),
                    consume_multiple=True,
                ),
            ],
        )
        for field in fields
    ]


def flag(name: str) -> tuple[str, ...]:
    """``held_out`` as ``--held-out``; a unit's capitals stay, and the flag is known in lower case too."""
    exact = "--" + name.replace("_", "-")
    return (exact,) if exact.islower() else (exact, exact.lower())


def _distinct(fields: list[OptionField], taken: set[str]) -> list[OptionField]:
    """``fields`` without options of extensions whose names others have."""
    general = taken | {field.name for field in fields if not field.owners}
    found: list[OptionField] = []
    for field in fields:
        if field.owners and field.name in general:
            log.warning(
                "option %s of the %s has no flag: the name is taken", field.name, " and the ".join(field.owners)
            )
            continue
        if field.owners:
            general.add(field.name)
        found.append(field)
    return found


def _common(
    *,
    config: Annotated[Path | None, Parameter(help="YAML file of options; flags win over it.", group=COMMON)] = None,
    json: Annotated[
        bool, Parameter(help="Write one JSON object to standard output, and nothing else.", negative=(), group=COMMON)
    ] = False,
    debug: Annotated[bool, Parameter(help="Show the traceback of an error.", negative=(), group=COMMON)] = False,
) -> None:
    """The flags of every command."""
