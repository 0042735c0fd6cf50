"""Base of all option objects: frozen, validated, read from YAML; the command line and forms are generated from them."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError

from diptych.errors import InputError

Model = TypeVar("Model", bound="Options")

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, 120, 120
"""Shortens a wrong value for a message: with YAML aliases a few lines can stand for a value of gigabytes."""


def absolute_path(given: str) -> str:
    """The absolute form of the path of a file or folder that exists, without links, ``~`` and trailing separators;
    other text (a name in a registry or on a server) as it is, without trailing slashes.
    """
    path = Path(given).expanduser()
    return str(path.resolve()) if given and path.exists() else given.rstrip("/") or given


LocalPath = Annotated[str | None, AfterValidator(lambda given: None if given is None else absolute_path(given))]
"""An option that names a file, a folder, or something elsewhere. Stored options have to mean the same in every working
directory, so what exists here becomes absolute."""


def _one_line(given: Any) -> Any:
    if isinstance(given, dict):
        return json.dumps(given)
    return absolute_path(given) if isinstance(given, str) and not given.lstrip().startswith("{") else given


OptionsText = Annotated[str | None, BeforeValidator(_one_line)]
"""An option that holds options of another model: a mapping, kept as one line of YAML, or the path of a YAML file.
:func:`inline` reads it."""


class Options(BaseModel):
    """Base of every verb's options. Each field carries a description that states its unit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def build(cls, values: dict[str, Any], origin: str = "options") -> Self:
        """Validate ``values``; raise one InputError that names every key at fault and what was expected."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise InputError(origin, "; ".join(_sentence(cls, e) for e in error.errors())) from None

    def with_changes(self, **changes: Any) -> Self:
        """A copy with some fields changed, validated again."""
        return type(self).build({**self.model_dump(exclude_unset=True), **changes})

    def resolved(self) -> dict[str, Any]:
        """Every option as JSON values, defaults included."""
        return self.model_dump(mode="json")


def inline(model: type[Model], given: str | Mapping[str, Any] | None, origin: str) -> Model:
    """Options from a mapping, a mapping as one line of YAML, or a YAML file; the defaults for None.

    Raises
    ------
    InputError
        If the text is neither, or an option is wrong.
    """
    import yaml

    if given is None or isinstance(given, Mapping):
        return model.build(dict(given or {}), origin)
    if not given.lstrip().startswith("{"):
        return model.build(read_yaml(given), given)
    try:
        values = yaml.safe_load(given)
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(origin, f"is not valid YAML ({' '.join(str(error).split())})") from None
    return model.build(values, origin)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises InputError for a missing, malformed or non-mapping file."""
    import yaml

    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})", "a YAML file of options") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(path, f"is not valid YAML ({' '.join(str(error).split())})") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise InputError(path, f"holds a {type(values).__name__}", "a mapping of option names to values")
    return values


def _sentence(cls: type[BaseModel], error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"unknown option {key!r}; expected one of {', '.join(sorted(cls.model_fields))}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{key} = {_SHORT.repr(error['input'])}: {message}" if key else message
