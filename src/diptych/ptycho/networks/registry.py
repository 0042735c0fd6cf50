"""The registry of generators, what every generator is given, and the options that choose one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from diptych.errors import InputError
from diptych.runtime.options import Options

if TYPE_CHECKING:
    from torch import Tensor, nn

    from diptych.ptycho.physics.groups import Layout

MULTIPLE = 16
"""Patterns must be a multiple of this many pixels wide."""


class NetworkOptions(Options):
    """Which generator, and how large."""

    network: str = Field("cnn", description="Generator, by its registered name: cnn, or one that you registered.")
    width: int = Field(
        32, ge=4, le=512, description="cnn: channels of the first level; deeper levels have twice as many."
    )
    passes: int = Field(
        2,
        ge=1,
        le=8,
        description="cnn: encoder-decoder passes. Between two, a group's members agree on their canvas and face the "
        "counts.",
    )
    output: Literal["real-imag", "amplitude-phase"] = Field(
        "amplitude-phase",
        description="What a pass changes: amplitude (by a factor) and phase, or real and imaginary part. Neither "
        "bounds the object.",
    )
    decoder: Literal["shared", "two"] = Field(
        "shared", description="One decoder for both output channels, or one for each."
    )


@dataclass(frozen=True, eq=False)
class Exposure:
    """What a generator may know of a batch of B groups of C members.

    Parameters
    ----------
    counts : (B, C, N, N) tensor
        Measured counts over sum |P|^2, corner-centred: the same for a scan and one with twice the photons.
    modes : (B or 1, C or 1, P, N, N) complex tensor
        Probe modes at each member over sqrt(sum |P|^2), moved by the sub-pixel remainder of its position.
    background : (N, N) tensor, optional
        Expected background counts over sum |P|^2.
    valid : bool tensor, broadcast against ``counts``, optional
        True at valid detector pixels.
    layout : Layout
        Where the members lie on their group's canvas.
    offsets : (B, C, 2) tensor
        r_i - mean(r) of each group's members, (y, x), object pixels.
    """

    counts: Tensor
    modes: Tensor
    background: Tensor | None
    valid: Tensor | None
    layout: Layout
    offsets: Tensor


Builder = Callable[[int, float, NetworkOptions], "nn.Module"]
"""From the pattern's side N, the input scale c and the options to a generator."""

_BUILDERS: dict[str, Builder | str] = {"cnn": "diptych.ptycho.networks.cnn:build"}


def register(name: str, builder: Builder) -> None:
    """Make a generator known as ``name``; the builder is called with (N, input scale c, options).

    Raises
    ------
    InputError
        If the name is taken.
    """
    if name in _BUILDERS:
        raise InputError(
            f"network {name!r} is registered already; choose another name than {', '.join(network_names())}."
        )
    _BUILDERS[name] = builder


def network_names() -> tuple[str, ...]:
    """The names of all registered generators."""
    return tuple(_BUILDERS)


def build_network(size: int, scale: float, options: NetworkOptions) -> nn.Module:
    """A fresh generator for patterns of ``size`` pixels.

    Parameters
    ----------
    size : int
        N, a multiple of 16.
    scale : float
        c of the network's input c sqrt(k / sum |P|^2).
    options : NetworkOptions
        Which, and how large.

    Raises
    ------
    InputError
        If no generator has that name, or it cannot take patterns of that size.
    """
    if options.network not in _BUILDERS:
        raise InputError(f"network {options.network!r} is not known; expected one of {', '.join(network_names())}.")
    if size % MULTIPLE:
        raise InputError(
            f"network {options.network}: patterns of {size} px; expected a multiple of {MULTIPLE}: crop or pad the "
            f"patterns."
        )
    builder = _BUILDERS[options.network]
    if isinstance(builder, str):
        module, _, name = builder.partition(":")
        builder = getattr(import_module(module), name)
    return builder(size, scale, options)
