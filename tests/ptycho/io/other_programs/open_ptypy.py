"""Run in an environment with PtyPy: its own reader of HDF5 on prepared scans and results."""

from __future__ import annotations

from pathlib import Path

from rows import EXPECTED, row, same


def scan(path: Path) -> str:
    from ptypy import io

    found = io.h5read(str(path))
    chunk = found["chunks"]["0"]
    same("counts", chunk["data"], EXPECTED["counts"])
    same("positions", chunk["positions"], EXPECTED["positions_m"], 1e-12)
    same("weights", chunk["weights"][0] == 0, EXPECTED["bad"])
    same("energy", found["meta"]["energy"], EXPECTED["energy_eV"] / 1e3, 1e-12)
    return "counts exact, positions, weights, energy"


def result(path: Path) -> str:
    from ptypy import io

    found = io.h5read(str(path), "content")["content"]
    image, probe = (next(iter(found[name].values())) for name in ("obj", "probe"))
    same("object", image["data"][0], EXPECTED["object"])
    same("probe", probe["data"], EXPECTED["probe"])
    same("pixel", image["_psize"], EXPECTED["pixel_m"], 1e-12)
    return "object and probe exact, pixel"


row("scan.ptyd", scan)
row("result.ptyr", result)
