"""Results of PtyPy (``.ptyr``): storages of the object and the probe, each with its pixel and origin in metres.

``content/obj/<ID>`` and ``content/probe/<ID>`` hold ``data`` (layers, y, x), ``_psize`` and ``_origin`` (y, x) in
metres, the coordinate of pixel [0, 0], and ``_energy`` in keV. ``content/positions/<ID>`` (M, 2), where it is written,
holds the coordinates in metres of index [N // 2, N // 2] of each window.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io.fields import image_from, probe_from, real_from, scalar_from
from diptych.ptycho.io.files import DataFile
from diptych.ptycho.io.formats import Format
from diptych.ptycho.io.options import LoadOptions
from diptych.ptycho.io.physical import photon_energy_eV
from diptych.ptycho.io.results.product import Product, assemble
from diptych.ptycho.io.results.without_positions import flagged
from diptych.ptycho.io.source import TreeSource, listed
from diptych.ptycho.io.writers.ptypy import write_ptyr
from diptych.ptycho.scan import Reconstruction
from diptych.runtime.registry import NoOptions


def read_ptyr(source: TreeSource, name: str) -> Reconstruction:
    """The result in a ``.ptyr`` file: its first object and the probe of the same scan.

    Raises
    ------
    InputError
        If a storage is incomplete, or the object has several layers.
    """
    objects, probes = source.group("content/obj"), source.group("content/probe")
    stored = sorted(objects.names()) if objects is not None else []
    if objects is None or probes is None or not stored or not probes.names():
        raise InputError(source.where, "is a PtyPy result without an object or a probe", "content/obj, content/probe")
    chosen = stored[0]
    probe = chosen if chosen in probes.names() else sorted(probes.names())[0]
    pixel = _pair(objects, chosen, "_psize")
    if objects.header(f"{chosen}/_origin") is None and objects.header(f"{chosen}/_center") is not None:
        # Earlier versions state the pixel at which the coordinate is zero.
        origin = -_pair(objects, chosen, "_center") * pixel
    else:
        origin = _pair(objects, chosen, "_origin")
    image = image_from(objects, f"{chosen}/data")
    positions = _positions(source, chosen)
    energy = 0.0
    if objects.header(f"{chosen}/_energy") is not None:
        energy, _ = photon_energy_eV(scalar_from(objects, f"{chosen}/_energy"), "keV", f"{objects.where}: {chosen}")
    epochs, losses = _history(source)
    result = assemble(
        Product(
            where=source.where,
            name=name,
            image=image,
            pixel=(float(pixel[0]), float(pixel[1])),
            centre=(
                float(origin[0] + pixel[0] * image.shape[0] / 2),
                float(origin[1] + pixel[1] * image.shape[1] / 2),
            ),
            probe=probe_from(probes, f"{probe}/data"),
            positions=positions,
            energy_eV=energy,
            distance_m=_distance(source),
            in_pixels=False,
            epochs=epochs,
            losses=losses,
            dropped_modes=0,
            layout="PtyPy result",
            **_light(source),
        )
    )
    others = [key for key in stored if key != chosen]
    note = (f"the file holds {len(stored)} objects; {chosen} is read, not {listed(others)}",) if others else ()
    return flagged(result, note)


def _pair(storages: TreeSource, key: str, what: str) -> NDArray[np.float64]:
    """Two numbers (y, x) of a storage."""
    path = f"{key}/{what}"
    found = real_from(storages, path, "metres (y, x)") if storages.header(path) is not None else np.empty(0)
    if found.size == 1:
        found = np.broadcast_to(np.ravel(found), 2)
    if found.shape != (2,):
        raise InputError(f"{storages.where}: {key}", f"{what} has shape {found.shape}", "two numbers (y, x), metres")
    return found.astype(np.float64)


def _positions(source: TreeSource, key: str) -> NDArray[np.float64]:
    """Positions (M, 2) in metres, none where the file was written without them."""
    group = source.group("content/positions")
    named = sorted(group.names()) if group is not None else []
    # A file of one scan may name its positions otherwise than its storages.
    path = f"content/positions/{named[0] if key not in named and len(named) == 1 else key}"
    if source.header(path) is None:
        return np.empty((0, 2))
    found = real_from(source, path, "positions in metres")
    if found.ndim != 2 or found.shape[1] != 2:
        raise InputError(f"{source.where}: {path}", f"has shape {found.shape}", "(patterns, 2): y, x")
    return found.astype(np.float64)


def _distance(source: TreeSource) -> float:
    """The distance in metres that the first scan's parameters state, 0 where none does."""
    scans = source.group("content/pars/scans")
    for key in sorted(scans.names()) if scans is not None else []:
        path = f"content/pars/scans/{key}/data/distance"
        if source.header(path) is not None and source.attributes(path).get("type") != "None":
            return scalar_from(source, path)
    return 0.0


def _light(source: TreeSource) -> dict[str, Any]:
    """Electrons and the near field, where the first scan's parameters state them."""
    scans = source.group("content/pars/scans")
    for key in sorted(scans.names()) if scans is not None else []:
        base = f"content/pars/scans/{key}/data"
        found: dict[str, Any] = {}
        electrons, propagation = f"{base}/electron_data", f"{base}/propagation"
        if source.header(electrons) is not None and np.any(source.read(electrons) == True):  # noqa: E712
            found["particle"] = "electron"
        if source.header(propagation) is not None and str(source.read(propagation)) == "nearfield":
            found["far_field"] = False
        return found
    return {}


def _history(source: TreeSource) -> tuple[list[float], list[float]]:
    """Iterations and the first of the errors that PtyPy keeps for each."""
    entries = source.group("content/runtime/iter_info")
    epochs: list[float] = []
    losses: list[float] = []
    for key in sorted(entries.names()) if entries is not None else []:
        assert entries is not None
        paths = [f"{key}/iterations", f"{key}/error"]
        if any(entries.header(path) is None for path in paths):
            continue
        errors: NDArray[Any] = np.ravel(real_from(entries, paths[1], "errors"))
        if errors.size:
            epochs.append(scalar_from(entries, paths[0]))
            losses.append(float(errors[0]))
    return epochs, losses


def _matches(file: DataFile) -> bool:
    return file.kind == "hdf5" and "content" in file.arrays.names() and file.arrays.group("content/obj") is not None


def _read(file: DataFile, options: LoadOptions) -> Reconstruction:
    return read_ptyr(file.arrays, file.path.stem)


FORMAT = Format(
    name="ptypy-result",
    help="Result of PtyPy (.ptyr): content/obj and content/probe with pixel and origin in metres.",
    options=NoOptions,
    holds="result",
    matches=_matches,
    read=_read,
    write=write_ptyr,
    suffixes=(".ptyr",),
)
