"""Cost of an epoch against the number of patterns, their size, modes and threads, over bare FFTs of the same patterns.

Each case is a process of its own. Epochs and bare FFTs alternate, and the least time of each counts, so that ratios
hold on a machine that is not idle. Counts are noiseless patterns of a smooth object: the cost does not depend on them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from itertools import product

import numpy as np
import torch

from diptych.ptycho.engines.likelihood.maximum_likelihood import LikelihoodSettings, MaximumLikelihood
from diptych.ptycho.engines.pie import Pie, PieSettings
from diptych.ptycho.engines.problem import Problem, in_order, make_problem, share_out, sweep_batch
from diptych.ptycho.physics import compiled
from diptych.ptycho.physics.compiled import one_pass
from diptych.ptycho.scan import Scan
from diptych.ptycho.simulate.trajectories import raster
from diptych.runtime.cpu.parallel import shared_out

BASE = {"patterns": 1000, "size": 64, "modes": 1}

QUICK = {"patterns": (250, 1000), "size": (64, 128), "modes": (1, 2)}

COMPLETE = {"patterns": (1000, 4000, 10000, 40000), "size": (64, 128, 256, 512), "modes": (1, 2, 4)}


def main() -> None:
    """Measure every case and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--quick", action="store_true", help="two values of each, three epochs; about a minute")
    parser.add_argument("--plain", action="store_true", help="without compiled code, as where Numba is not installed")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case is not None:
        print(json.dumps(measure(**json.loads(arguments.case))))
        return
    varied = QUICK if arguments.quick else COMPLETE
    cases = [BASE | {name: value} for name, values in varied.items() for value in values]
    cases = list({json.dumps(case): case for case in cases}.values())
    print(
        "| patterns | N | modes | threads | PIE us / pattern | x bare | likelihood us / pattern | x bare | memory MB |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for case, threads in product(cases, arguments.threads):
        job = case | {"threads": threads, "epochs": 3 if arguments.quick else arguments.epochs}
        job["plain"] = arguments.plain
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, __file__, "--case", json.dumps(job)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{case} failed:\n{done.stderr}")
        found = json.loads(done.stdout)
        each = 1e6 / case["patterns"]
        row = [*case.values(), threads, f"{found['pie'] * each:.1f}", f"{found['pie'] / found['bare']:.2f}"]
        row += [f"{found['likelihood'] * each:.1f}", f"{found['likelihood'] / found['bare']:.2f}", found["memory"]]
        print("|", " | ".join(map(str, row)), "|", flush=True)


def measure(patterns: int, size: int, modes: int, threads: int, epochs: int, plain: bool = False) -> dict[str, float]:
    """Least seconds of an epoch of PIE, of maximum likelihood, and of bare FFTs; MB above the scan at the end."""
    if plain:
        # As where no optional package is installed.
        compiled.optional = lambda module, *needs: None  # type: ignore[assignment]
        one_pass.optional = compiled.optional  # type: ignore[attr-defined]
    else:
        Pie(*small(), PieSettings(), np.random.default_rng(0)).epoch()  # Imports are not memory of the engine.
    scan = scan_of(patterns, size, modes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with shared_out(True, threads) as workers:
        problem = make_problem(
            scan, device=torch.device("cpu"), double=False, subpixel=False, held_out=0.005, seed=0, workers=workers
        )
        image, probe = problem.flat_object(), torch.from_numpy(scan.probe)
        engines = {
            "pie": Pie(problem, image, probe, PieSettings(), np.random.default_rng(0)),
            "likelihood": MaximumLikelihood(problem, image, probe, LikelihoodSettings(batch=sweep_batch(problem))),
        }
        least = dict.fromkeys(("bare", *engines), float("inf"))
        for _ in range(epochs):
            least["bare"] = min(least["bare"], seconds(lambda: bare(problem, modes)))
            for name, engine in engines.items():
                least[name] = min(least[name], seconds(engine.epoch))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return least | {"memory": memory // 1024}


def small() -> tuple[Problem, torch.Tensor, torch.Tensor]:
    """A problem of four patterns, its flat object and its probe."""
    scan = scan_of(4, 64, 1)
    given = {"device": torch.device("cpu"), "double": False, "subpixel": False, "held_out": 0.005, "seed": 0}
    problem = make_problem(scan, **given)
    return problem, problem.flat_object(), torch.from_numpy(scan.probe)


def seconds(work) -> float:  # type: ignore[no-untyped-def]
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def bare(problem: Problem, modes: int) -> None:
    """Forward and inverse FFT of one exit wave for each pattern and mode."""

    def part(batches) -> None:  # type: ignore[no-untyped-def]
        for batch in batches:
            waves = torch.ones((len(batch), modes, problem.size, problem.size), dtype=torch.complex64)
            torch.fft.ifft2(torch.fft.fft2(waves, norm="ortho"), norm="ortho")

    share_out(problem, part, in_order(len(problem), sweep_batch(problem)))


def scan_of(patterns: int, size: int, modes: int) -> Scan:
    """A scan at whole pixels, step N / 8, of a smooth object under Gaussian modes; 1e6 photons in a pattern."""
    y, x = np.indices((size, size)) - size // 2
    width = size / 6
    shape = np.exp(-(y**2 + x**2) / (2 * width**2)) * np.exp(1j * (y**2 + x**2) / width**2)
    probe = np.stack([shape * (x / width) ** mode for mode in range(modes)]).astype(np.complex64)
    probe *= 1e3 / np.sqrt((np.abs(probe) ** 2).sum())
    positions = np.round(raster(size / 8, patterns))
    counts = np.empty((patterns, size, size), np.float32)
    for i, (v, u) in enumerate(positions):
        phase = np.sin((y + v) * 8 / size) * np.cos((x + u) * 6 / size)
        field = np.fft.fft2(probe * np.exp(1j * phase), norm="ortho")
        counts[i] = np.fft.fftshift((np.abs(field) ** 2).sum(0))
    return Scan(counts, positions, probe)


if __name__ == "__main__":
    main()
