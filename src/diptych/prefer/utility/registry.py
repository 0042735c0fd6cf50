"""The registry of utility models; installed packages add theirs under the entry-point group ``diptych.utilities``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from diptych.prefer.spaces.cube import PLAIN, Cube
from diptych.prefer.utility.base import Utility
from diptych.runtime.registry import Extension, Registry


@dataclass(frozen=True)
class UtilityModel(Extension):
    """A kind of utility model.

    Parameters
    ----------
    space : "sphere" or "cube"
        Latents that it is for: of an image generator (sphere) or reconstruction settings (cube).
    build : callable
        ``build(options, cube)`` returns a new, untrained model. ``options`` is an instance of the option class;
        ``cube`` describes the settings, and models of the sphere ignore it.
    """

    space: Literal["sphere", "cube"]
    build: Callable[[Any, Cube], Utility]


_ROOM = "diptych.prefer.utility"

UTILITIES: Registry[UtilityModel] = Registry(
    "utility model",
    "diptych.utilities",
    UtilityModel,
    {
        "contrastive": f"{_ROOM}.linear_gp:MODEL",
        "ridge": f"{_ROOM}.baselines.ridge:MODEL",
        "logistic": f"{_ROOM}.baselines.logistic:MODEL",
        "xgboost": f"{_ROOM}.baselines.boosted:MODEL",
        "distance": f"{_ROOM}.baselines.distance:MODEL",
        "cosine": f"{_ROOM}.baselines.cosine:MODEL",
        "surface": f"{_ROOM}.settings_gp:MODEL",
    },
)
"""All utility models by name."""


def make_utility(name: str, cube: Cube = PLAIN, **options: Any) -> Utility:
    """A new model.

    Parameters
    ----------
    name : str
        Name in :data:`UTILITIES`.
    cube : Cube
        Structure of the settings, for models of the cube.
    **options
        Options of the model.

    Raises
    ------
    InputError
        If the name or an option is unknown, or a value is out of range.
    """
    model = UTILITIES[name]
    return model.build(model.options.build(options, origin=f"utility model {name}"), cube)
