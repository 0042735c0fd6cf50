"""Registers our library, its panel and our readers in Ptychodus 1.7, which has no hook for libraries of others.

Its core hands a fixed list of libraries to ``ProcessingCore``, its window a fixed list of panels to
``ProcessingController``, and its registry loads the modules of one package. Each of the three is replaced by a
subclass that adds ours, in the module that uses it. Nothing in Ptychodus' files is changed.
"""

from __future__ import annotations

from typing import Any

from diptych.errors import UnavailableError
from diptych.ptycho.plugins.ptychodus import register_plugins


def register_all(ptychodus: Any) -> None:
    """Add the readers and the library; the panel is added when the window is made.

    Raises
    ------
    UnavailableError
        If this version of Ptychodus is not built as 1.7 is.
    """
    version = getattr(ptychodus, "__version__", "unknown")
    try:
        import ptychodus.model.core as core
        from ptychodus.api.plugins import PluginRegistry

        base, load = core.ProcessingCore, PluginRegistry.load_plugins
    except (ImportError, AttributeError) as error:
        raise UnavailableError(
            f"Ptychodus {version} is not built as version 1.7 is ({error}); install ptychodus 1.7."
        ) from None
    if getattr(base, "with_diptych", False):
        return
    core.ProcessingCore = _core_with_library(base)

    def load_plugins(cls: Any) -> Any:
        registry = load()
        register_plugins(registry)
        return registry

    PluginRegistry.load_plugins = classmethod(load_plugins)
    core.PluginRegistry = PluginRegistry
    _add_panel()


def _core_with_library(base: Any) -> Any:
    from diptych.ptycho.plugins.ptychodus.library import DiptychLibrary

    class ProcessingCore(base):
        """Ptychodus' own, with our library after the others."""

        with_diptych = True

        def __init__(self, tasks: Any, settings: Any, products: Any, libraries: Any) -> None:
            super().__init__(tasks, settings, products, [*libraries, DiptychLibrary.of(settings)])

    return ProcessingCore


def _add_panel() -> None:
    """Add our panel of settings to the window; without Qt there is no window, and no panel."""
    try:
        import ptychodus.controller.core as window
    except ModuleNotFoundError:
        return
    window.ProcessingController = _controller_with_panel(window.ProcessingController)


def _controller_with_panel(base: Any) -> Any:
    from diptych.ptycho.plugins.ptychodus.panel import PanelFactory

    class ProcessingController(base):
        """Ptychodus' own, with our panel among the others."""

        def __init__(self, *args: Any) -> None:
            *rest, factories = args
            super().__init__(*rest, [*factories, PanelFactory()])

    return ProcessingController
