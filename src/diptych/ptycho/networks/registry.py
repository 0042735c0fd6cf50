"""The registry of generators and the options that select one. Importing it does not import torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from diptych.errors import InputError
from diptych.runtime.options import Options
from diptych.runtime.registry import Extension, Registry, SelectingOptions

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Network(Extension):
    """A generator that can be built by name.

    Parameters
    ----------
    name, help, options
        See :class:`~diptych.runtime.registry.Extension`.
    build : callable
        ``build(size, scale, options)`` returns a new module with random weights: ``size`` is N, the side of the
        patterns in pixels; ``scale`` is c of the network input c sqrt(k / sum |P|^2); ``options`` is an instance of
        the network's own options. Import torch inside this function.
    multiple : int or callable
        The side of the patterns must be a multiple of this many pixels; ``multiple(options)`` where it depends on them.
    gridsizes : tuple of int
        Values of g for which it works: groups of g x g patterns. A generator that treats each member alike works for
        all.
    """

    build: Callable[[int, float, Any], nn.Module]
    multiple: int | Callable[[Any], int] = 1
    gridsizes: tuple[int, ...] = (1, 2, 3)

    def multiple_for(self, options: Options | None = None) -> int:
        """The multiple for its own ``options``, by default the default ones."""
        return self.multiple(options or self.options()) if callable(self.multiple) else self.multiple


NETWORKS: Registry[Network] = Registry(
    "network",
    "diptych.networks",
    Network,
    {
        "cnn": "diptych.ptycho.networks.cnn:CNN",
        "fno": "diptych.ptycho.networks.fno:FNO",
        "fno_vanilla": "diptych.ptycho.networks.fno:FNO_VANILLA",
        "ffno": "diptych.ptycho.networks.ffno:FFNO",
        "uno": "diptych.ptycho.networks.uno:UNO",
        "hybrid": "diptych.ptycho.networks.hybrid:HYBRID",
        "stable_hybrid": "diptych.ptycho.networks.stable_hybrid:STABLE_HYBRID",
    },
)


class NetworkOptions(SelectingOptions):
    """Selects a generator; its own options are given beside its name."""

    registries: ClassVar = {"network": NETWORKS}

    network: str = Field("cnn", description="Generator, by its registered name.")


def check_size(options: NetworkOptions, size: int, where: str) -> None:
    """Raise InputError if the generator does not accept patterns of ``size`` pixels.

    Parameters
    ----------
    options : NetworkOptions
        Which generator, and its own options.
    size : int
        N, pixels.
    where : str
        What has this size, for the message.
    """
    multiple = NETWORKS[options.network].multiple_for(options.own("network"))
    if size % multiple:
        raise InputError(
            where,
            f"patterns of {size} px",
            f"a multiple of {multiple} px for the network {options.network}",
            "Crop or pad the patterns.",
        )


def build_network(size: int, scale: float, options: NetworkOptions) -> nn.Module:
    """Build a generator with random weights.

    Parameters
    ----------
    size : int
        N, the side of the patterns, pixels.
    scale : float
        c of the network input c sqrt(k / sum |P|^2).
    options : NetworkOptions
        Which generator, and its own options.

    Raises
    ------
    InputError
        If no generator has that name, or it does not accept patterns of that size.
    """
    check_size(options, size, f"network {options.network}")
    return NETWORKS[options.network].build(size, scale, options.own("network"))
