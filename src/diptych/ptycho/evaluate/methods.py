"""What :func:`diptych.compare` takes as a method: an engine, a network, or a finished result."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from diptych.errors import InputError
from diptych.ptycho.engines.base import ENGINES as ALL_ENGINES
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.ptycho.evaluate.comparison import TRUTH
from diptych.ptycho.neural.options import InferenceOptions
from diptych.ptycho.scan import Reconstruction, Scan
from diptych.runtime.device import ExecutionOptions
from diptych.runtime.progress import ProgressCallback

ENGINES = tuple(name for name in ALL_ENGINES.names() if name != "network")
"""Engines that can be named. A network needs trained weights, so its model file is named instead."""

MODEL_SUFFIX = ".safetensors"

_RESERVED = (TRUTH, "origin", "pixel_m")
_NAME = r"\w[\w .+-]{0,39}"


class Reconstructs(Protocol):
    """An object that reconstructs a scan, for instance a trained network."""

    def reconstruct(
        self, scan: Scan, *, progress: ProgressCallback | None, execution: ExecutionOptions, network_batch: int = ...
    ) -> Reconstruction:
        """Reconstruct ``scan``. ``network_batch``, the number of patterns processed at a time, is passed only where the
        option ``chunk`` is set.
        """


Method = Reconstruction | ReconstructionOptions | Reconstructs
"""A method, resolved: a finished result, the options of an engine, or an object that reconstructs."""


def resolve_method(name: str, what: Any) -> Method:
    """Turn what the user named into a method.

    Parameters
    ----------
    name : str
        Name of the method, for messages.
    what : Reconstruction, ReconstructionOptions, str, path or Reconstructs
        A name of :data:`ENGINES` gives that engine's default options; a path is read.

    Raises
    ------
    InputError
        If it is none of them.
    """
    if isinstance(what, Reconstruction | ReconstructionOptions):
        return what
    if isinstance(what, str) and what in ENGINES:
        return ReconstructionOptions.build({"engine": what})
    if isinstance(what, str | Path):
        if not Path(what).exists():
            raise InputError(
                f"method {name!r}",
                f"{str(what)!r} is neither an engine nor an existing file",
                f"one of {', '.join(ENGINES)}, a result file (.h5, .npz) or a network ({MODEL_SUFFIX})",
            )
        if Path(what).suffix.lower() == MODEL_SUFFIX:
            from diptych.ptycho.neural.model import load_model

            return load_model(what)
        from diptych.ptycho.io import load_result

        return load_result(what)
    if callable(getattr(what, "reconstruct", None)):
        found: Reconstructs = what
        return found
    raise InputError(
        f"method {name!r}",
        f"is a {type(what).__name__}",
        "a Reconstruction, a file, the name of an engine, ReconstructionOptions, or an object with a method "
        "reconstruct(scan, progress=..., execution=...)",
    )


def check_names(methods: Mapping[str, Any]) -> None:
    """Raise InputError for a name that cannot be a column of a table and an array of an NPZ file."""
    for name in methods:
        if not isinstance(name, str) or not re.fullmatch(_NAME, name) or name in _RESERVED:
            raise InputError(
                f"method {name!r}",
                "cannot be used as a name",
                f"up to 40 letters, digits, spaces or any of _ . + -, and none of {', '.join(_RESERVED)}",
                "Choose another name.",
            )


def kind_of(method: Method) -> str:
    """``"result"``, ``"network"``, or ``"engine"`` and its name."""
    if isinstance(method, Reconstruction):
        return "result"
    return f"engine {method.engine}" if isinstance(method, ReconstructionOptions) else "network"


def run_method(
    name: str,
    method: ReconstructionOptions | Reconstructs,
    scan: Scan,
    progress: ProgressCallback | None,
    execution: ExecutionOptions,
    chunk: int | None,
) -> Reconstruction:
    """Reconstruct ``scan``; the stages reported to ``progress`` begin with the method's name."""
    report = None if progress is None else _prefixed(name, progress)
    from diptych.ptycho.neural.model import Model
    from diptych.ptycho.reconstruct import reconstruct

    if isinstance(method, ReconstructionOptions):
        return reconstruct(scan, options=method, progress=report, execution=execution)
    bounded = {} if chunk is None else {"network_batch": chunk}
    if isinstance(method, Model):
        # Bad frames, bad pixels and counts of other units are treated as for an engine.
        alone, how = ReconstructionOptions.build({"engine": "network"}), InferenceOptions(**bounded)
        return reconstruct(scan, method, alone, report, execution=execution, inference=how)
    result = method.reconstruct(scan, progress=report, execution=execution, **bounded)
    if not isinstance(result, Reconstruction):
        raise InputError(f"method {name!r}", f"reconstruct returned a {type(result).__name__}", "a Reconstruction")
    return result


def _prefixed(name: str, progress: ProgressCallback) -> ProgressCallback:
    return lambda report: progress(replace(report, stage=f"{name}: {report.stage}"))
