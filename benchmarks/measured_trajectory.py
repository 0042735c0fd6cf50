"""A scan simulated with the probe, the object and the positions of a published measured result, with no option set.

The result file holds ``probeGuess`` (N, N), ``objectGuess`` (H, W), refined positions ``xcoords``, ``ycoords`` and
nominal ones ``xcoords_start``, ``ycoords_start`` (pixels; x = column). Patterns are made at the refined positions, by
shifts in Fourier space, and reconstructed from the nominal ones. Prints the distance from the positions of the
simulation before and after (px rms and at most, common shift left out), the same without scale, rotation and shear, the
held-out fit, the number of modes, the spread of the factors of the frames, seconds and flags.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from positions import Places, rms
from star_positions import linear_left

import diptych
from diptych.ptycho.engines.flags.base import by_kind

EDGE = 8
"""Pixels around a window that shifts in Fourier space may wrap into."""


def shifted(image: NDArray[np.complex128], corner: NDArray[np.float64], size: int) -> NDArray[np.complex128]:
    """The window (size, size) of an image at a corner between pixels."""
    whole = np.floor(corner).astype(int)
    part = corner - whole
    rows, columns = (slice(each - EDGE, each + size + EDGE) for each in whole)
    frequency = np.fft.fftfreq(size + 2 * EDGE)
    ramp = np.exp(2j * np.pi * (frequency[:, None] * part[0] + frequency * part[1]))
    return np.fft.ifft2(np.fft.fft2(image[rows, columns]) * ramp)[EDGE:-EDGE, EDGE:-EDGE]


def simulated(file: Path, photons: float, beam: float, patterns: int, seed: int) -> tuple[diptych.Scan, Places]:
    """The scan at its nominal positions, and the positions at which it was made.

    Parameters
    ----------
    file : Path
        Published result.
    photons : float
        Mean photons of a pattern.
    beam : float
        Standard deviation of the logarithm of the beam's intensity, from frame to frame.
    patterns : int
        How many of the scan's patterns are used, from the first on.
    seed : int
        Of the noise.
    """
    with np.load(file) as found:
        probe, image = found["probeGuess"], found["objectGuess"]
        true, nominal = (
            np.stack([found[f"ycoords{name}"], found[f"xcoords{name}"]], 1)[:patterns] for name in ("", "_start")
        )
    random, size = np.random.default_rng(seed), len(probe)
    image = np.pad(image, size, mode="edge")
    corners = true - (true.min(0) + true.max(0)) / 2 + (np.array(image.shape) - size) / 2
    waves = np.array([probe * shifted(image, corner, size) for corner in corners])
    intensity = np.abs(np.fft.fftshift(np.fft.fft2(waves), axes=(1, 2))) ** 2
    intensity *= random.lognormal(0, beam, len(true))[:, None, None] * photons / intensity.sum((1, 2)).mean()
    counts = random.poisson(intensity).astype(np.float32)
    return diptych.Scan(counts=counts, positions=nominal, probe=probe[None].astype(np.complex64)), true


def main() -> None:
    """Simulate, reconstruct, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="the published result")
    parser.add_argument("--photons", type=float, default=1e5)
    parser.add_argument("--beam", type=float, default=0.0, help="rms of the logarithm of the beam's intensity")
    parser.add_argument("--patterns", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--correct", choices=("auto", "on", "off"), default="auto")
    parser.add_argument("--save", type=Path, help="file for the result")
    arguments = parser.parse_args()
    scan, true = simulated(arguments.file, arguments.photons, arguments.beam, arguments.patterns, arguments.seed)
    began = time.perf_counter()
    result = diptych.reconstruct(scan, correct_positions=arguments.correct)
    seconds = time.perf_counter() - began
    off = result.positions - true
    most = float(np.linalg.norm(off - off.mean(0), axis=1).max())
    factors = result.frame_factors
    print("| before (px) | after (px) | at most | not linear (px) | held-out fit | modes | factors | s | flags |")
    print("|---|---|---|---|---|---|---|---|---|")
    print(
        f"| {rms(scan.positions, true):.2f} | {rms(result.positions, true):.2f} | {most:.2f} | "
        f"{linear_left(result.positions, true):.2f} | {result.provenance['held_out_fit']:.3f} | {len(result.probe)} | "
        f"{'-' if factors is None else f'{factors.std():.1%}'} | {seconds:.0f} | "
        f"{', '.join(by_kind(result.flags)) or '-'} |"
    )
    if arguments.save:
        diptych.save(result, arguments.save)


if __name__ == "__main__":
    main()
