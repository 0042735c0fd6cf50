"""Run in an environment with cdtools: its data set from our CXI files, its model from our results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rows import EXPECTED, row, same


def scan(path: Path) -> str:
    from cdtools.datasets import Ptycho2DDataset

    data = Ptycho2DDataset.from_cxi(str(path))
    same("counts", data.patterns.numpy(), EXPECTED["counts"])
    same("mask", data.mask.numpy(), ~EXPECTED["bad"])
    # cdtools negates the translation of the file.
    same("translations", -data.translations.numpy()[:, [1, 0]], EXPECTED["positions_m"], 1e-6)
    same("wavelength", float(data.wavelength), EXPECTED["wavelength_m"], 1e-6)
    same("distance", float(data.detector_geometry["distance"]), EXPECTED["distance_m"], 1e-6)
    return f"counts exact, mask, positions, wavelength, distance to 1e-6 ({len(data)} patterns)"


def result(path: Path) -> str:
    import torch
    from cdtools.models import FancyPtycho

    model = FancyPtycho.from_results_h5(str(path))
    stored = model.save_results()
    same("object", stored["obj"], EXPECTED["object"], 1e-6)
    same("probe", stored["probe"], EXPECTED["probe"], 1e-6)
    same("pixel", np.linalg.norm(stored["obj_basis"], axis=0), EXPECTED["pixel_m"], 1e-6)
    same("loss", stored["loss_history"], EXPECTED["loss"], 1e-6)
    # Where its own model puts each window: the first pixel, in the object's pixels.
    from cdtools.tools.interactions import translations_to_pixel

    places = translations_to_pixel(model.obj_basis, torch.as_tensor(stored["translations"], dtype=torch.float32))
    corners = EXPECTED["positions_m"] / EXPECTED["pixel_m"] - EXPECTED["origin_px"] - EXPECTED["probe"].shape[-1] // 2
    same("windows", (places - model.min_translation).detach().numpy(), corners, 1e-5)
    return "FancyPtycho.from_results_h5: object, probe, pixel, losses to 1e-6, windows to 1e-5"


row("scan.cxi", scan)
row("cdtools.h5", result)
