"""Options of training as fields of a form: which are shown first, and which belong to a network."""

from __future__ import annotations

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
