"""From your own arrays to an object, a file, a figure and numbers.

    python examples/first_reconstruction.py [--out first] [--size 64] [--patterns 256]

The arrays are simulated here, so that the script runs anywhere. Put your own in their place: what matters is in
``measured``.
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
    """Counts (M, N, N), stage readings (M, 2) in metres, a rough probe (N, N), the bad pixels (N, N), and the truth to
    compare with.

    A beamline gives the first four. The probe is a blind start: no central stop, wrong defocus, wrong scale.
    """
    scan = diptych.simulate(
        object="siemens-star", size=size, patterns=patterns, dose=1e5, dead=0.002, probe_error=1.0, seed=0
    )
    assert scan.probe is not None
    assert scan.mask is not None
    assert scan.truth is not None
    pixel = np.asarray(GEOMETRY.object_pixel_m(size))
    # The sample moves, and the beam stands still: the beam's place on the sample has the other sign.
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

    # A scan checks its arrays at once; the geometry turns the readings into object pixels.
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

    # Engine, batches, epochs and the stop are chosen by the program.
    result = diptych.reconstruct(scan)
    told = result.provenance
    print(f"{told['epochs']} epochs in {told['seconds']:.1f} s; stop: {told['stop_reason']}")
    print(f"fit {told['fit']:.3f}, held out {told['held_out_fit']:.3f} (1: nothing but photon noise is left)")
    for flag in result.flags:
        print(f"flag: {flag}")

    # Ptychodus opens the .h5, NumPy the .npz, and diptych.load both.
    result.save(given.out / "result.h5")
    result.save(given.out / "result.npz")
    save_figure(result.plot(), given.out / "result.png")

    # Only with a truth: how far off is it, once what the data leave free is removed?
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
