"""Make the picture of docs/near-field.md from the measured scan that the page names.

    python docs/near_field_pictures.py petra3_p25_near_field.cxi

The scan (PETRA III, beamline P25) is among the example data of cdtools, https://github.com/cdtools-developers/cdtools.
"""

from __future__ import annotations

import sys
from pathlib import Path

import diptych
from diptych.ptycho.figures.overview import save_figure

PICTURE = Path(__file__).resolve().parent / "pictures" / "near-field.png"


def main(path: str) -> None:
    """Reconstruct the scan as the page says, and draw the result."""
    scan = diptych.load(path, focus_distance_m=3.65e-3)
    result = diptych.reconstruct(scan, correct_positions="on")
    save_figure(result.plot(), PICTURE, dpi=95)


if __name__ == "__main__":
    main(sys.argv[1])
