"""Options of training as fields of a form: which are shown first, and how what is typed becomes a value."""

from __future__ import annotations

from typing import Any

from diptych.errors import InputError
from diptych.ptycho.neural.options import TrainerOptions, TrainingOptions
from diptych.runtime.option_fields import OptionField, option_fields

FIRST = ("network", "supervision", "epochs", "learning_rate", "batch", "gridsize", "patience")
"""Options that are shown at once; the others are under a heading."""

TRAINER_FIRST = ("device", "threads")


def training_fields() -> tuple[list[OptionField], list[OptionField]]:
    """The fields of the training options, those of every network included: the first ones, and the rest."""
    found = {field.name: field for field in option_fields(TrainingOptions)}
    return [found[name] for name in FIRST], [field for name, field in found.items() if name not in FIRST]


def trainer_fields() -> list[OptionField]:
    """The fields of the trainer options, the common ones first."""
    found = {field.name: field for field in option_fields(TrainerOptions)}
    return [found[name] for name in TRAINER_FIRST] + [f for name, f in found.items() if name not in TRAINER_FIRST]


def belongs(field: OptionField, network: str) -> bool:
    """Whether an option has a meaning for a network."""
    return not field.owners or f"network {network}" in field.owners


def parsed(field: OptionField, given: Any) -> Any:
    """The value of a field from what a person typed or chose; None where it is left to the program.

    Raises
    ------
    InputError
        If it is not a number where one is expected.
    """
    if given is None or (isinstance(given, str) and not given.strip()):
        return None
    if not isinstance(given, str) or field.choices:
        return given
    text = given.strip()
    try:
        if field.kind == "whole number":
            return int(text)
        if field.kind == "number":
            return float(text)
        if field.kind.endswith("numbers"):
            return [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        raise InputError(field.name, f"found {text!r}", f"a {field.kind}") from None
    return text


def shown(field: OptionField, values: dict[str, Any]) -> Any:
    """What a form shows for a field: the value that was set, else the default."""
    value = values.get(field.name, field.default)
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else value
