"""What a probe that varies needs of options; checked before anything runs. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from diptych.errors import InputError

if TYPE_CHECKING:
    from diptych.ptycho.engines.options import ReconstructionOptions


def counted(options: ReconstructionOptions) -> int:
    """Number of components that is asked for; 0 for ``auto``."""
    return 0 if options.probe_variation == "auto" else options.probe_variation


def wanted(options: ReconstructionOptions) -> int | Literal["auto"]:
    """Components to fit: a number, ``auto``, or 0 where other options leave ``auto`` no room.

    Error bars of a probe that varies need several times the work, so ``auto`` does not bring them about.
    """
    if options.probe_variation == "auto" and (options.error_bars or _conflicts(options)):
        return 0
    return options.probe_variation


def check_variation(options: ReconstructionOptions) -> None:
    """Raise InputError where the options ask for a number of components, and others do not allow them."""
    if not (count := counted(options)):
        return
    for name, expected in _conflicts(options):
        found = f"probe_variation = {count} with {name} = {getattr(options, name)}"
        raise InputError("reconstruct", found, expected, "Or probe_variation=0 (--probe-variation 0).")


def _conflicts(options: ReconstructionOptions) -> list[tuple[str, str]]:
    """Options that do not go with a probe that varies, and what is expected of them."""
    refused = (
        ("engine", options.engine not in ("auto", "ml"), "auto or ml: components are fitted by maximum likelihood"),
        ("probe", options.probe == "fixed", "a probe that may change: refine (--probe refine)"),
        ("held_out", not options.held_out, "held_out > 0: held-out pixels decide whether the components are kept"),
        ("slices", options.slices > 1, "one slice"),
        ("regularisation", options.regularisation != "off", "off: it is made for a constant probe"),
    )
    return [(name, expected) for name, wrong, expected in refused if wrong]
