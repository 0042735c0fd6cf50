"""Writing the template of a layout."""

from __future__ import annotations

from pathlib import Path

from diptych.errors import InputError
from diptych.ptycho.io.files import opened, writing
from diptych.ptycho.io.layouts.template import template


def write_template(file: str | Path, out: str | Path) -> Path:
    """Write the template of a layout for ``file`` to ``out`` (YAML).

    Raises
    ------
    InputError
        If ``file`` holds no named arrays, or ``out`` cannot be written.
    """
    file, out = Path(file), Path(out)
    with opened(file) as data:
        if data.source is None:
            raise InputError(file, "holds no named arrays, so no layout can describe it", "HDF5, NPZ or MATLAB")
        text = template(data.source, file)
    with writing(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return out
