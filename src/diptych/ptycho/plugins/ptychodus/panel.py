"""The panel of settings of our reconstructors in Ptychodus' window."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from ptychodus.controller.parameters import ParameterViewBuilder
from ptychodus.controller.processing.core import ReconstructorViewControllerFactory

from diptych.ptycho.plugins.ptychodus.library import LIBRARY, DiptychLibrary
from diptych.ptycho.plugins.ptychodus.settings import SettingsGroup, parameter_name


class PanelFactory(ReconstructorViewControllerFactory):
    """Makes the panel of each of our reconstructors from the options of diptych."""

    @property
    def name(self) -> str:
        """Name of the library whose panels these are."""
        return LIBRARY

    def create_view_controller(self, reconstructor_name: str) -> Any:
        """The panel (QWidget) of one reconstructor."""
        builder = ParameterViewBuilder()
        library = DiptychLibrary.latest
        assert library is not None
        for group in library.panels[reconstructor_name.casefold()]:
            _fill(builder, group)
        return builder.build_widget()


def _fill(builder: ParameterViewBuilder, group: SettingsGroup) -> None:
    for name, field in group.fields.items():
        parameter, label = group.parameters[name], f"{parameter_name(name)}:"
        about = {"tool_tip": field.help, "group": group.name}
        if field.annotation is bool:
            builder.add_check_box(parameter, label, **about)
        elif field.annotation is int:
            builder.add_integer_line_edit(parameter, label, **about)
        elif field.annotation is float:
            builder.add_decimal_line_edit(parameter, label, **about)
        elif get_origin(field.annotation) is Literal:
            builder.add_combo_box(parameter, [str(each) for each in get_args(field.annotation)], label, **about)
        else:
            builder.add_line_edit(parameter, label, **about)
