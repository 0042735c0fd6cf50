"""Form fields of options, and small parts of the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nicegui import ui

from diptych.runtime.option_fields import OptionField
from diptych.studio.state.fields import parsed


class Fields:
    """One field per option, with its help and range beneath.

    Parameters
    ----------
    fields : sequence of OptionField
    value : callable, optional
        The value to begin with; by default the default of the option.
    """

    def __init__(self, fields: Sequence[OptionField], value: Callable[[OptionField], Any] | None = None) -> None:
        self._inputs: list[tuple[OptionField, Any]] = []
        for field in fields:
            self._inputs.append((field, _input(field, field.default if value is None else value(field))))

    def values(self) -> dict[str, Any]:
        """What the form says, by option; None where a field is empty. Raises InputError for text that is no number."""
        return {field.name: parsed(field, element.value) for field, element in self._inputs}


def _input(field: OptionField, value: Any) -> Any:
    name = field.name.replace("_", " ")
    label = name[0].upper() + name[1:]
    made: Any
    if field.kind == "yes or no":
        made = ui.switch(label, value=bool(value))
    elif field.choices:
        choices = {choice: str(choice) for choice in field.choices}
        made = ui.select({None: "automatic", **choices} if field.optional else choices, label=label, value=value)
    elif field.kind in ("whole number", "number"):
        made = ui.number(label, value=value, format=None)
    else:
        made = ui.input(label, value="" if value is None else str(value))
    made.classes("w-full").props(f'hint="{_plain(field.help_with_bounds)}"').mark(f"option {field.name}")
    return made


def _plain(text: str) -> str:
    return text.replace('"', "'").replace("\\", "/")


def heading(text: str, level: int = 2) -> ui.label:
    """A heading of the page."""
    return ui.label(text).props(f"role=heading aria-level={level}").classes("text-lg font-medium")


class Readout:
    """A name and a value that changes; hidden while the value is empty, if ``optional``."""

    def __init__(self, name: str, *, optional: bool = False) -> None:
        self._optional = optional
        self._name = ui.label(name).classes("text-sm opacity-80")
        self.value = ui.label("n/a").classes("text-sm font-mono").mark(f"readout {name}")
        self.show("" if optional else "n/a")

    def show(self, text: str) -> None:
        """Show a value."""
        if self.value.text != text:
            self.value.set_text(text)
        visible = bool(text) or not self._optional
        self._name.set_visibility(visible)
        self.value.set_visibility(visible)
