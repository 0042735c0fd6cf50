"""Generators: networks that turn the patterns of a group into patches of the object, by name.

A generator is a :class:`torch.nn.Module` called with a :class:`~diptych.ptycho.networks.registry.Exposure`; it returns
complex patches (B, C, N, N). Permuting the members of a group permutes the patches, and nothing else.
"""

from diptych.ptycho.networks.registry import Exposure, NetworkOptions, build_network, network_names, register

__all__ = ["Exposure", "NetworkOptions", "build_network", "network_names", "register"]
