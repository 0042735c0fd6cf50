"""Run in an environment with py4DSTEM, which reads by emdfile: the data cube with its calibration."""

from __future__ import annotations

from pathlib import Path

from rows import EXPECTED, row, same


def cube(path: Path) -> str:
    import py4DSTEM

    found = py4DSTEM.read(str(path))
    assert isinstance(found, py4DSTEM.DataCube), type(found)
    same("counts", found.data.reshape(EXPECTED["counts"].shape), EXPECTED["counts"])
    size = EXPECTED["counts"].shape[-1]
    same("Q pixel", found.calibration.get_Q_pixel_size(), 1e-10 / (size * EXPECTED["pixel_m"][0]), 1e-9)
    step = EXPECTED["positions_m"][6, 0] - EXPECTED["positions_m"][0, 0]
    same("R pixel", found.calibration.get_R_pixel_size(), step * 1e9, 1e-9)
    return f"DataCube {found.data.shape} exact, Q and R calibration to 1e-9"


row("scan.emd", cube)
