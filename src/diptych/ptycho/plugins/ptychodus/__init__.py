"""diptych inside Ptychodus 1.7: its engines and networks as a reconstructor library, its formats as file readers.

``python -m diptych.ptycho.plugins.ptychodus`` starts Ptychodus with both. The modules beside this one import Ptychodus,
and can be imported only where it is installed.
"""

from __future__ import annotations

from typing import Any


def register_plugins(registry: Any) -> None:
    """Add the readers of scans and results to Ptychodus' registry of plug-ins (``PluginRegistry``).

    This is the function that Ptychodus calls in each module of its package ``ptychodus.plugins``: a file there with the
    line ``from diptych.ptycho.plugins.ptychodus import register_plugins`` adds the readers without the launcher.
    """
    from diptych.ptycho.plugins.ptychodus.files import register

    register(registry)
