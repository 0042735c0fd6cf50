"""What a probe that varies needs of options; checked before anything runs. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diptych.errors import InputError

if TYPE_CHECKING:
    from diptych.ptycho.engines.options import ReconstructionOptions


def check_variation(options: ReconstructionOptions) -> None:
    """Raise InputError where the options ask for a probe that varies, and others do not allow it."""
    if not options.probe_variation:
        return
    refused = (
        ("engine", options.engine not in ("auto", "ml"), "auto or ml: components are fitted by maximum likelihood"),
        ("probe", options.probe == "fixed", "a probe that may change: refine (--probe refine)"),
        ("held_out", not options.held_out, "held_out > 0: held-out pixels decide whether the components are kept"),
        ("slices", options.slices > 1, "one slice"),
        ("regularisation", options.regularisation != "off", "off: it is made for a constant probe"),
        ("error_bars", options.error_bars, "no error bars: they are computed for a constant probe"),
    )
    for name, wrong, expected in refused:
        if wrong:
            found = f"probe_variation = {options.probe_variation} with {name} = {getattr(options, name)}"
            raise InputError("reconstruct", found, expected)
