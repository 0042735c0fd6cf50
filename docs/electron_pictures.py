"""Draw the figure of the 4D-STEM scan: ``python docs/electron_pictures.py FILE``, with the file of the scan (the
example of Ptycho.jl, 20 x 20 patterns, HDF5). Its rotation is found from the patterns; the reconstruction starts from
the parameters of the beam. Takes a few minutes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import diptych
from diptych.ptycho.figures.colours import level_phase, robust_range
from diptych.ptycho.figures.panels import show_image
from diptych.ptycho.physics.measured import scanned_box
from diptych.ptycho.physics.scan_rotation import scan_directions

PICTURE = Path(__file__).parent / "pictures" / "electrons.png"
PIXEL_M, STEP_M = 4.65e-10, 31.25e-10
BEAM = "optics:semi_angle_mrad=1.03,defocus_nm=13500"


def main(file: str) -> None:
    """Find the rotation, reconstruct with it and without it, and draw both phases beside the shadows."""
    wavelength = diptych.Geometry(energy_eV=300e3, particle="electron").wavelength_m or 0.0
    stated = {"particle": "electron", "energy_eV": 300e3, "distance_m": 1.0}
    stated |= {"detector_pixel_m": wavelength / (256 * PIXEL_M), "scan_step": STEP_M, "position_unit": "m"}
    scan = diptych.load(file, **stated)
    found = scan_directions(scan.counts, scan.positions)[0]
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    axes = figure.subplots(1, 3)
    mean = scan.counts.mean(0)
    pattern = scan.counts[210] / np.maximum(mean, 1)
    size = scan.size
    middle = slice(size // 2 - 70, size // 2 + 70)
    show_image(axes[0], pattern[middle, middle], "One pattern over the mean of all", limits=(0, 2.5), bar=False)
    for ax, degrees in zip(axes[1:], (0.0, round(found.degrees, 1)), strict=True):
        result = diptych.reconstruct(diptych.load(file, rotation=degrees, **stated), probe=BEAM, epochs=40)
        box = scanned_box(result.positions)
        part = result.object.crop(*box).values
        phase = np.angle(level_phase(part, ramp=True))
        fits = f"fit {result.provenance['fit']:.3f}, held out {result.provenance['held_out_fit']:.3f}"
        title = f"Phase, rotation {degrees:g}°\n{fits}"
        show_image(ax, phase, title, limits=robust_range(phase), label="rad", pixel_m=scan.pixel_m)
        print(title)
    figure.savefig(PICTURE, dpi=110, pil_kwargs={"optimize": True})


if __name__ == "__main__":
    main(sys.argv[1])
