"""A result as other files."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from diptych.studio.state.reconstruct.look import png

KINDS = ("h5", "npz", "png", "tiff", "html")


def export(result: Path, kind: str, target: Path) -> None:
    """Write a result file as HDF5 or NPZ (complete), PNG (a figure), TIFF (amplitude and phase, float32) or HTML (the
    report).

    Raises
    ------
    InputError
        If the file holds no result, or the kind is not known.
    """
    from diptych.errors import InputError
    from diptych.ptycho.io import load_result, save

    if kind not in KINDS:
        raise InputError("download", f"found {kind!r}", f"one of {', '.join(KINDS)}")
    if kind == "h5":
        shutil.copyfile(result, target)
        return
    found = load_result(result)
    if kind == "tiff":
        tiff([np.abs(found.object.values), np.angle(found.object.values)], target)
    elif kind == "png":
        from diptych.ptycho.figures.overview import save_figure

        save_figure(found.plot(), target)
    elif kind == "html":
        found.report(target)
    else:
        save(found, target)


def probe_pictures(result: Path) -> list[tuple[str, bytes]]:
    """Each probe mode of a result as a caption and a PNG, hue for the phase, brightness for the amplitude.

    Raises
    ------
    InputError
        If the file holds no result.
    """
    from diptych.ptycho.figures.colours import complex_to_rgb
    from diptych.ptycho.io import load_result

    probe = load_result(result).probe
    power = [float(np.sum(np.abs(mode) ** 2, dtype=np.float64)) for mode in probe]
    found = []
    for number, mode in enumerate(probe, 1):
        share = power[number - 1] / max(sum(power), 1e-30)
        rgb = np.clip(complex_to_rgb(mode), 0, 1) * 255
        found.append((f"Mode {number}: {share:.1%} of the power", png(rgb.astype(np.uint8))))
    return found


def slices_of(result: Path) -> list[str]:
    """What the slices of a thick object are called, in the order of the beam; empty where there is one.

    Raises
    ------
    InputError
        If the file holds no result.
    """
    from diptych.ptycho.io import load_result
    from diptych.studio.components.viewer.images import slice_names

    return slice_names(load_result(result))


def positions_figure(result: Path) -> bytes | None:
    """Recorded against refined positions as a PNG; None where they were not refined.

    Raises
    ------
    InputError
        If the file holds no result.
    """
    from diptych.ptycho.figures.overview import save_figure
    from diptych.ptycho.figures.positions import show_positions
    from diptych.ptycho.io import load_result

    found = load_result(result)
    if found.recorded_positions is None:
        return None
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 5.4), layout="constrained")
    show_positions(figure.subplots(), found.recorded_positions, found.positions)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "positions.png"
        save_figure(figure, path)
        return path.read_bytes()


def tiff(pages: list[Any], target: Path) -> None:
    """Write real (H, W) arrays as the pages of a float32 TIFF."""
    from PIL import Image

    first, *rest = (Image.fromarray(np.ascontiguousarray(page, np.float32)) for page in pages)
    first.save(target, "TIFF", save_all=True, append_images=rest, compression="tiff_adobe_deflate")
