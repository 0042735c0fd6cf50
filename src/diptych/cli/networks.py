"""``networks``: the networks that can be trained."""

from __future__ import annotations

from typing import Any

from diptych.cli.generate import flag, verb
from diptych.cli.output import Report, rows_table
from diptych.ptycho.networks.registry import NETWORKS, Network
from diptych.runtime.option_fields import Choices, OptionField, option_fields


@verb()
def networks(*, choices: Choices) -> Report:
    """List the networks that can be trained, with their options."""
    entries = NETWORKS.entries()
    text: list[Any] = []
    for entry in entries:
        rows = [
            {
                "flag": flag(field.name)[0],
                "value": ", ".join(map(str, field.choices)) or field.kind,
                "default": field.default,
                "meaning": field.help_with_bounds,
            }
            for field in option_fields(entry.options)
        ]
        size = f" Patterns of a multiple of {entry.multiple} px." if entry.multiple > 1 else ""
        text += [*([""] if text else []), f"{entry.name}: {entry.help}{size}", *([rows_table(rows)] if rows else [])]
    return Report({"networks": [about(entry) for entry in entries]}, text)


def about(network: Network) -> dict[str, Any]:
    """A network and its options as JSON values."""
    fields = [option_values(field) for field in option_fields(network.options)]
    return {"name": network.name, "help": network.help, "multiple": network.multiple, "options": fields}


def option_values(field: OptionField) -> dict[str, Any]:
    """An option as JSON values."""
    return {
        "name": field.name,
        "kind": field.kind,
        "default": field.default,
        "choices": list(field.choices),
        "bounds": list(field.bounds),
        "help": field.help,
    }
