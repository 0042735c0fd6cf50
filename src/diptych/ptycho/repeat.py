"""The command line and the Python that repeat a reconstruction, from its arguments."""

from __future__ import annotations

import shlex
from typing import Any


def command_line(arguments: dict[str, Any]) -> str:
    """The ``diptych reconstruct`` that does the same as a job with these arguments.

    Parameters
    ----------
    arguments : dict
        ``file``, and where they were given ``run``, ``model``, ``resume``, and mappings of options ``load``,
        ``options``, ``inference`` and ``execution``.
    """
    words = ["diptych", "reconstruct", str(arguments["file"])]
    for name in ("run", "model"):
        if arguments.get(name):
            words += [f"--{name}", str(arguments[name])]
    if arguments.get("resume"):
        words.append("--resume")
    for group in ("load", "options", "inference", "execution"):
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
    if inference := ", ".join(f"{name}={value!r}" for name, value in (arguments.get("inference") or {}).items()):
        lines.insert(1, "from diptych.ptycho.neural.options import InferenceOptions")
        given.append(f"inference=InferenceOptions({inference})")
    return "\n".join([*lines, f"result = diptych.reconstruct({', '.join(given)})", 'diptych.save(result, "result.h5")'])
