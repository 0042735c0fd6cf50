"""``networks``: the networks that can be trained, what they cost and what they accept."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from diptych.cli.generate import flag, verb
from diptych.cli.output import Report, rows_table
from diptych.errors import InputError
from diptych.ptycho.networks.registry import NETWORKS, Network, NetworkOptions
from diptych.runtime.option_fields import Choices, OptionField, option_fields

COUNTED = (
    "FLOPs: operations of one evaluation per pattern, with the options at their defaults. Receptive field: side of the "
    "square of input pixels that one pixel of a pass depends on; the physics connects all pixels between passes."
)


@verb()
def networks(
    *,
    size: Annotated[int, Parameter(help="N, side of the patterns, px.")] = 64,
    gridsize: Annotated[int, Parameter(help="g: groups of g x g patterns.")] = 2,
    choices: Choices,
) -> Report:
    """List the networks that can be trained: size, cost, what they accept, and their options."""
    if not 1 <= size <= 1024:
        raise InputError("--size", f"is {size}", "1 to 1024 px")
    if not 1 <= gridsize <= 3:
        raise InputError("--gridsize", f"is {gridsize}", "1, 2 or 3")
    entries = NETWORKS.entries()
    found = [about(entry, size, gridsize) for entry in entries]
    text: list[Any] = [rows_table([row(each) for each in found], f"Patterns of {size} px, g = {gridsize}"), COUNTED]
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
        text += ["", f"{entry.name}: {entry.help}", *([rows_table(rows)] if rows else [])]
    return Report({"size": size, "gridsize": gridsize, "networks": found}, text)


def about(network: Network, size: int, gridsize: int) -> dict[str, Any]:
    """A network, its cost for patterns of ``size`` px in groups of ``gridsize``, and its options, as JSON values."""
    fields = [option_values(field) for field in option_fields(network.options)]
    multiple = network.multiple_for()
    allowed = size % multiple == 0 and gridsize in network.gridsizes
    return {
        "name": network.name,
        "help": network.help,
        "multiple": multiple,
        "gridsizes": list(network.gridsizes),
        "allowed": allowed,
        **(costs(network, size, gridsize) if allowed else dict.fromkeys(COSTS)),
        "options": fields,
    }


COSTS = ("parameters", "flops_per_pattern", "receptive_field_px")


def costs(network: Network, size: int, gridsize: int) -> dict[str, Any]:
    """Parameters, operations and receptive field by name."""
    from diptych.ptycho.networks.cost import cost

    found = cost(NetworkOptions(network=network.name), size, gridsize)
    return {name: getattr(found, name) for name in COSTS}


def row(found: dict[str, Any]) -> dict[str, Any]:
    """A line of the table."""
    allowed = {"N": f"multiple of {found['multiple']}", "g": ", ".join(map(str, found["gridsizes"]))}
    if not found["allowed"]:
        return {"network": found["name"], **dict.fromkeys(("weights", "MFLOP / pattern", "receptive field")), **allowed}
    field = found["receptive_field_px"]
    return {
        "network": found["name"],
        "weights": f"{found['parameters']:,}",
        "MFLOP / pattern": f"{found['flops_per_pattern'] / 1e6:,.1f}",
        "receptive field": None if field is None else f"{field} px",
        **allowed,
    }


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
