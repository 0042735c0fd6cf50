"""Inference: stitching, phase alignment of groups, coverage, bounded memory, and provenance."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import diptych
from diptych.errors import InputError
from diptych.ptycho.networks import NetworkOptions, build_network
from diptych.ptycho.neural.data.covering import cover_groups
from diptych.ptycho.neural.inference import Stitcher, infer
from diptych.ptycho.neural.options import TrainingOptions
from diptych.ptycho.physics.illumination import lit
from diptych.ptycho.physics.patches import cut

CPU = torch.device("cpu")
N = 32


def model(gridsize=2, **options):
    torch.manual_seed(0)
    network = build_network(N, 10.0, NetworkOptions(width=8, **options)).eval()
    return SimpleNamespace(network=network, options=TrainingOptions(gridsize=gridsize, width=8, **options))


def made(patterns=64, **options):
    return diptych.simulate(object="dead-leaves", size=N, patterns=patterns, step=4.0, dose=1e6, seed=2, **options)


def stitched(scan, *, batch, align_phase, phases):
    """Error of true patches stitched in batches, each group with a phase of its own."""
    from diptych.ptycho.neural.inference import _from_the_centre

    members = _from_the_centre(cover_groups(scan.positions, gridsize=2).members, scan.positions)
    factors = torch.exp(1j * torch.from_numpy(phases(len(members)))).to(torch.complex64)
    weight = torch.from_numpy((np.abs(scan.true_probe) ** 2).sum(0))
    stitcher = Stitcher.around(scan.positions, N, CPU)
    for start in range(0, len(members), batch):
        part = members[start : start + batch]
        where = scan.positions[part]
        patches = cut(torch.from_numpy(scan.truth.values), where.reshape(-1, 2), N, origin=scan.truth.origin).reshape(
            *part.shape, N, N
        )
        patches = patches * factors[start : start + batch, None, None, None]
        stitcher.add(patches, weight.expand(patches.shape).contiguous(), where, align_phase=align_phase)
    image = diptych.Canvas(stitcher.image().numpy(), stitcher.origin)
    result = diptych.Reconstruction(image, scan.true_probe, scan.positions)
    return diptych.evaluate(result, scan.truth, gauge="phase")["complex_error"]


def test_true_patches_make_the_object():
    assert stitched(made(), batch=16, align_phase=False, phases=np.zeros) < 1e-5


@pytest.mark.parametrize("batch", [1, 5, 16, 1000])
def test_the_phases_of_groups_are_aligned(batch):
    scan = made(196)
    rng = np.random.default_rng(0)
    assert stitched(scan, batch=batch, align_phase=False, phases=lambda n: rng.uniform(-3, 3, n)) > 0.5
    assert stitched(scan, batch=batch, align_phase=True, phases=lambda n: rng.uniform(-3, 3, n)) < 0.02


def test_a_scan_in_two_islands_is_stitched():
    scan = made()
    islands = scan.positions.copy()
    far = islands[:, 1] > np.median(islands[:, 1])
    islands[far, 1] += 300
    torn = diptych.Scan(scan.counts, islands, scan.probe)
    result = infer(model(), torn, device=CPU)
    assert np.isfinite(result.object.values).all()


@pytest.mark.parametrize("gridsize", [1, 2, 3])
def test_an_image_of_the_whole_scan(gridsize):
    scan = made(modes=2, background=0.1, dead=0.01)
    seen = []
    result = infer(
        model(gridsize), scan, device=CPU, batch=20, progress=lambda p: seen.append((p.stage, p.done, p.total))
    )
    (y0, y1, x0, x1), half = result.object.extent, N // 2
    low, high = scan.positions.min(0), scan.positions.max(0)
    assert y0 <= low[0] - half + 1
    assert y1 >= high[0] + half - 1
    assert x0 <= low[1] - half + 1
    assert x1 >= high[1] + half - 1
    assert seen[-1][1] == seen[-1][2] == result.provenance["groups"]
    assert result.provenance["patterns_per_second"] == pytest.approx(len(scan) / result.provenance["seconds"])
    assert result.provenance["fit"] > 0
    assert np.sum(np.abs(result.probe) ** 2) == pytest.approx(np.sum(np.abs(scan.true_probe) ** 2), rel=1e-4)


def test_pixels_that_light_did_not_reach_stay_near_one(monkeypatch):
    # As if the passes over the whole canvas had fitted noise there.
    monkeypatch.setattr("diptych.ptycho.neural.inference.refine", lambda seen, image, passes, prior: (5 * image, {}))
    result = infer(model(), made(trajectory="fermat-spiral"), device=CPU, canvas_passes=1)
    modulus, light = np.abs(result.object.values), result.illumination
    assert modulus[lit(light)].min() > 3
    assert (light < 0.1).sum() > 100
    assert np.abs(result.object.values[light < 0.1] - 1).max() < 0.2


def test_the_batch_size_changes_rounding_only():
    scan = made()
    one, other = (infer(model(), scan, device=CPU, batch=b).object.values for b in (8, 256))
    ratio = np.vdot(other, one) / np.vdot(other, other)
    assert np.linalg.norm(one - ratio * other) < 1e-3 * np.linalg.norm(one)


def test_the_same_bytes_again():
    scan = made()
    one, other = (infer(model(), scan, device=CPU).object.values for _ in range(2))
    assert one.tobytes() == other.tobytes()


def test_uniform_weights_differ_from_the_probes():
    scan = made()
    probe, uniform = (infer(model(), scan, device=CPU, weights=w).object.values for w in ("probe", "uniform"))
    assert not np.allclose(probe, uniform)


def test_a_scan_without_probe_is_refused():
    scan = made()
    with pytest.raises(InputError, match="has no probe"):
        infer(model(), diptych.Scan(scan.counts, scan.positions), device=CPU)


def test_too_few_patterns_for_a_group():
    scan = made()
    with pytest.raises(InputError, match=r"3 patterns|group"):
        infer(model(), diptych.Scan(scan.counts[:3], scan.positions[:3], scan.probe), device=CPU)


PEAK = """
import sys, resource, numpy as np, torch, diptych
from types import SimpleNamespace
from diptych.ptycho.networks import NetworkOptions, build_network
from diptych.ptycho.neural.inference import infer
from diptych.ptycho.neural.options import TrainingOptions
torch.set_num_threads(1)
M = int(sys.argv[1])
side = int(M ** 0.5)
positions = 4.0 * np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"), -1).reshape(-1, 2)
counts = np.broadcast_to(np.random.default_rng(0).poisson(3, (32, 32)).astype(np.uint16), (len(positions), 32, 32))
patterns = SimpleNamespace(
    name="made", positions=positions, probe=np.ones((1, 32, 32), np.complex64), probe_calibrated=False, mask=None,
    background=None, geometry=None, truth=None, size=32, read=lambda i: (counts[i].astype(np.float32), None),
)
class P(SimpleNamespace):
    def __len__(self): return len(positions)
patterns = P(**vars(patterns))
options = TrainingOptions(width=4, passes=1)
model = SimpleNamespace(network=build_network(32, 1.0, options), options=options)
result = infer(model, patterns, device=torch.device("cpu"), batch=256)
print(result.provenance["groups"], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, result.object.values.nbytes)
"""


@pytest.mark.integration
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read the Linux way")
def test_thousands_of_groups_in_the_memory_of_one_batch_and_the_canvas():
    def peak(patterns):
        out = subprocess.run(
            [sys.executable, "-c", PEAK, str(patterns)], capture_output=True, text=True, check=True, timeout=120
        )
        return [int(word) for word in out.stdout.split()]

    few, many = peak(1024), peak(20736)
    assert many[0] >= 5000
    grown_mb = (many[1] - few[1]) / 1024
    # Canvas, weights and image, and 16 kB a pattern for positions and groups; the patches alone would be 170 MB.
    assert grown_mb < 5 * (many[2] - few[2]) / 2**20 + 30
