"""Options as flags, tables and forms need them, and values in layers."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import Field

from diptych.errors import InputError
from diptych.runtime.option_fields import Choices, option_fields, option_names
from diptych.runtime.options import Options
from diptych.runtime.registry import Extension, Registry, SelectingOptions


class Plain(Options):
    """One field of each kind."""

    step: float = Field(1.0, gt=0, le=10, description="Step, px.")
    count: int | None = Field(None, ge=1, description="Patterns.")
    kind: Literal["a", "b"] = Field("a", description="Which.")
    flip: bool = Field(False, description="Flip.")
    pair: tuple[Annotated[float, Field(ge=0)], float] = Field((0.0, 1.0), description="Two.")
    many: tuple[str, ...] | None = Field(None, description="Texts.")


class Small(Options):
    width: int = Field(3, ge=1, description="Width, px.")
    gain: float = Field(0.5, description="Gain.")
    kind: str = Field("x", description="Has the name of a general option.")


class Large(Options):
    gain: float = Field(0.25, description="Gain of the large one.")
    width: str = Field("wide", description="Width in words.")
    depth: int = Field(7, description="Depth, px.")


@pytest.fixture
def model() -> type[SelectingOptions]:
    registry: Registry[Extension] = Registry("shape", "diptych.nothing", Extension, {})
    registry.register(Extension("small", "A small one.", Small))
    registry.register(Extension("large", "A large one.", Large))

    class ShapeOptions(SelectingOptions):
        registries: ClassVar = {"shape": registry}
        shape: str = Field("small", description="Which shape.")
        kind: int = Field(1, description="General.")

    return ShapeOptions


def test_a_field_has_kind_choices_bounds_and_default() -> None:
    found = {field.name: field for field in option_fields(Plain)}
    assert {name: field.kind for name, field in found.items()} == {
        **{"step": "number", "count": "whole number", "kind": "choice"},
        **{"flip": "yes or no", "pair": "2 numbers", "many": "texts"},
    }
    assert found["step"].help_with_bounds == "Step, px. [> 0, <= 10]"
    assert found["pair"].bounds == (">= 0",)
    assert found["kind"].choices == ("a", "b")
    assert [name for name, field in found.items() if field.optional] == ["count", "many"]
    assert found["step"].default == 1.0
    assert {field.group for field in found.values()} == {"Plain"}


def test_options_of_extensions_are_listed_once_with_their_owners(
    model: type[SelectingOptions], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        found = {field.name: field for field in option_fields(model)}
    assert list(found) == ["shape", "kind", "width", "gain", "depth"]
    assert "kind of the shape small has the name of a general option" in caplog.text
    assert found["shape"].choices == ("small", "large")
    assert found["gain"].owners == ("shape small", "shape large")
    assert (found["gain"].group, found["gain"].default) == ("Options of the shapes small, large", None)
    assert found["gain"].help == "Gain. (shape large: Gain of the large one.)"
    assert found["width"].annotation is str
    assert (found["depth"].group, found["depth"].default) == ("Options of the shape large", 7)
    assert option_names(model) == tuple(found)
    assert replace(found["depth"], bounds=()).help_with_bounds == "Depth, px."


def test_the_stronger_layer_wins_and_a_replaced_extension_takes_its_options_along(
    model: type[SelectingOptions], tmp_path: Path
) -> None:
    file = ("file.yaml", {"shape": "large", "depth": 9, "gain": 0.75})
    assert Choices((model,), (file,))[model].own("shape") == Large(depth=9, gain=0.75)
    kept = Choices((model,), (file, ("command line", {"depth": 5})))[model]
    assert kept.own("shape") == Large(depth=5, gain=0.75)
    other = Choices((model,), (file, ("command line", {"shape": "small"})))[model]
    assert (other.shape, other.own("shape")) == ("small", Small(gain=0.75))
    with pytest.raises(InputError, match=r"command line: depth is not an option of shape small"):
        Choices((model,), (("command line", {"depth": 5}),))[model]
    path = tmp_path / "options.yaml"
    path.write_text("shape: large\ndepth: 2\n")
    assert Choices((model,), (("command line", {"gain": 1.0}),)).above(path)[model].own("shape") == Large(
        depth=2, gain=1.0
    )
    path.write_text("dept: 2\n")
    with pytest.raises(InputError, match=r"unknown option 'dept'; expected some of depth, gain"):
        Choices((model,)).above(path)


def test_a_resolved_selection_has_the_defaults_of_its_extension(model: type[SelectingOptions]) -> None:
    options = model.build({"shape": "large", "gain": 1.0})
    assert options.resolved() == {"shape": "large", "kind": 1, "gain": 1.0, "width": "wide", "depth": 7}
    assert model.build(options.resolved()).own("shape") == options.own("shape")
