"""Fields of forms: how what is typed becomes a value, and what a field shows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from diptych.errors import InputError
from diptych.runtime.option_fields import OptionField, option_fields
from diptych.runtime.options import Options
from diptych.runtime.registry import SelectingOptions


def parsed(field: OptionField, given: Any) -> Any:
    """The value of a field from what a person typed or chose; None where it is left to the program.

    Raises
    ------
    InputError
        If the text is no value of the field's kind.
    """
    if given is None or (isinstance(given, str) and not given.strip()):
        return None
    if field.choices:
        return next((choice for choice in field.choices if str(choice) == str(given)), given)
    if not isinstance(given, str):
        whole = field.kind == "whole number" and isinstance(given, float) and given.is_integer()
        return int(given) if whole else given
    text = given.strip()
    try:
        return _read(field.kind, text)
    except ValueError:
        expected = f"a {field.kind}" if field.kind in ("whole number", "number") else field.kind
        raise InputError(field.name.replace("_", " "), f"found {text[:40]!r}", expected) from None


def _read(kind: str, text: str) -> Any:
    if kind == "whole number":
        return int(text)
    if kind == "number":
        return float(text)
    if kind.endswith("numbers"):
        return [float(part) for part in text.strip("[]()").replace(",", " ").split()]
    if kind.endswith("texts"):
        return text.replace(",", " ").split()
    return text if kind == "text" or text[0] not in "[{" else json.loads(text)


def shown(field: OptionField, values: Mapping[str, Any]) -> Any:
    """What a form shows for a field: the value that was set, else the default."""
    value = values.get(field.name, field.default)
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else value


def fitting(model: type[Options], values: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the options that have a meaning with the extensions (engine, network) that ``values`` choose."""
    found = option_fields(model)
    if not issubclass(model, SelectingOptions):
        return tuple(field.name for field in found)
    defaults = {field.name: field.default for field in found}
    chosen = {f"{registry.kind} {values.get(name, defaults[name])}" for name, registry in model.registries.items()}
    return tuple(field.name for field in found if not field.owners or chosen & set(field.owners))
