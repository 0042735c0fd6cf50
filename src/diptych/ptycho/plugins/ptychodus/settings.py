"""Option models as groups of Ptychodus settings: stored in its settings files, edited in its window.

A boolean, whole or real option becomes a parameter of that kind. Any other, and one that may be left to be chosen
automatically, becomes text; empty text is the default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from diptych.runtime.option_fields import OptionField
from diptych.runtime.options import Options


@dataclass(frozen=True)
class SettingsGroup:
    """One group of settings.

    Parameters
    ----------
    name : str
        Name of the group in a settings file.
    fields : dict of str to OptionField
        The options, by the names that diptych has for them.
    parameters : dict of str to Parameter
        Ptychodus' parameters, by the same names.
    """

    name: str
    fields: dict[str, OptionField]
    parameters: dict[str, Any]

    def values(self) -> dict[str, Any]:
        """The options that are set, by diptych's names; text is converted when the option model is built."""
        found: dict[str, Any] = {}
        for name, field in self.fields.items():
            value = self.parameters[name].get_value()
            if field.annotation is float:
                value = float(value)
            if value != "":
                found[name] = value
        return found


def settings_group(registry: Any, name: str, model: type[Options], leave_out: tuple[str, ...] = ()) -> SettingsGroup:
    """Create the group in Ptychodus' ``SettingsRegistry``: one parameter for each field of the model itself."""
    group = registry.create_group(name)
    fields, parameters = {}, {}
    for key, info in model.model_fields.items():
        if key in leave_out:
            continue
        default = info.get_default(call_default_factory=True)
        field = OptionField(key, info.annotation, info.description or "", default, (), name)
        fields[key] = field
        parameters[key] = _parameter(group, parameter_name(key), field)
    return SettingsGroup(name, fields, parameters)


def parameter_name(key: str) -> str:
    """The name in a settings file: ``frame_factors`` is ``FrameFactors`` there, as Ptychodus writes its own."""
    return "".join(part[:1].upper() + part[1:] for part in key.split("_"))


def _parameter(group: Any, name: str, field: OptionField) -> Any:
    if field.annotation is bool:
        return group.create_boolean_parameter(name, field.default)
    if field.annotation is int:
        return group.create_integer_parameter(name, field.default)
    if field.annotation is float:
        return group.create_real_parameter(name, field.default)
    text = field.default if isinstance(field.default, str) else ""
    return group.create_string_parameter(name, text)
