"""Files in and out: ``load`` finds the format by the content, ``save`` by the suffix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diptych.errors import InputError
from diptych.ptycho.io.convert import Domain
from diptych.ptycho.io.fields import OBJECT_KEYS, canvas_from
from diptych.ptycho.io.files import file_kind
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.probe import read_probe
from diptych.ptycho.io.raw import finish
from diptych.ptycho.io.results.npz import is_result, read_result, write_result
from diptych.ptycho.io.results.product import is_product, read_npz_product, read_product, write_product
from diptych.ptycho.io.scans.npz import is_scan, read_scan, write_scan
from diptych.ptycho.io.source import Hdf5Source, listed, open_hdf5, open_npz
from diptych.ptycho.scan import Canvas, Reconstruction, Scan

__all__ = ["LoadOptions", "load", "load_object", "load_result", "load_scan", "read_probe", "save"]

_EXPECTED = (
    "expected a scan (diff3d or diffraction, xcoords, ycoords, probeGuess), a result (object and probe), or a "
    "Ptychodus product "
    "(object, probe, probe_position_*)"
)


def load(path: str | Path, options: LoadOptions | None = None, **overrides: Any) -> Scan | Reconstruction:
    """Read a scan or a result; the format is found by the content, never by the suffix.

    Parameters
    ----------
    path : path-like
        NPZ scan (canonical, legacy, or tike's raw layout), NPZ result, or HDF5 Ptychodus product. Nothing is ever
        unpickled.
    options : LoadOptions, optional
        What the file does not state itself; defaults take the file at its word.
    **overrides
        Single options by name, for instance ``domain="amplitude"``.

    Returns
    -------
    Scan or Reconstruction

    Raises
    ------
    InputError
        If the file is missing, damaged, ambiguous or wrong; the message says what was found, what was expected and the
        mend.

    Examples
    --------
    >>> import diptych
    >>> scan = diptych.simulate(object="blocks", size=16, patterns=25, step=2.0, seed=0)
    >>> path = diptych.save(scan, "scan.npz")
    >>> diptych.load("scan.npz").counts.shape
    (25, 16, 16)

    A file that does not declare whether it holds counts or amplitudes needs ``domain``:

    >>> import numpy as np
    >>> y, x = scan.positions.T
    >>> np.savez("bare.npz", diff3d=scan.counts, ycoords=y, xcoords=x)
    >>> diptych.load("bare.npz", domain="counts").counts.shape
    (25, 16, 16)
    """
    path, options = Path(path), _options(options, overrides)
    if _kind(path) == "hdf5":
        return _load_hdf5(path, options)
    with open_npz(path) as source:
        if is_scan(source):
            return finish(read_scan(source, options, path.stem), options)
        if is_product(source) or is_result(source):
            _refuse_options(path, options)
            return read_npz_product(source, path.stem) if is_product(source) else read_result(source, path.stem)
        raise InputError(f"{path}: holds {listed(source.headers())}; {_EXPECTED}.")


def load_scan(path: str | Path, options: LoadOptions | None = None, **overrides: Any) -> Scan:
    """Like :func:`load`, but only a scan will do; of a product that bundles its patterns (``/raw_data``) the scan is
    read.
    """
    path, options = Path(path), _options(options, overrides)
    if _kind(path) == "hdf5":
        with open_hdf5(path) as file:
            source, declared = scan_group(file, path)
            if declared is not None:
                return finish(read_scan(source, options, path.stem, declared), options)
    found = load(path, options)
    if isinstance(found, Scan):
        return found
    raise InputError(f"{path}: holds a result (object and probe), no diffraction patterns; expected a scan.")


def scan_group(file: Any, path: Path) -> tuple[Hdf5Source, Domain | None]:
    """Where the scan of an HDF5 file lies, and the domain that this place declares: ``/raw_data`` (of a product), or
    the file itself.
    """
    source = Hdf5Source(file, str(path))
    if "raw_data" in source.groups:
        return Hdf5Source(file["raw_data"], f"{path}: raw_data"), "amplitude"
    return source, None


def load_result(path: str | Path) -> Reconstruction:
    """Like :func:`load`, but only a result will do."""
    path = Path(path)
    if _kind(path) == "npz":
        with open_npz(path) as source:
            if is_scan(source):
                raise InputError(f"{path}: holds a scan (diffraction patterns); expected a result (object and probe).")
    found = load(path)
    assert isinstance(found, Reconstruction)
    return found


def load_object(path: str | Path) -> Canvas:
    """The object in a result, or the true object in a scan (whose patterns are not read)."""
    path = Path(path)
    if _kind(path) == "hdf5":
        return load_result(path).object
    with open_npz(path) as source:
        if is_product(source) or (is_result(source) and not is_scan(source)):
            return load_result(path).object
        for key in OBJECT_KEYS:
            if (canvas := canvas_from(source, key)) is not None:
                return canvas
        raise InputError(
            f"{path}: holds no object; expected one of {', '.join(OBJECT_KEYS)}, found {listed(source.headers())}."
        )


def save(item: Scan | Reconstruction, path: str | Path) -> Path:
    """Write a result as ``.h5`` (Ptychodus product) or ``.npz``, or a scan as ``.npz``; :func:`load` reads it back
    exactly.

    The file appears in one step: a reader sees the old one or the new one, never a part.

    Raises
    ------
    InputError
        If the suffix is another, the folder is not there, or metadata cannot be JSON.
    UnavailableError
        If the file system refuses.

    Examples
    --------
    >>> import diptych
    >>> scan = diptych.simulate(object="blocks", size=16, patterns=25, step=2.0, seed=0)
    >>> result = diptych.reconstruct(scan, epochs=2)
    >>> path = diptych.save(result, "result.h5")
    >>> bool((diptych.load(path).object.values == result.object.values).all())
    True
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if isinstance(item, Scan):
        if suffix != ".npz":
            raise InputError(
                f"{path}: a scan is written as NPZ; expected a name that ends in .npz, found {suffix or 'no suffix'}."
            )
        write_scan(item, path)
    elif isinstance(item, Reconstruction):
        if suffix not in (".npz", ".h5", ".hdf5"):
            raise InputError(
                f"{path}: expected a name that ends in .h5 (Ptychodus product) or .npz, found {suffix or 'no suffix'}."
            )
        (write_result if suffix == ".npz" else write_product)(item, path)
    else:
        raise InputError(f"save: got a {type(item).__name__}; expected a Scan or a Reconstruction.")
    return path


def _options(options: LoadOptions | None, overrides: dict[str, Any]) -> LoadOptions:
    return (options or LoadOptions()).with_changes(**overrides)


def _kind(path: Path) -> str:
    kind = file_kind(path)
    if kind == "npy":
        raise InputError(f"{path}: holds a single NPY array; {_EXPECTED}, as NPZ or HDF5.")
    return kind


def _refuse_options(path: Path, options: LoadOptions) -> None:
    """Options say how to read a scan; passed with a result they would be ignored, which nobody should have to
    notice.
    """
    stated = sorted(key for key, value in options if value != LoadOptions.model_fields[key].default)
    if stated:
        raise InputError(f"{path}: holds a result, to which {', '.join(stated)} cannot apply; expected a scan.")


def _load_hdf5(path: Path, options: LoadOptions) -> Scan | Reconstruction:
    with open_hdf5(path) as file:
        if "object" in file or "probe" in file:
            _refuse_options(path, options)
            return read_product(file, path)
        source = Hdf5Source(file, str(path))
        if is_scan(source):
            return finish(read_scan(source, options, path.stem), options)
        if "cxi_version" in file or "entry_1" in file:
            raise InputError(
                f"{path}: is a CXI file, which is not read; {_EXPECTED}. Build diptych.Scan from its arrays."
            )
        raise InputError(f"{path}: holds {listed(file)}; {_EXPECTED}.")
