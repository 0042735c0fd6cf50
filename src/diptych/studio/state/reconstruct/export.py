"""A result as other files, and the command line and Python that make it again."""

from __future__ import annotations

import io
import shlex
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

KINDS = ("h5", "npz", "png", "tiff")


def export(result: Path, kind: str) -> bytes:
    """The contents of a result file as HDF5 or NPZ (complete), PNG (a figure) or TIFF (amplitude and phase, float32).

    Raises
    ------
    InputError
        If the file holds no result, or the kind is not known.
    """
    from diptych.errors import InputError
    from diptych.ptycho.io import load_result, save

    if kind not in KINDS:
        raise InputError("download", f"found {kind!r}", f"one of {', '.join(KINDS)}")
    if kind == "h5":
        return result.read_bytes()
    found = load_result(result)
    if kind == "tiff":
        return tiff([np.abs(found.object.values), np.angle(found.object.values)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"result.{kind}"
        if kind == "png":
            from diptych.ptycho.figures.overview import save_figure

            save_figure(found.plot(), path)
        else:
            save(found, path)
        return path.read_bytes()


def tiff(pages: list[Any]) -> bytes:
    """Real (H, W) arrays as the pages of a float32 TIFF."""
    from PIL import Image

    first, *rest = (Image.fromarray(np.ascontiguousarray(page, np.float32)) for page in pages)
    stream = io.BytesIO()
    first.save(stream, "TIFF", save_all=True, append_images=rest, compression="tiff_adobe_deflate")
    return stream.getvalue()


def command_line(arguments: dict[str, Any]) -> str:
    """The ``diptych reconstruct`` that does the same as a job with these arguments."""
    words = ["diptych", "reconstruct", str(arguments["file"])]
    for name in ("run", "model"):
        if arguments.get(name):
            words += [f"--{name}", str(arguments[name])]
    if arguments.get("resume"):
        words.append("--resume")
    for group in ("load", "options", "execution"):
        for name, value in (arguments.get(group) or {}).items():
            if value is None:
                continue
            flag = name.replace("_", "-")
            if isinstance(value, bool):
                words.append(f"--{flag}" if value else f"--no-{flag}")
            else:
                words += [f"--{flag}", *map(str, value if isinstance(value, list | tuple) else [value])]
    return shlex.join(words)


def python(arguments: dict[str, Any]) -> str:
    """The Python that does the same as a job with these arguments, without a run directory."""
    load = "".join(f", {name}={value!r}" for name, value in (arguments.get("load") or {}).items())
    options = ", ".join(f"{name}={value!r}" for name, value in (arguments.get("options") or {}).items())
    lines = ["import diptych", "", f"scan = diptych.load({str(arguments['file'])!r}{load})"]
    given = ["scan"]
    if arguments.get("model"):
        lines.append(f"model = diptych.load_model({str(arguments['model'])!r})")
        given.append("model")
    if options:
        lines.insert(1, "from diptych.ptycho.engines.options import ReconstructionOptions")
        given.append(f"options=ReconstructionOptions({options})")
    return "\n".join([*lines, f"result = diptych.reconstruct({', '.join(given)})", 'diptych.save(result, "result.h5")'])
