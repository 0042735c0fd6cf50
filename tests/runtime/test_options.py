"""Option objects: strict, frozen, and clear when they are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field, ValidationError

from diptych.errors import InputError
from diptych.runtime.options import Options, read_yaml


class Sample(Options):
    step: float = Field(1.0, gt=0, description="Step, px.")
    count: int = Field(3, description="Patterns.")


def test_every_key_at_fault_is_named_in_one_message() -> None:
    with pytest.raises(
        InputError,
        match=r"x\.yaml: step = -1.*greater than 0.*count = 'many'.*unknown option 'size'; expected one of count, step",
    ):
        Sample.build({"step": -1, "count": "many", "size": 3}, origin="x.yaml")


def test_options_are_frozen_and_changes_are_checked() -> None:
    with pytest.raises(ValidationError):
        Sample().step = 2.0  # type: ignore[misc]
    assert Sample(count=9).with_changes(step=2.0) == Sample(count=9, step=2.0)
    with pytest.raises(InputError, match="step"):
        Sample().with_changes(step=0)


@pytest.mark.parametrize(
    ("content", "phrase"),
    [
        (None, "cannot be read"),
        ("a: [1, 2", "not valid YAML"),
        ("- 1", "holds a list"),
        ("1: 2", "mapping of option names"),
        (b"\xff\xfe\x00", "not valid YAML"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, content: str | bytes | None, phrase: str) -> None:
    path = tmp_path / "options.yaml"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=rf"options\.yaml.*{phrase}"):
        read_yaml(path)


def test_a_file_of_aliases_that_stands_for_gigabytes_makes_a_short_message(tmp_path: Path) -> None:
    path = tmp_path / "options.yaml"
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    path.write_text("\n".join(lines) + "\nstep: *a11\n")
    with pytest.raises(InputError) as caught:
        Sample.build({"step": read_yaml(path)["step"]}, origin=str(path))
    assert len(str(caught.value)) < 2000
    path.write_text("[" * 50_000)
    with pytest.raises(InputError, match="not valid YAML"):
        read_yaml(path)


def test_yaml_tags_build_no_objects(tmp_path: Path) -> None:
    path = tmp_path / "options.yaml"
    path.write_text("step: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(InputError, match="not valid YAML"):
        read_yaml(path)
