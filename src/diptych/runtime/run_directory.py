"""A folder per run: options, provenance, log, metrics, results and figures, safe to kill at any moment.

``provenance.json`` marks a run directory. It is created first and exclusively, so that of two runs that claim the same
folder only one succeeds. Its ``status`` says how the run ended (``running`` when the process was killed). A run that is
under way holds a lock on the folder, which the operating system releases with the process.
"""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from diptych.errors import InputError, UnavailableError
from diptych.runtime.files import replacing, unless_refused, write_text
from diptych.runtime.options import Options
from diptych.runtime.provenance import utc_now

Status = Literal["running", "done", "interrupted", "failed"]

MARK = "provenance.json"
JOB = "job.json"
PATHS = "paths.json"
"""Absolute paths of what a run reads, to resume it; in no file that is given to others."""
FILES = (
    *(
        MARK,
        JOB,
        PATHS,
        "options.yaml",
        "log.txt",
        "metrics.csv",
        "checkpoint.npz",
        "checkpoint.slices.npz",
        "result.h5",
        "summary.json",
        "result.png",
        "scan.png",
        "slices.png",
        "frc.png",
    ),
    *("comparison.csv", "comparison.json", "frc.csv", "aligned.npz", "comparison.png"),
    *("model.safetensors", "subsample_indices.json", "training.png"),
)
FOLDERS = ("checkpoints", "pictures", "logs", "analysis")
"""The files and folders that a run may write; ``--overwrite`` removes these and nothing else."""


@dataclass
class RunDirectory:
    """An open run directory, created by :meth:`create`, :meth:`numbered` or :meth:`reopen`.

    Parameters
    ----------
    path : Path
        The folder.
    record : dict
        Contents of ``provenance.json``.
    new : bool
        True when this run created the folder, so that :meth:`discard` may remove it.
    lock : int, optional
        Descriptor of the locked folder, until the run ends.
    earlier : dict of str to str
        Text of the files that a reopened run replaces, by name.
    """

    path: Path
    record: dict[str, Any] = field(default_factory=dict)
    new: bool = False
    lock: int | None = None
    earlier: dict[str, str] = field(default_factory=dict)

    @classmethod
    def create(cls, path: str | Path, record: Mapping[str, Any], *, overwrite: bool = False) -> RunDirectory:
        """Claim the folder ``path``, which must be absent, empty, or (with ``overwrite``) an earlier run.

        Raises
        ------
        InputError
            If the folder holds an earlier run and ``overwrite`` is off, a run that is under way, or other files, or
            cannot be created.
        """
        path = Path(path)
        try:
            new = not path.exists()
            path.mkdir(parents=True, exist_ok=True)
            present = {entry.name for entry in path.iterdir()}
        except OSError as error:
            raise InputError(
                f"--run {path}", f"cannot be used as a run directory ({error.strerror})", remedy="Name another folder."
            ) from None
        if present:
            status = _earlier_status(path)
            if status is None:
                raise InputError(
                    f"--run {path}",
                    f"the folder holds files that are not a diptych run ({_few(present)})",
                    "an absent or empty folder",
                )
            if not overwrite:
                raise InputError(
                    f"--run {path}",
                    f"holds an earlier run (status {status})",
                    remedy="Name another folder, pass --overwrite to replace it, or --resume to continue it.",
                )
            lock = _lock(path)
            _remove_run_files(path)
            return cls._claim(path, record, new, lock)
        return cls._claim(path, record, new, _lock(path))

    @classmethod
    def numbered(cls, parent: str | Path, stem: str, record: Mapping[str, Any]) -> RunDirectory:
        """Claim the first free folder ``<parent>/<stem>-<n>``, n = 1, 2, ...

        Raises
        ------
        InputError
            If no folder can be created there.
        """
        parent = Path(parent)
        n = 1
        while True:
            path = parent / f"{stem}-{n}"
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                n += 1
                continue
            except OSError as error:
                raise InputError(
                    f"run directory {path}",
                    f"cannot be created ({error.strerror})",
                    remedy="Pass --run with a folder that can be written to.",
                ) from None
            return cls._claim(path, record, True, _lock(path))

    @classmethod
    def reopen(cls, path: str | Path, record: Mapping[str, Any]) -> RunDirectory:
        """Open an earlier run to continue it. The new record keeps the old one under ``earlier``.

        Raises
        ------
        InputError
            If ``path`` is no run directory, its run is under way, or the SHA-256 of the first input (the scan) differs
            from that of the run's.
        """
        path = Path(path)
        if _earlier_status(path) is None:
            raise InputError(
                "--resume",
                f"{path} is not a run directory (no readable {MARK})",
                remedy="Pass --run with the folder of a run.",
            )
        old = json.loads((path / MARK).read_text(encoding="utf-8") or "{}")
        before, now = ((each.get("inputs") or [{}])[0] for each in (old, record))
        if before.get("sha256") != now.get("sha256"):
            name = before.get("path", "none recorded")
            raise InputError(
                "--resume",
                f"the run in {path} used other data ({name})",
                remedy="Pass the same scan, or another --run.",
            )
        earlier = [*old.pop("earlier", []), old]
        texts = {
            name: (path / name).read_text(encoding="utf-8")
            for name in (MARK, "options.yaml")
            if (path / name).is_file()
        }
        run = cls(path, {**record, "earlier": earlier}, lock=_lock(path), earlier=texts)
        run.set_status("running")
        return run

    @classmethod
    def _claim(cls, path: Path, record: Mapping[str, Any], new: bool, lock: int | None) -> RunDirectory:
        run = cls(path, dict(record), new, lock)
        try:
            (path / MARK).open("x").close()
            run.set_status("running")
        except FileExistsError:
            run.release()
            raise InputError(
                f"--run {path}", "another run has just claimed this folder", remedy="Name another folder."
            ) from None
        except OSError as error:
            raise InputError(
                f"--run {path}", f"cannot be written to ({error.strerror})", remedy="Name another folder."
            ) from None
        return run

    @property
    def log(self) -> Path:
        """Path of ``log.txt``."""
        return self.path / "log.txt"

    @property
    def checkpoint(self) -> Path:
        """Path of the resumable state, ``checkpoint.npz``."""
        return self.path / "checkpoint.npz"

    @property
    def result(self) -> Path:
        """Path of ``result.h5``."""
        return self.path / "result.h5"

    def set_status(self, status: Status, **changes: Any) -> None:
        """Write the provenance with ``status`` and, unless that is ``running``, the time of the end."""
        self.record = {**self.record, "status": status, **changes}
        if status != "running":
            self.record["finished"] = utc_now()
        self.write_json(MARK, self.record)
        if status != "running":
            self.release()

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Write ``values`` as indented JSON."""
        write_text(self.path / name, json.dumps(plain(values), indent=2, allow_nan=False) + "\n")

    def write_options(self, options: Iterable[Options]) -> None:
        """Write every option, defaults included, to ``options.yaml``; the file can be passed as ``--config``."""
        import yaml

        parts = []
        for model in options:
            body = yaml.safe_dump(model.resolved(), sort_keys=False, allow_unicode=True)
            parts.append(f"# {type(model).__name__}\n{body}")
        try:
            write_text(self.path / "options.yaml", "\n".join(parts))
        except OSError as error:
            # Nothing has been done yet, and nothing that the run finds could be kept.
            self.discard()
            raise UnavailableError(
                f"--run {self.path}: the run directory cannot be written to ({error.strerror}). Name another folder."
            ) from error

    def write_history(self, history: Mapping[str, list[float]]) -> None:
        """Write the columns of a history to ``metrics.csv``; short columns end in empty cells."""
        length = max((len(column) for column in history.values()), default=0)
        with (
            replacing(self.path / "metrics.csv") as temporary,
            temporary.open("w", newline="", encoding="utf-8") as stream,
        ):
            writer = csv.writer(stream)
            writer.writerow(history)
            for row in range(length):
                writer.writerow(column[row] if row < len(column) else "" for column in history.values())

    def discard(self) -> None:
        """Remove what this run wrote, when it ended before any result.

        The files of a new run are removed, and its folder if the run created it. A reopened run gets its earlier record
        and options back.
        """
        if self.earlier:
            with unless_refused("it says that the run is under way"):
                for name, text in self.earlier.items():
                    write_text(self.path / name, text)
            self.release()
            return
        _remove_run_files(self.path)
        if self.new and not any(self.path.iterdir()):
            self.path.rmdir()
        self.release()

    def release(self) -> None:
        """Release the lock, so that another run may use the folder."""
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None


def plain(value: Any) -> Any:
    """``value`` as JSON values: NumPy numbers and arrays as Python's, paths as text, NaN and infinity as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, str) or value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, Iterable):
        return [plain(item) for item in value]
    raise TypeError(f"cannot write {type(value).__name__} as JSON")


def _lock(path: Path) -> int | None:
    """A descriptor that keeps the folder ``path`` locked; None where the system or the file system has no such lock.

    Raises
    ------
    InputError
        If another run holds it.
    """
    try:
        import fcntl
    except ImportError:
        return None
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise InputError(
            f"--run {path}", "a run is under way in this folder", remedy="Wait for its end, or name another folder."
        ) from None
    except OSError:
        # Some network file systems cannot lock folders; provenance.json alone then keeps two runs apart.
        os.close(handle)
        return None
    return handle


def is_locked(path: Path) -> bool:
    """Whether a run is under way in the folder ``path``; False also where folders cannot be locked."""
    try:
        handle = _lock(path)
    except InputError:
        return True
    if handle is not None:
        os.close(handle)
    return False


def _earlier_status(path: Path) -> str | None:
    """How the run in ``path`` ended, or None when there is none. An empty provenance.json is left by a run that was
    killed while it claimed the folder.
    """
    try:
        text = (path / MARK).read_text(encoding="utf-8")
        record = json.loads(text) if text else {"program": "diptych", "status": "running"}
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or record.get("program") != "diptych":
        return None
    return str(record.get("status"))


def _remove_run_files(path: Path) -> None:
    for name in map(Path, FILES):
        (path / name).unlink(missing_ok=True)
        for leftover in (*path.glob(f".{name.stem}-*.tmp{name.suffix}"), path / f"{name}.tmp"):
            leftover.unlink(missing_ok=True)
    for folder in FOLDERS:
        # A run makes no links: a link and its target belong to someone else.
        if (path / folder).is_dir() and not (path / folder).is_symlink():
            shutil.rmtree(path / folder)


def _few(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:3]) + (", ..." if len(ordered) > 3 else "")
