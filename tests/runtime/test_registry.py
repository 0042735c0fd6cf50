"""Extensions by name, and options that select one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
from pydantic import Field

from diptych.errors import InputError
from diptych.runtime.options import Options
from diptych.runtime.registry import Extension, Registry, SelectingOptions


class Small(Options):
    width: int = Field(3, ge=1, description="Width, px.")


class Large(Options):
    height: int = Field(5, description="Height, px.")


@dataclass(frozen=True)
class Shape(Extension):
    sides: int


SMALL, LARGE = Shape("small", "A small one.", Small, 3), Shape("large", "A large one.", Large, 4)


@pytest.fixture
def shapes() -> Registry[Shape]:
    return Registry("shape", "diptych.nothing", Shape, {"small": f"{__name__}:SMALL"})


def test_a_registered_extension_is_found_and_listed(shapes: Registry[Shape]) -> None:
    shapes.register(LARGE)
    assert shapes["large"] is LARGE
    assert shapes.names() == ("small", "large")


def test_an_unknown_name_lists_the_known_ones(shapes: Registry[Shape]) -> None:
    with pytest.raises(InputError, match=r"shape 'smal': is not known; expected one of small"):
        shapes["smal"]


def test_a_name_is_taken_once(shapes: Registry[Shape]) -> None:
    shapes.register(LARGE)
    with pytest.raises(InputError, match="registered already"):
        shapes.register(LARGE)


def test_only_extensions_of_the_kind_are_taken(shapes: Registry[Shape]) -> None:
    with pytest.raises(InputError, match=r"expected a .*Shape"):
        shapes.register(Extension("other", "Another kind.", Small))  # type: ignore[arg-type]


def selecting() -> type[SelectingOptions]:
    registry = Registry("shape", "diptych.nothing", Shape, {})
    registry.register(SMALL)
    registry.register(LARGE)

    class Choice(SelectingOptions):
        registries: ClassVar = {"shape": registry}
        shape: str = Field("small", description="Which shape.")

    return Choice


def test_own_options_stand_beside_the_selecting_field() -> None:
    options = selecting().build({"shape": "large", "height": 7})
    assert options.own("shape") == Large(height=7)
    assert options.model_dump() == {"shape": "large", "height": 7}
    assert options.with_changes(height=8).own("shape") == Large(height=8)


def test_the_option_of_another_extension_is_refused_by_its_owner() -> None:
    with pytest.raises(InputError, match="height is not an option of shape small; it belongs to shape large"):
        selecting().build({"height": 7})


def test_an_unknown_option_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match="unknown option 'widht'; expected one of shape, width"):
        selecting().build({"widht": 7})


def test_a_wrong_value_names_the_extension_and_the_option() -> None:
    with pytest.raises(InputError, match=r"shape small.*width = 0"):
        selecting().build({"width": 0})
