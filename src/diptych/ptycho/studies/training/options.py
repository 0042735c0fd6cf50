"""Options that studies of trained networks share. Importing it does not import torch."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from diptych.errors import InputError
from diptych.ptycho.networks.registry import NETWORKS
from diptych.ptycho.studies.base import StudyOptions

QUICK_NETWORKS = ("cnn", "hybrid")
QUICK_WIDTH = 8


class TrainingStudyOptions(StudyOptions):
    """Networks and their training. Without them, ``size`` decides."""

    networks: tuple[str, ...] | None = Field(
        None, min_length=1, description="Generators by name; by default cnn and hybrid (quick), or all (otherwise)."
    )
    network_options: tuple[str, ...] = Field(
        (),
        description="Options of single generators, each as NETWORK.OPTION=VALUE, for instance cnn.width=16. By default "
        "those of the generator; width 8 in a quick study.",
    )
    baseline: bool = Field(True, description="Also train the supervised baseline (PtychoNN).")
    iterative: bool = Field(True, description="Also reconstruct with the automatic engine.")
    epochs: int | None = Field(None, ge=1, description="Epochs of each training.")
    repeats: int | None = Field(None, ge=1, description="Repeats, each with another seed of data and weights.")

    @model_validator(mode="after")
    def _known(self) -> Self:
        for name in self.networks or ():
            if name not in NETWORKS:
                raise ValueError(f"network {name!r} is not known; expected some of {', '.join(NETWORKS.names())}")
        for each in self.network_options:
            network, option, _ = parse(each)
            if network not in NETWORKS or option not in NETWORKS[network].options.model_fields:
                raise ValueError(
                    f"network_options: {each!r} names no option of a network; expected for instance cnn.width=16 (see "
                    "`diptych networks`)"
                )
        for network in {parse(each)[0] for each in self.network_options}:
            NETWORKS[network].options.build(own_options(self, network), origin=f"network {network}")
        return self


def networks_of(options: TrainingStudyOptions) -> tuple[str, ...]:
    """The generators of a study, each once."""
    quick = tuple(name for name in QUICK_NETWORKS if name in NETWORKS)
    return tuple(dict.fromkeys(options.networks or (quick if options.size == "quick" else NETWORKS.names())))


def own_options(options: TrainingStudyOptions, network: str) -> dict[str, Any]:
    """The options of one generator in a study."""
    fields = NETWORKS[network].options.model_fields
    small = {"width": QUICK_WIDTH} if options.size == "quick" and "width" in fields else {}
    return small | {option: value for name, option, value in map(parse, options.network_options) if name == network}


def parse(text: str) -> tuple[str, str, Any]:
    """``"cnn.width=16"`` as network, option and value (a number where it is one).

    Raises
    ------
    InputError
        If the text has another form.
    """
    import yaml

    left, equals, right = text.partition("=")
    network, dot, option = left.partition(".")
    if not (equals and dot):
        raise InputError(f"network_options: {text!r}", "has another form", "NETWORK.OPTION=VALUE, as in cnn.width=16")
    try:
        return network, option, yaml.safe_load(right)
    except yaml.YAMLError:
        return network, option, right
