"""Effect of the dose, and resolution without a truth.

    python examples/dose_and_resolution.py [--out doses] [--size 64] [--patterns 144]

One object is scanned at several doses and reconstructed. The error against the truth, known in simulations only, is
printed beside the resolution from two half data sets, which experiments can measure. Engines are compared at the lowest
dose.
"""

from __future__ import annotations

import argparse
import csv
import math
from dataclasses import replace
from pathlib import Path

import diptych
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.ptycho.evaluate import RingCorrelation, half_scan_frc
from diptych.ptycho.figures.overview import plot_frc, save_figure

DOSES = (1e3, 1e4, 1e5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("doses"), help="folder to write to")
    parser.add_argument("--size", type=int, default=64, help="side of the patterns, px")
    parser.add_argument("--patterns", type=int, default=144, help="number of patterns")
    parser.add_argument("--epochs", type=int, default=40, help="most epochs of each reconstruction")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)

    rows: list[dict[str, float]] = []
    curves: list[RingCorrelation] = []
    print("photons    error  phase SSIM   fit  held out  half period from halves (px)")
    for dose in DOSES:
        scan = diptych.simulate(object="dead-leaves", size=given.size, patterns=given.patterns, dose=dose, seed=0)
        result = diptych.reconstruct(scan, epochs=given.epochs)
        metrics = diptych.evaluate(result, truth=scan.truth)
        # Each half has half the patterns, so the resolution of the full data is somewhat better than this estimate.
        halves = half_scan_frc(scan, lambda half: diptych.reconstruct(half, epochs=given.epochs))
        curves.append(replace(halves.curve, label=f"{dose:.0e} photons per pattern"))
        row = {
            "photons_per_pattern": dose,
            "complex_error": metrics["complex_error"],
            "phase_ssim": metrics["phase_ssim"],
            "fit": result.provenance["fit"],
            "held_out_fit": result.provenance["held_out_fit"],
            "half_period_px": resolution(halves.curve),
        }
        rows.append(row)
        print("{:7.0e}  {:7.4f}  {:10.3f}  {:4.2f}  {:8.2f}  {:.2f}".format(*row.values()))
    save_figure(plot_frc(curves, thresholds=(1 / 7,)), given.out / "frc.png")
    with (given.out / "doses.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)

    # At low dose the choice of engine matters: small batches do not converge, because each follows its own noise.
    scan = diptych.simulate(object="dead-leaves", size=given.size, patterns=given.patterns, dose=DOSES[0], seed=0)
    for name, options in (
        ("automatic", ReconstructionOptions()),
        ("rPIE, Poisson", ReconstructionOptions(engine="rpie")),
        ("rPIE, amplitudes", ReconstructionOptions(engine="rpie", likelihood="amplitude")),
    ):
        result = diptych.reconstruct(scan, options=options, epochs=given.epochs)
        error = diptych.evaluate(result, truth=scan.truth)["complex_error"]
        print(f"{DOSES[0]:.0e} photons, {name}: complex error {error:.3f}")


def resolution(curve: RingCorrelation) -> float:
    """Half period in pixels at 1/7; NaN where nothing is resolved."""
    try:
        return curve.half_period_px()
    except diptych.DiptychError:
        return math.nan


if __name__ == "__main__":
    main()
