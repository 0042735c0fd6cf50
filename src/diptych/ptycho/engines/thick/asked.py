"""What slices need of options and scan; checked before anything runs. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diptych.errors import InputError
from diptych.ptycho.physics.thick.spacing import scale_of

if TYPE_CHECKING:
    from diptych.ptycho.engines.options import ReconstructionOptions
    from diptych.ptycho.scan import Scan


def check_slices(scan: Scan, options: ReconstructionOptions) -> None:
    """Raise InputError where the options ask for slices that scan or other options do not allow."""
    if options.slices == 1:
        if options.slice_distance_m is not None:
            raise InputError(
                "reconstruct",
                f"slice_distance_m = {options.slice_distance_m:g} with one slice",
                "slices=2 or more (--slices 2), or no distance",
            )
        return
    asked = f"slices = {options.slices}"
    if options.slice_distance_m is None:
        raise InputError(
            "reconstruct",
            f"{asked} without a distance between them",
            "slice_distance_m=... (--slice-distance-m), metres from one slice to the next along the beam",
        )
    if options.engine not in ("auto", "ml"):
        raise InputError(
            "reconstruct", f"{asked} with engine {options.engine}", "engine auto or ml: slices are fitted by the latter"
        )
    refused = (
        ("refine_distance", options.refine_distance == "on", "off: it is found by fits of one slice"),
        ("regularisation", options.regularisation != "off", "off: it is made for one slice"),
        ("error_bars", options.error_bars, "no error bars: they are computed for one slice"),
    )
    for name, wrong, expected in refused:
        if wrong:
            raise InputError("reconstruct", f"{asked} with {name} = {getattr(options, name)}", expected)
    scale_of(scan.geometry, scan.size, f"reconstruct {scan.name}: {asked}")


def refined_positions(options: ReconstructionOptions) -> str:
    """Whether positions are refined: ``on``, ``off`` or ``auto``.

    Never by ``auto`` where the sample has slices: to one slice, a thick sample looks like wrong positions.
    """
    thick = options.slices > 1 and options.correct_positions == "auto"
    return "off" if thick or options.subpixel == "round" else options.correct_positions
