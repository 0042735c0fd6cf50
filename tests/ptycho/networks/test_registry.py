"""Generators by name: each has its own options and sizes, and selecting one does not import torch."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from pydantic import Field

import diptych
from diptych.errors import InputError
from diptych.ptycho.networks import NETWORKS, Network, NetworkOptions, build_network
from diptych.ptycho.networks.passes import INPUTS, OUTPUTS, PhysicsPasses
from diptych.ptycho.neural.model import load_model
from diptych.ptycho.neural.options import TrainingOptions
from diptych.runtime.options import Options


class LinearOptions(Options):
    """Options of a small generator."""

    kernel: int = Field(3, ge=1, description="Side of the kernel, px.")


def linear(size: int, scale: float, options: LinearOptions) -> torch.nn.Module:
    """One convolution in one pass."""
    return PhysicsPasses(scale, [torch.nn.Conv2d(INPUTS, OUTPUTS, options.kernel, padding=options.kernel // 2)])


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Network:
    monkeypatch.setattr(NETWORKS, "_registered", {})
    network = Network("linear", "One convolution.", LinearOptions, linear, multiple=2)
    NETWORKS.register(network)
    return network


def test_a_registered_generator_is_built_with_its_own_options(registered: Network) -> None:
    assert NETWORKS.names()[0] == "cnn"
    assert NETWORKS.names()[-1] == "linear"
    network = build_network(30, 1.0, NetworkOptions.build({"network": "linear", "kernel": 5}))
    assert isinstance(network, PhysicsPasses)
    assert network.passes[0].kernel_size == (5, 5)
    with pytest.raises(InputError, match="patterns of 31 px; expected a multiple of 2 px for the network linear"):
        build_network(31, 1.0, NetworkOptions(network="linear"))


def test_options_belong_to_their_generator(registered: Network) -> None:
    with pytest.raises(InputError, match="kernel is not an option of network cnn; it belongs to network linear"):
        TrainingOptions.build({"kernel": 5})
    with pytest.raises(InputError, match="width is not an option of network linear; it belongs to network cnn"):
        TrainingOptions.build({"network": "linear", "width": 8})
    with pytest.raises(InputError, match=r"network 'nonesuch': is not known; expected one of cnn, .*, linear"):
        TrainingOptions.build({"network": "nonesuch"})


def test_a_generator_for_some_groups_refuses_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NETWORKS, "_registered", {})
    NETWORKS.register(Network("single", "One pattern.", LinearOptions, linear, gridsizes=(1,)))
    assert TrainingOptions.build({"network": "single", "gridsize": 1}).gridsize == 1
    with pytest.raises(InputError, match=r"gridsize = 2: the network single works with 1"):
        TrainingOptions.build({"network": "single"})


def test_files_get_all_options_in_effect() -> None:
    options = TrainingOptions(width=8)
    saved = options.resolved()
    assert saved["width"] == 8
    assert (saved["passes"], saved["output"], saved["decoder"]) == (2, "amplitude-phase", "shared")
    assert TrainingOptions.build(saved).own("network") == options.own("network")
    assert options.with_changes(epochs=3).model_extra == {"width": 8}


def test_a_registered_generator_is_trained_saved_and_loaded(registered: Network, tmp_path: object) -> None:
    scan = diptych.simulate(object="blocks", size=18, patterns=36, step=2.0, dose=1e5, seed=0)
    model = diptych.train(scan, network="linear", kernel=1, epochs=1, n_groups=8, validation=0)
    path = model.save(f"{tmp_path}/model.safetensors")
    assert load_model(path).options.own("network") == LinearOptions(kernel=1)
    NETWORKS._registered.clear()
    with pytest.raises(InputError, match=r"needs the network 'linear', which is not registered; expected one of cnn"):
        load_model(path)


def test_flags_are_built_without_torch() -> None:
    code = (
        "import sys; from diptych.ptycho.neural.options import TrainingOptions; TrainingOptions.registries['network']"
        ".option_models(); assert 'torch' not in sys.modules and 'scipy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
