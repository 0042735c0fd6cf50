"""Generators: networks that map the diffraction patterns of a group to patches of the object.

A generator is a :class:`torch.nn.Module` that is called with an :class:`~diptych.ptycho.networks.exposure.Exposure` and
returns complex patches (B, C, N, N). Permuting the members of a group permutes the patches and changes nothing else.

Each generator is a package here (or of another distribution, under the entry-point group ``diptych.networks``): its
``__init__`` declares options and a :class:`~diptych.ptycho.networks.registry.Network` without importing torch; the
network itself stands in a module that is imported when it is built. :mod:`diptych.ptycho.networks.passes` holds the
scheme of passes with a physics step before each, :mod:`diptych.ptycho.networks.blocks` convolutional blocks.
"""

from diptych.ptycho.networks.exposure import Exposure
from diptych.ptycho.networks.registry import NETWORKS, Network, NetworkOptions, build_network, check_size

__all__ = ["NETWORKS", "Exposure", "Network", "NetworkOptions", "build_network", "check_size"]
