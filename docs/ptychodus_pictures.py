"""Take the picture of diptych inside Ptychodus: ``python docs/ptychodus_pictures.py``, in an environment with Ptychodus
and PyQt5. No screen is needed. A simulated scan is reconstructed and the window drawn to ``pictures/ptychodus.png``.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import numpy as np
import ptychodus

import diptych
from diptych.ptycho.plugins.ptychodus.launch import register_all

PICTURE = Path(__file__).parent / "pictures" / "ptychodus.png"


def main() -> None:
    """Open the window with a scan, reconstruct it, and draw it."""
    register_all(ptychodus)
    from ptychodus.model import ModelCore
    from PyQt5.QtGui import QFont
    from PyQt5.QtWidgets import QApplication

    with tempfile.TemporaryDirectory() as folder, ModelCore() as model:
        app = QApplication(sys.argv[:1])
        app.setFont(QFont("DejaVu Sans", 9))
        from ptychodus.controller import ControllerCore
        from ptychodus.view import ViewCore

        view = ViewCore(is_developer_mode_enabled=False)
        controller = ControllerCore(model, view, is_developer_mode_enabled=False)
        controller.show_main_window(ptychodus.VERSION_STRING)
        view.resize(1200, 760)
        reconstruct(model, Path(folder), app)
        view.processing_action.trigger()
        choose_last_product(view)
        for _ in range(20):
            app.processEvents()
        view.grab().toImage().save(str(PICTURE))
    shrink(PICTURE)


def reconstruct(model: Any, folder: Path, app: Any) -> None:
    """A simulated scan, read by diptych's readers and reconstructed by its automatic engine."""
    scan = diptych.simulate(
        object="siemens-star",
        size=64,
        patterns=144,
        step=6.0,
        dose=1e6,
        probe_error=0.3,
        seed=1,
        energy_eV=8800,
        distance_m=2.0,
        detector_pixel_m=75e-6,
    )
    assert scan.truth is not None
    flat = diptych.Canvas(np.ones_like(scan.truth.values), scan.truth.origin, scan.pixel_m)
    start = diptych.Reconstruction(flat, scan.probe, scan.positions, geometry=scan.geometry, name="star")
    patterns, product = diptych.save(scan, folder / "star.npz"), diptych.save(start, folder / "start.h5")
    data = model.workflow_api.load_diffraction_data(patterns, file_type="diptych", block=True)
    model.run_tasks()
    item = model.workflow_api.load_product(product, file_type="diptych", diffraction=data)
    model.settings_registry["Diptych"].parameters()["Epochs"].set_value("40")
    item.reconstruct_local(algorithm="diptych_auto", block=True)
    model.run_tasks()
    app.processEvents()


def choose_last_product(view: Any) -> None:
    """Select the result in the list of products, so that its losses are drawn."""
    from PyQt5.QtWidgets import QComboBox

    for box in view.processing_view.findChildren(QComboBox):
        if (place := box.findText("star")) >= 0:
            box.setCurrentIndex(place + 1)


def shrink(path: Path) -> None:
    """A palette of 128 colours: a window has few."""
    from PIL import Image

    with Image.open(path) as image:
        image.convert("RGB").quantize(128).save(path, optimize=True)


if __name__ == "__main__":
    main()
