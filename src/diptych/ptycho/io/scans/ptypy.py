"""Prepared scans of PtyPy (``.ptyd``): chunks of frames, weights and positions in metres.

``chunks/<number>`` holds ``data`` (M, N, N) counts, ``positions`` (M, 2) in metres (y, x) and ``weights`` (M, N, N),
True where a pixel is good; ``meta`` and ``info`` state ``energy`` in keV, ``distance`` and ``psize`` in metres. None is
stored as an array whose attribute ``type`` says 'None'.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io.fields import numbers_from, real_from
from diptych.ptycho.io.files import DataFile
from diptych.ptycho.io.formats import Format
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.physical import geometry_of, photon_energy_eV, positions_in_pixels
from diptych.ptycho.io.raw import RawScan, finish
from diptych.ptycho.io.source import TreeSource
from diptych.ptycho.io.writers.ptypy import write_ptyd
from diptych.ptycho.scan import Scan
from diptych.runtime.registry import NoOptions

_ABOUT = ("meta", "info", "common")
"""Groups that state the geometry; the last is that of early versions."""


def read_ptyd(source: TreeSource, options: LoadOptions, name: str) -> RawScan:
    """The scan in a ``.ptyd`` file, as stored.

    Raises
    ------
    InputError
        If a chunk is incomplete, or shapes disagree.
    """
    chunks = source.group("chunks")
    numbers = sorted((key for key in chunks.names() if key.isdigit()), key=int) if chunks is not None else []
    if chunks is None or not numbers:
        raise InputError(source.where, "is a PtyPy file without chunks", "frames under chunks/0, chunks/1, ...")
    parts = [_chunk(chunks, number) for number in numbers]
    values, metres, masks, frames = (np.concatenate(each) for each in zip(*parts, strict=True))
    masks = masks & _common_mask(source, values.shape[1:])
    mask = masks[0] if (masks == masks[0]).all() else masks
    said = [f"{len(numbers)} chunks read; positions (y, x) in m; a pixel is valid where its weight is not 0"]
    geometry = geometry_of(options, source.where, **_stated(source, options, said))
    y, x, converted = positions_in_pixels(metres[:, 0], metres[:, 1], geometry, values.shape[-1], source.where)
    return RawScan(
        where=source.where,
        name=name,
        values=values,
        y=y,
        x=x,
        domain="counts" if options.domain == "auto" else options.domain,
        scale=1.0 if options.scale is None else options.scale,
        mask=None if mask.all() else mask,
        mask_means="valid",
        geometry=geometry,
        metadata={"layout": "PtyPy prepared scan", "stored_domain": "counts"},
        said=[*said, converted],
        sources={"patterns": "chunks/*/data", "positions": "chunks/*/positions", "mask": "chunks/*/weights"}
        | {"energy": "meta/energy or info/energy", "distance": "meta/distance or info/distance"}
        | {"detector pixel": "meta/psize or info/psize"},
        order="patterns (pattern, y, x), positions (y, x)",
        unit="m",
        placed=options.positions is None,
        numbers=frames if len(np.unique(frames)) == len(values) else None,
    )


def _chunk(chunks: TreeSource, number: str) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_], NDArray[np.int64]]:
    """Frames (M, N, N), positions (M, 2), mask (M, N, N) and numbers of the frames (M,), -1 without, of a chunk."""
    for key in ("data", "positions"):
        if chunks.header(f"{number}/{key}") is None:
            raise InputError(f"{chunks.where}/{number}", f"holds no {key}", "data and positions of the same frames")
    data = real_from(chunks, f"{number}/data")
    positions = real_from(chunks, f"{number}/positions", "positions in metres")
    if data.ndim != 3 or positions.shape != (len(data), 2):
        raise InputError(
            f"{chunks.where}/{number}",
            f"data has shape {data.shape} and positions {positions.shape}",
            "(frames, N, N) and (frames, 2)",
        )
    path = f"{number}/indices"
    stored = numbers_from(chunks, path) if chunks.header(path) is not None else np.empty(0, np.int64)
    frames = stored if len(stored) == len(data) else np.full(len(data), -1)
    path = f"{number}/weights"
    header = chunks.header(path)
    if header is None or header.shape[-2:] != data.shape[1:]:
        return data, positions, np.ones(data.shape, np.bool_), frames
    return data, positions, np.broadcast_to(chunks.read(path) > 0, data.shape), frames


def _common_mask(source: TreeSource, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The mask of all frames, ``weight2d``, which stands beside or in place of a chunk's weights."""
    for path in (f"{group}/weight2d" for group in _ABOUT):
        header = source.header(path)
        if header is not None and header.shape[-2:] == shape and header.dtype.kind in "buif":
            found: NDArray[np.bool_] = np.asarray(source.read(path) > 0).reshape(-1, *shape)[0]
            return found
    return np.ones(shape, np.bool_)


def _stated(source: TreeSource, options: LoadOptions, said: list[str]) -> dict[str, Any]:
    """Energy, distance and detector pixel from ``meta``, else from ``info``."""

    def numbers(key: str) -> NDArray[np.float64] | None:
        for path in (f"{group}/{key}" for group in _ABOUT):
            if source.header(path) is not None and source.attributes(path).get("type") != "None":
                found = np.ravel(real_from(source, path, key)).astype(np.float64)
                if found.size:
                    said.append(f"{key} read from {path}")
                    return found
        return None

    stated: dict[str, Any] = {}
    electrons = next((p for p in ("meta/electron_data", "info/electron_data") if source.header(p) is not None), None)
    if electrons is not None and source.attributes(electrons).get("type") != "None" and source.read(electrons).any():
        stated["particle"] = "electron"
        said.append(f"electrons, from {electrons}")
    if (distance := numbers("distance")) is not None:
        stated["distance_m"] = float(distance[0])
    if (pixel := numbers("psize")) is not None:
        stated["detector_pixel_m"] = (float(pixel[0]), float(pixel[-1]))
    energy = numbers("energy") if options.energy_eV is None else None
    if energy is not None and stated.get("particle") == "electron":
        stated["energy_eV"] = float(energy[0]) * 1e3
    elif energy is not None:
        stated["energy_eV"], how = photon_energy_eV(float(energy[0]), "keV", f"{source.where}: energy")
        said.append(how)
    path = next((path for path in ("meta/propagation", "info/propagation") if source.header(path) is not None), None)
    if path is not None and str(source.read(path)) == "nearfield":
        # PtyPy propagates by the distance on pixels of ``psize``: a parallel beam, or one already scaled to it.
        stated["propagation"] = "near"
        said.append(f"near field, from {path}")
    return stated


def _matches(file: DataFile) -> bool:
    names = set(file.arrays.names()) if file.kind == "hdf5" else set()
    return "chunks" in names and bool(names & {"info", *_ABOUT})


def _read(file: DataFile, options: LoadOptions) -> Scan:
    return finish(read_ptyd(file.arrays, options, file.path.stem), options)


FORMAT = Format(
    name="ptypy",
    help="Prepared scan of PtyPy (.ptyd): chunks of frames, weights and positions in metres.",
    options=NoOptions,
    holds="scan",
    matches=_matches,
    read=_read,
    write=write_ptyd,
    suffixes=(".ptyd",),
    datasets={"patterns": ("chunks/0/data",)},
)
