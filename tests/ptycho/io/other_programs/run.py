"""Write our formats, open each with the program it is meant for, and compare the numbers; ``make other-programs``.

Every program gets an environment of its own (``.other-programs/NAME``, made by pip where it is not there), never that
of diptych: some pull packages that must not stand beside ours. PtyPy is not offered by pip; it is used where an
environment of that name holds it. Prints a table and ends with 1 where a file was not opened or differs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import diptych

HERE = Path(__file__).resolve().parent
N, M = 32, 24
PROGRAMS = {
    "cdtools": ["cdtools-py", "torch<2.14"],
    "ptychodus": ["ptychodus"],
    "py4dstem": ["py4DSTEM"],
    "ptypy": ["ptypy"],
}
"""What pip installs for each; never Ptychodus with its extra ``ptychi``."""


def write_files(folder: Path) -> None:
    """Scans and results in every format that another program opens, and their numbers in ``expected.npz``."""
    rng = np.random.default_rng(5)
    geometry = diptych.Geometry(9e3, 1.3, (75e-6, 75e-6))
    pixel = geometry.object_pixel_m(N)
    rows, columns = np.mgrid[:4, :6].reshape(2, -1)
    positions = np.stack([rows * 5.0 + 40.25, columns * 4.5 + 38.5], axis=1)
    probe = (rng.normal(size=(2, N, N)) + 1j * rng.normal(size=(2, N, N))).astype(np.complex64) * 9
    image = np.exp(1j * rng.uniform(0, 1, (60, 64))).astype(np.complex64)
    counts = rng.poisson(20.0, (M, N, N)).astype(np.uint16)
    mask = np.ones((N, N), bool)
    mask[3, 4:7] = False
    scan = diptych.Scan(counts, positions, probe, mask=mask, geometry=geometry, name="scan")
    canvas = diptych.Canvas(image, (20, 18), pixel)
    history = {"epoch": [1.0, 2.0], "loss": [3.0, 2.5]}
    result = diptych.Reconstruction(canvas, probe, positions, history, geometry=geometry, name="result")
    for name, format_ in (
        ("scan.cxi", "cxi"),
        ("scan.nxs", "nxptycho"),
        ("scan.ptyd", "ptypy"),
        ("scan_dp.hdf5", "fold-slice"),
        ("scan.emd", "emd"),
    ):
        diptych.save(scan, folder / name, format_)
    for name, format_ in (
        ("product.h5", "ptychodus"),
        ("product.npz", "ptychodus-npz"),
        ("product.cxi", "ptychodus-cxi"),
        ("cdtools.h5", "cdtools-result"),
        ("result.ptyr", "ptypy-result"),
    ):
        diptych.save(result, folder / name, format_)
    np.savez(
        folder / "expected.npz",
        counts=counts,
        positions_m=positions * pixel,
        pixel_m=pixel,
        probe=probe,
        object=image,
        bad=~mask,
        origin_px=canvas.origin,
        energy_eV=geometry.energy_eV,
        wavelength_m=geometry.wavelength_m,
        distance_m=geometry.distance_m,
        detector_pixel_m=geometry.detector_pixel_m,
        loss=history["loss"],
    )


def environment(folder: Path, packages: list[str]) -> tuple[Path | None, str]:
    """The Python of an environment with ``packages``, made where it is not there; None and why where pip fails."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        done = subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
            shutil.rmtree(folder)
            return None, lines[-1].removeprefix("ERROR: ")
    return python, ""


def opened(python: Path, program: str, folder: Path) -> list[dict[str, str]]:
    """What the program said of each file: ``file``, ``opened`` (yes or no), ``says``."""
    done = subprocess.run(
        [str(python), str(HERE / f"open_{program}.py"), str(folder)], capture_output=True, text=True, check=False
    )
    rows = [json.loads(line[5:]) for line in done.stdout.splitlines() if line.startswith("ROW: ")]
    if done.returncode or not rows:
        said = (done.stderr.strip().splitlines() or ["no output"])[-1]
        rows.append({"file": "-", "opened": "no", "says": said})
    return rows


def main() -> int:
    """The table; 1 where something is not opened."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("programs", nargs="*", help="Only these programs.")
    parser.add_argument("--environments", type=Path, default=Path(".other-programs"), help="Folder of environments.")
    asked = parser.parse_args()
    asked.environments.mkdir(exist_ok=True)
    failed = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_files(folder)
        print(f"{'program':10} {'file':16} {'opened':7} what it says")
        for program in asked.programs or PROGRAMS:
            python, reason = environment(asked.environments.resolve() / program, PROGRAMS[program])
            if python is None:
                print(f"{program:10} {'-':16} {'-':7} not installed: {reason}")
                continue
            for row in opened(python, program, folder):
                failed += row["opened"] != "yes"
                print(f"{program:10} {row['file']:16} {row['opened']:7} {row['says']}")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
