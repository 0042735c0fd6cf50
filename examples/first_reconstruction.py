"""From your own arrays to an object, a file, a figure and numbers.

    python examples/first_reconstruction.py [--out first] [--size 64] [--patterns 256]

The arrays are simulated, so that the script runs anywhere. Replace the function ``measured`` by your own data.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import diptych
from diptych.ptycho.figures.overview import plot_comparison, save_figure


def measured(
    size: int, patterns: int
) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.complex64], NDArray[np.bool_], diptych.Canvas]:
    """Counts (M, N, N), stage readings (M, 2) in metres, initial probe (N, N), bad pixels (N, N), and the truth.

    A measurement gives the first four. The initial probe is wrong: no central stop, wrong defocus, wrong scale.
    """
    scan = diptych.simulate(
        object="siemens-star", size=size, patterns=patterns, dose=1e5, dead=0.002, probe_error=1.0, seed=0
    )
    assert scan.probe is not None
    assert scan.mask is not None
    assert scan.truth is not None
    pixel = np.asarray(GEOMETRY.object_pixel_m(size))
    # The sample moves and the beam is fixed, so the position of the beam on the sample has the opposite sign.
    return scan.counts, -scan.positions * pixel, scan.probe[0], ~scan.mask, scan.truth


GEOMETRY = diptych.Geometry(energy_eV=8800.0, distance_m=1.9, detector_pixel_m=(75e-6, 75e-6))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("first"), help="folder to write to")
    parser.add_argument("--size", type=int, default=64, help="side of the patterns, px")
    parser.add_argument("--patterns", type=int, default=256, help="number of patterns")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)

    counts, stage_m, probe, bad_pixels, truth = measured(given.size, given.patterns)

    # Scan validates its arrays; the geometry converts the readings to object pixels.
    scan = diptych.Scan.from_metres(
        counts, stage_m, GEOMETRY, probe, moves="sample", mask=~bad_pixels, name="first scan"
    )
    about = scan.summary()
    print(
        f"{about['patterns']} patterns, {about['photons_per_pattern']['mean']:.3g} photons each, linear overlap "
        f"{about['overlap']:.0%}"
    )
    for note in about["notes"]:
        print(f"note: {note}")
    save_figure(scan.plot(), given.out / "scan.png")

    # Engine, batch size, number of epochs and stopping are chosen automatically.
    result = diptych.reconstruct(scan)
    info = result.provenance
    print(f"{info['epochs']} epochs in {info['seconds']:.1f} s; stop: {info['stop_reason']}")
    print(f"fit {info['fit']:.3f}, held out {info['held_out_fit']:.3f} (1: limited by photon noise)")
    for flag in result.flags:
        print(f"flag: {flag}")

    # Ptychodus can open the .h5, NumPy the .npz, and diptych.load both.
    result.save(given.out / "result.h5")
    result.save(given.out / "result.npz")
    save_figure(result.plot(), given.out / "result.png")

    # With a truth: error after removing the gauge, which the data do not determine.
    metrics = diptych.evaluate(result, truth=truth)
    print(
        f"complex error {metrics['complex_error']:.4f}, phase SSIM {metrics['phase_ssim']:.3f}; "
        f"{metrics.details['complex_error'].gauge}"
    )
    assert metrics.alignment is not None
    save_figure(plot_comparison(metrics.alignment), given.out / "comparison.png")
    print(f"written: {', '.join(sorted(path.name for path in given.out.iterdir()))} in {given.out}")


if __name__ == "__main__":
    main()
