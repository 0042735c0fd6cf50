"""``networks``: the networks that can be trained, what they cost and what they accept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from diptych.cli.console import progress_bars
from diptych.cli.generate import flag, verb
from diptych.cli.output import Report, rows_table
from diptych.errors import InputError
from diptych.ptycho.networks.registry import NETWORKS, Network, NetworkOptions
from diptych.runtime.device import ExecutionOptions
from diptych.runtime.option_fields import Choices, OptionField, option_fields

COUNTED = (
    "FLOPs: operations of one evaluation per pattern, with the options at their defaults. Receptive field: side of the "
    "square of input pixels that one pixel of a pass depends on; the physics connects all pixels between passes."
)

MEASURED = (
    "layers: of the network; physics: propagation, modulus constraint and averages, and reading; stitching: "
    "placing patches and matching their phases; canvas: likelihood steps on the whole image; rest: choice of groups, "
    "illumination and fit. Shares of the processor's seconds (on a GPU, of the time). Without --model the weights are "
    "random, which does not change the speed."
)


@verb()
def networks(
    *,
    size: Annotated[int, Parameter(help="N, side of the patterns, px.")] = 64,
    gridsize: Annotated[int, Parameter(help="g: groups of g x g patterns.")] = 2,
    speed: Annotated[
        bool, Parameter(help="Measure patterns per second on this machine and where the time goes.", negative=())
    ] = False,
    model: Annotated[
        Path | None, Parameter(help="With --speed: measure this trained network (.safetensors) and its error.")
    ] = None,
    scan: Annotated[
        Path | None, Parameter(help="With --speed: reconstruct this scan; by default a simulated one of 400 patterns.")
    ] = None,
    canvas_passes: Annotated[
        tuple[int, ...] | None,
        Parameter(
            help="With --speed: passes on the whole canvas; by default 0, and 8 and 32 for a model.",
            consume_multiple=True,
        ),
    ] = None,
    threads: Annotated[int | None, Parameter(help="With --speed: CPU threads; by default as torch decides.")] = None,
    device: Annotated[str, Parameter(help="With --speed: auto, cpu, cuda or cuda:N.")] = "auto",
    choices: Choices,
) -> Report:
    """List the networks that can be trained: size, cost, what they accept and their options; or measure their speed."""
    if not 1 <= size <= 1024:
        raise InputError("--size", f"is {size}", "1 to 1024 px")
    if not 1 <= gridsize <= 3:
        raise InputError("--gridsize", f"is {gridsize}", "1, 2 or 3")
    if speed:
        return speeds(size, gridsize, model, scan, canvas_passes, ExecutionOptions(device=device, threads=threads))
    if given := [name for name, value in (("model", model), ("scan", scan)) if value is not None]:
        raise InputError(f"--{given[0]}", "is used with --speed only", remedy="Add --speed, or leave it out.")
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


def speeds(
    size: int,
    gridsize: int,
    model: Path | None,
    scan: Path | None,
    canvas_passes: tuple[int, ...] | None,
    execution: ExecutionOptions,
) -> Report:
    """The report of ``--speed``."""
    from diptych.ptycho.jobs import network_speed

    with progress_bars() as bars:
        found = network_speed(
            model, scan, size=size, gridsize=gridsize, canvas_passes=canvas_passes, execution=execution, progress=bars
        )
    return Report(found, [rows_table([speed_row(each) for each in found["rows"]], found["title"]), MEASURED])


def speed_row(row: dict[str, Any]) -> dict[str, Any]:
    """A line of the table of speeds."""
    error = {} if row["complex_error"] is None else {"relative error": f"{row['complex_error']:.3f}"}
    return {
        "network": row["network"],
        "canvas passes": row["canvas_passes"],
        "patterns / s": f"{row['patterns_per_second']:.0f}",
        "per CPU s": f"{row['patterns_per_cpu_second']:.0f}",
        **{name: f"{share:.0%}" for name, share in row["shares"].items()},
        **error,
    }


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
