"""The record of a run: versions, commit, device, seeds and SHA-256 of the inputs."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from diptych.runtime.device import ExecutionOptions, choose_device
from diptych.runtime.files import sha256
from diptych.runtime.options import Options

PACKAGES = (
    "diptych",
    "numpy",
    "scipy",
    "scikit-image",
    "h5py",
    "torch",
    "numba",
    "pyfftw",
    "lightning",
    "safetensors",
    "pydantic",
    "matplotlib",
)


def utc_now() -> str:
    """The time now, ISO 8601, UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that results depend on; none is imported."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """Git commit of the checkout that diptych runs from, ``-dirty`` appended when files differ from it.

    None for an installed wheel, which its version identifies. This module must be a tracked file: a virtual environment
    inside another repository does not count.
    """
    here = Path(__file__).resolve()

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["git", "-C", str(here.parent), *arguments], capture_output=True, text=True, timeout=10, check=False
        )

    try:
        if git("ls-files", "--error-unmatch", here.name).returncode != 0:
            return None
        head = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.TimeoutExpired):
        return None
    return head.stdout.strip() + ("-dirty" if changed.stdout.strip() else "") if head.returncode == 0 else None


def device(execution: ExecutionOptions) -> dict[str, Any]:
    """The device chosen on this machine, and why.

    Raises
    ------
    UnavailableError
        If this machine has no such device.
    """
    import torch

    chosen, reason = choose_device(execution.device)
    return {
        "device": str(chosen),
        "reason": reason,
        "gpu": torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else None,
        "processor": platform.processor() or platform.machine(),
        "system": platform.system(),
        "threads": execution.threads or torch.get_num_threads(),
    }


def inputs(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Path (see :func:`shareable`), size in bytes and SHA-256 of each file."""
    return [{"path": shareable(path), "bytes": path.stat().st_size, "sha256": sha256(path)} for path in paths]


def shareable(value: Any) -> Any:
    """``value`` with the bare names of files and folders in place of their absolute paths.

    Records are kept in files that are given to others, who need not know the folders of this machine.

    Parameters
    ----------
    value : JSON value or Path
        Mappings and lists are searched; a text is a path if it is the absolute path of a file or folder that exists.

    Examples
    --------
    >>> shareable({"scan": Path("/data/beamtime 7/scan.npz"), "epochs": 3})
    {'scan': 'scan.npz', 'epochs': 3}
    """
    if isinstance(value, Mapping):
        return {name: shareable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [shareable(item) for item in value]
    if isinstance(value, Path) or (isinstance(value, str) and os.path.isabs(value) and os.path.exists(value)):
        path = Path(value)
        return path.name if path.is_absolute() else str(path)
    return value


def seeds(options: Iterable[Options]) -> dict[str, int]:
    """Every seed among the options, by ``model.field``."""
    return {
        f"{type(model).__name__}.{name}": value
        for model in options
        for name, value in model
        if name.endswith("seed") and isinstance(value, int)
    }


def provenance(
    command: str, execution: ExecutionOptions, files: Iterable[Path], options: Iterable[Options]
) -> dict[str, Any]:
    """The record of a run as JSON values.

    Parameters
    ----------
    command : str
        The verb.
    execution : ExecutionOptions
        The requested device; the chosen one is recorded.
    files : iterable of Path
        What the run reads, the scan first.
    options : iterable of Options
        Their seeds are listed; all their values are in ``options.yaml``.

    Raises
    ------
    UnavailableError
        If this machine has no such device.
    """
    return {
        "program": "diptych",
        "command": command,
        "started": utc_now(),
        "versions": versions(),
        "commit": commit(),
        "device": device(execution),
        "seeds": seeds(options),
        "inputs": inputs(files),
    }
