"""A form made from an option model: names, units, help, choices and checks come from the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nicegui import ui

from diptych.errors import DiptychError
from diptych.runtime.option_fields import OptionField, option_fields
from diptych.runtime.options import Options
from diptych.runtime.registry import SelectingOptions
from diptych.studio.state.fields import fitting, parsed, shown

GRID = "display: grid; gap: 12px; width: 100%; grid-template-columns: repeat(auto-fill, minmax(min(100%, 240px), 1fr))"


def options_form(
    model: type[Options], values: dict[str, Any], changed: Callable[[], None] | None = None, only: tuple[str, ...] = ()
) -> None:
    """Fields for the options of a model, the selectable extensions' included.

    Parameters
    ----------
    model : option model
        What the form sets.
    values : dict
        Options that differ from their defaults; changed in place as soon as a field holds something valid.
    changed : callable, optional
        Called after a change.
    only : tuple of str
        The fields that are shown, in this order; all that fit the chosen extensions without it.
    """
    found = {field.name: field for field in option_fields(model)}
    with ui.element("div").style(GRID):
        for name in only or fitting(model, values):
            _field(found[name], values, model, changed)


def _field(
    field: OptionField, values: dict[str, Any], model: type[Options], changed: Callable[[], None] | None
) -> None:
    label, value = field.name.replace("_", " "), shown(field, values)
    selects = issubclass(model, SelectingOptions) and field.name in model.registries

    def take(event: Any) -> None:
        try:
            given = parsed(field, event.value)
            trial = {key: each for key, each in values.items() if key != field.name}
            if given is not None and given != field.default:
                trial[field.name] = given
            if selects:
                known = fitting(model, trial)
                trial = {key: each for key, each in trial.items() if key in known}
            model.build(trial)
        except DiptychError as error:
            problem.set_text(str(error))
            return
        problem.set_text("")
        values.clear()
        values.update(trial)
        if changed is not None:
            changed()

    element: Any
    with ui.column().classes("gap-0"):
        if field.kind == "yes or no":
            element = ui.switch(label, value=bool(value), on_change=take)
        elif field.choices:
            options = {str(choice): str(choice) for choice in field.choices}
            given = str(value) if value is not None else None
            element = ui.select(options, label=label, value=given, clearable=field.optional, on_change=take)
            element.props("outlined dense options-dense").classes("w-full")
        else:
            empty = "automatic" if field.default is None else "none" if field.default == "" else str(field.default)
            element = ui.input(label, value="" if value is None else str(value), placeholder=empty)
            element.on("change", lambda: take(element))
            element.props("outlined dense stack-label").classes("w-full")
        element.classes(f"option-{field.name}").mark(f"option {field.name}")
        owners = f" ({', '.join(field.owners)})" if field.owners else ""
        ui.label(field.help_with_bounds + owners).classes("text-xs opacity-75 leading-tight")
        problem = ui.label().props("role=alert").classes("text-xs text-negative")
