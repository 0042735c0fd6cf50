"""Positions of a measured scan made wrong: the Siemens star of ``diptych fetch siemens-star``, with no option set.

Prints for each error the distance from the recorded positions before and after (px rms, common shift left out), the
same without scale, rotation and shear, the held-out fit, the number of modes, seconds, and what the image says of the
positions by itself: the spokes begin on a circle, and wrong positions deform it. Its flattening is the difference of
the half axes of an ellipse over their mean. ``--correct on`` takes slow distortions further.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from positions import ERRORS, Places, rms
from scipy import ndimage, optimize

import diptych
from diptych.ptycho.engines.flags.base import by_kind

HUB = 60.0
"""Radius, px, within which a spoke must begin to belong to the circle."""

LEAST_SPOKE = 150
"""Pixels of the smallest spoke."""

INNERMOST = 5
"""Pixels of a spoke whose mean is its inner end."""


def linear_left(found: Places, recorded: Places) -> float:
    """Distance, px rms, without common shift, scale, rotation and shear."""
    there, here = recorded - recorded.mean(0), found - found.mean(0)
    return rms(there @ np.linalg.lstsq(there, here, rcond=None)[0], here)


def spokes(phase: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Coordinates (n, 2) of the pixels of each dark spoke."""
    smooth = ndimage.gaussian_filter(phase, 1.0)
    low, high = np.percentile(smooth, [10, 80])
    labels, number = ndimage.label(smooth < (low + high) / 2)
    places = [np.argwhere(labels == each).astype(float) for each in range(1, number + 1)]
    return [each for each in places if len(each) >= LEAST_SPOKE]


def flattening(phase: NDArray[np.float64]) -> float:
    """Flattening of the ellipse on which the spokes begin."""
    found, middle = spokes(phase), np.array(phase.shape) / 2
    for _ in range(4):
        ends = []
        for spoke in found:
            radius = np.hypot(*(spoke - middle).T)
            if radius.min() < HUB:
                ends.append(spoke[radius.argsort()[:INNERMOST]].mean(0))
        ring = optimize.least_squares(
            _off_ellipse, [*middle, HUB / 2, 0.0, 0.0], args=(np.array(ends),), loss="soft_l1"
        )
        middle = ring.x[:2]
    return float(2 * np.hypot(*ring.x[3:]))


def _off_ellipse(ring: NDArray[np.float64], ends: NDArray[np.float64]) -> NDArray[np.float64]:
    y, x = (ends - ring[:2]).T
    angle = 2 * np.arctan2(y, x)
    off: NDArray[np.float64] = np.hypot(y, x) - ring[2] * (1 + ring[3] * np.cos(angle) + ring[4] * np.sin(angle))
    return off


def main() -> None:
    """Spoil, reconstruct, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", default="right,1 px,3 px,2 % and 3 deg")
    parser.add_argument("--correct", choices=("auto", "on", "off"), default="auto")
    parser.add_argument("--scan", type=Path, help="the scan's file; without it, it is fetched")
    parser.add_argument("--save", type=Path, help="folder for the results")
    arguments = parser.parse_args()
    if arguments.save:
        arguments.save.mkdir(parents=True, exist_ok=True)
    scan = diptych.load(arguments.scan) if arguments.scan else diptych.fetch("siemens-star")
    print("| error | before (px) | after (px) | not linear (px) | flattening | held-out fit | modes | s | flags |")
    print("|---|---|---|---|---|---|---|---|---|")
    for kind in arguments.kinds.split(","):
        wrong = replace(scan, positions=ERRORS[kind](scan.positions))
        began = time.perf_counter()
        result = diptych.reconstruct(wrong, correct_positions=arguments.correct)
        seconds = time.perf_counter() - began
        half = scan.size // 2
        image = result.object.values[half:-half, half:-half]
        phase = np.angle(image * np.exp(-1j * np.angle(image.sum())))
        print(
            f"| {kind} | {rms(wrong.positions, scan.positions):.2f} | {rms(result.positions, scan.positions):.2f} | "
            f"{linear_left(result.positions, scan.positions):.2f} | {100 * flattening(phase):.1f} % | "
            f"{result.provenance['held_out_fit']:.3f} | {len(result.probe)} | {seconds:.0f} | "
            f"{', '.join(by_kind(result.flags)) or '-'} |",
            flush=True,
        )
        if arguments.save:
            diptych.save(result, arguments.save / f"star {kind}.h5".replace("%", "percent"))


if __name__ == "__main__":
    main()
