"""Batches of groups: content, reproducibility, and memory."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.errors import InputError
from diptych.ptycho.neural.data.dataset import MAX_DEVIATIONS, GroupBatch, GroupDataset, GroupSampler, Key, make_loader
from diptych.ptycho.neural.data.hdf5 import open_patterns
from diptych.ptycho.neural.data.neighbours import Groups
from diptych.ptycho.neural.data.patterns import ScanPatterns
from diptych.ptycho.neural.probe_model import ProbeModel
from diptych.ptycho.scan import Canvas, Scan

N = 15
ROWS = np.array([2, 0])


def make_scan(patterns: int = 12, *, seed: int = 0, name: str = "scan") -> Scan:
    """A scan with a truth, at positions between the pixels."""
    rng = np.random.default_rng(seed)
    truth = Canvas((rng.normal(size=(50, 60)) + 1j * rng.normal(size=(50, 60))).astype(np.complex64), origin=(-5, 7))
    positions = rng.uniform((10, 20), (30, 50), (patterns, 2))
    probe = np.ones((1, N, N), np.complex64)
    return Scan(rng.poisson(5.0, (patterns, N, N)).astype(np.uint16), positions, probe, truth=truth, name=name)


def make_dataset(
    *scans: Scan, labels: bool = False, jitter: float = 0.0, seed: int = 0, withheld: float = 0.0
) -> GroupDataset:
    """Groups of four, different ones in each scan."""
    groups = [
        Groups(np.random.default_rng(i).permutation(len(scan) // 4 * 4).reshape(-1, 4), np.arange(len(scan)))
        for i, scan in enumerate(scans)
    ]
    return GroupDataset(
        [ScanPatterns(scan) for scan in scans], groups, labels=labels, jitter=jitter, seed=seed, withheld=withheld
    )


def test_a_batch_holds_the_patterns_and_places_of_its_groups() -> None:
    scans = make_scan(), make_scan(16, seed=1)
    batch = make_dataset(*scans)[1, ROWS, 0]
    members = np.random.default_rng(1).permutation(16).reshape(-1, 4)[ROWS]
    assert batch.scan == 1
    assert np.array_equal(batch.members, members)
    assert batch.positions.dtype == np.float64
    assert np.array_equal(batch.positions, scans[1].positions[members])
    assert batch.counts.shape == (2, 4, N, N)
    assert batch.counts.dtype == torch.float32
    # Zero frequency, in the middle of the scan's patterns, comes first.
    assert np.array_equal(torch.fft.fftshift(batch.counts, (-2, -1)).numpy(), scans[1].counts[members])
    assert batch.counts[0, 0, 0, 0] == scans[1].counts[members[0, 0], N // 2, N // 2]
    assert batch.valid is None
    assert batch.labels is None


def test_masks_of_each_pattern_come_with_them() -> None:
    scan = make_scan()
    mask = np.random.default_rng(2).uniform(size=scan.counts.shape) > 0.3
    batch = make_dataset(replace(scan, mask=mask))[0, ROWS, 0]
    assert batch.valid is not None
    assert batch.valid.dtype == torch.bool
    assert np.array_equal(torch.fft.fftshift(batch.valid, (-2, -1)).numpy(), mask[batch.members])
    assert (batch.counts[~batch.valid] == 0).all()
    assert np.array_equal(torch.fft.fftshift(batch.counts, (-2, -1)).numpy(), (scan.counts * mask)[batch.members])


def test_labels_are_the_true_patches_that_explain_the_counts() -> None:
    """With the true probe, moved as the physics moves it, the labels predict the counts that the truth makes."""
    scan = make_scan()
    assert scan.truth is not None
    batch = make_dataset(scan, labels=True)[0, ROWS, 0]
    assert batch.labels is not None
    assert batch.labels.dtype == torch.complex64
    for place, patch in zip(batch.positions.reshape(-1, 2), batch.labels.flatten(0, 1), strict=True):
        y, x = np.floor(place + 0.5).astype(int) - N // 2 - scan.truth.origin
        assert np.array_equal(patch.numpy(), scan.truth.values[y : y + N, x : x + N])
    probe_model = ProbeModel(np.ones((1, N, N), np.complex64), 100.0)
    predicted = probe_model.predicted_counts(batch.labels, probe_model.expose(batch.counts, batch.positions))
    wave = np.fft.fft2(batch.labels.numpy(), norm="ortho") * 10 / N
    assert np.allclose(predicted.numpy(), np.abs(wave) ** 2, rtol=1e-4, atol=1e-4)


def test_labels_need_a_truth() -> None:
    blind = replace(make_scan(name="blind"), truth=None)
    make_dataset(make_scan(), blind)
    with pytest.raises(
        InputError,
        match=r"^blind: has no true object.*supervision='physics' \(--supervision physics\)",
    ):
        make_dataset(make_scan(), blind, labels=True)


def test_jitter_moves_the_positions_alone() -> None:
    scan = make_scan()
    still, moved = (make_dataset(scan, labels=True, jitter=jitter)[0, ROWS, 5] for jitter in (0.0, 2.0))
    assert torch.equal(still.counts, moved.counts)
    assert still.labels is not None
    assert moved.labels is not None
    assert torch.equal(still.labels, moved.labels)
    assert (still.positions != moved.positions).all()


def test_jitter_is_decided_by_seed_epoch_scan_and_group() -> None:
    scan = make_scan()

    def moves(rows: list[int], *, which: int = 0, epoch: int = 5, seed: int = 3, jitter: float = 1.0) -> np.ndarray:
        batch = make_dataset(scan, scan, jitter=jitter, seed=seed)[which, np.array(rows), epoch]
        return batch.positions - scan.positions[batch.members]

    first = moves([2, 0])
    assert np.array_equal(first, moves([2, 0]))
    # A group is moved the same in whatever batch it comes, so that the number of processes does not matter.
    assert np.allclose(first[::-1], moves([0, 2]))
    assert np.allclose(first[:1], moves([2]))
    assert np.allclose(2.5 * first, moves([2, 0], jitter=2.5))
    for other in (moves([2, 0], which=1), moves([2, 0], epoch=6), moves([2, 0], seed=4), moves([1, 1])):
        assert not np.isclose(first, other).any()


def test_jitter_is_gaussian_and_cut() -> None:
    scan = make_scan(4000)
    batch = make_dataset(scan, jitter=0.5)[0, np.arange(1000), 0]
    moves = batch.positions - scan.positions[batch.members]
    assert moves.std() == pytest.approx(0.5, rel=0.03)
    assert abs(moves.mean()) < 0.02
    assert np.abs(moves).max() == pytest.approx(0.5 * MAX_DEVIATIONS)
    assert abs(np.corrcoef(moves[:, 0, 0], moves[:, 1, 0])[0, 1]) < 0.1


def test_withheld_photons_are_independent_of_the_rest() -> None:
    scan = make_scan(400)
    rows = np.arange(100)
    whole, parted = (make_dataset(scan, withheld=share)[0, rows, 0] for share in (0.0, 0.2))
    assert whole.target is None
    assert parted.target is not None
    seen, result = parted.counts * 0.8, parted.target * 0.2
    torch.testing.assert_close(seen + result, whole.counts)
    assert torch.equal(result.round(), result.round().clamp(min=0))
    assert float(result.mean()) == pytest.approx(0.2 * 5, rel=0.02)
    # The parts of Poisson counts are independent, with the variance of Poisson counts.
    correlation = np.corrcoef(seen.flatten(), result.flatten())[0, 1]
    assert abs(correlation) < 4 / np.sqrt(seen.numel())
    assert float(result.var()) == pytest.approx(float(result.mean()), rel=0.03)


def test_withheld_photons_are_decided_by_seed_epoch_scan_and_group() -> None:
    def drawn(rows: list[int], epoch: int, seed: int = 0) -> torch.Tensor:
        target = make_dataset(make_scan(), seed=seed, withheld=0.5)[0, np.array(rows), epoch].target
        assert target is not None
        return target

    assert torch.equal(drawn([2, 0], 3), drawn([2, 0], 3))
    assert torch.equal(drawn([2, 0], 3)[:1], drawn([2], 3))
    assert not torch.equal(drawn([2], 3), drawn([2], 4))
    assert not torch.equal(drawn([2], 3), drawn([2], 3, seed=1))


@pytest.mark.parametrize("scale", [0.37, 1e5])
def test_nothing_is_withheld_from_non_integer_or_high_counts(scale: float) -> None:
    """Values that are not photon counts, and counts so high that noise does not matter."""
    scan = make_scan()
    other = replace(scan, counts=(scan.counts * scale).astype(np.float32))
    assert make_dataset(other, withheld=0.2)[0, ROWS, 0].target is None


def test_a_batch_moves_to_a_device_whole() -> None:
    scan = make_scan()
    batch = make_dataset(replace(scan, mask=scan.counts > 2), labels=True)[0, ROWS, 0].to("meta")
    assert all(
        tensor is not None and tensor.device.type == "meta" for tensor in (batch.counts, batch.valid, batch.labels)
    )
    assert isinstance(batch.positions, np.ndarray)


def keys(sampler: GroupSampler) -> list[tuple[int, tuple[int, ...], int]]:
    """The sampler's keys, as what can be compared."""
    return [(scan, tuple(rows.tolist()), epoch) for scan, rows, epoch in sampler]


@settings(deadline=None, max_examples=60)
@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    per_batch=st.integers(1, 9),
    world=st.integers(1, 5),
    shuffle=st.booleans(),
    seed=st.integers(0, 5),
)
def test_each_group_comes_once_and_processes_share_each_batch(
    counts: list[int], per_batch: int, world: int, shuffle: bool, seed: int
) -> None:
    samplers = [
        GroupSampler(counts, per_batch, shuffle=shuffle, seed=seed, rank=rank, world=world) for rank in range(world)
    ]
    shares = [keys(sampler) for sampler in samplers]
    whole = keys(GroupSampler(counts, per_batch, shuffle=shuffle, seed=seed))
    assert {len(share) for share in shares} == {len(whole)} == {len(samplers[0])}
    for scan, count in enumerate(counts):
        rows = [rows for which, rows, _ in whole if which == scan]
        assert sorted(sum(rows, ())) == list(range(count))
        assert sorted(map(len, rows), reverse=True)[:-1] == [per_batch] * (-(-count // per_batch) - 1)
    # The processes share each batch of a single one: nobody is left without groups, and none is used twice for nothing.
    for batch, *parts in zip(whole, *shares, strict=True):
        assert {(scan, epoch) for scan, _, epoch in parts} == {(batch[0], batch[2])}
        sizes = [len(rows) for _, rows, _ in parts]
        assert set().union(*(rows for _, rows, _ in parts)) == set(batch[1])
        assert sum(sizes) == max(world, len(batch[1]))
        assert max(sizes) - min(sizes) <= 1 <= min(sizes)


def test_the_order_is_decided_by_seed_and_epoch() -> None:
    def order(seed: int, epoch: int, *, shuffle: bool = True) -> list[tuple[int, tuple[int, ...]]]:
        sampler = GroupSampler([20, 30], 4, shuffle=shuffle, seed=seed)
        sampler.set_epoch(epoch)
        found = keys(sampler)
        assert {key[2] for key in found} == {epoch}
        assert found == keys(sampler)
        return [key[:2] for key in found]

    assert order(1, 2) == order(1, 2)
    assert len({tuple(order(*which)) for which in ((1, 2), (1, 3), (2, 2))}) == 3
    assert order(1, 2, shuffle=False) == order(2, 3, shuffle=False)
    assert sum((rows for scan, rows in order(0, 0, shuffle=False) if scan == 1), ()) == tuple(range(30))
    # Batches of different scans are mixed.
    scans = [scan for scan, _ in order(1, 2)]
    assert scans != sorted(scans)


def same(one: GroupBatch, other: GroupBatch) -> bool:
    return (
        one.scan == other.scan
        and torch.equal(one.counts, other.counts)
        and np.array_equal(one.positions, other.positions)
        and np.array_equal(one.members, other.members)
    )


@pytest.mark.parametrize("stream", [True, False])
def test_workers_give_the_same_batches_as_the_main_process(tmp_path: Path, stream: bool) -> None:
    scan = make_scan()
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file["diff3d"], (file["ycoords"], file["xcoords"]) = scan.counts, scan.positions.T
        file["_metadata"] = '{"domain": "counts"}'
    patterns = open_patterns(path, stream=stream)
    # Read here first: what this process opened is of no use to its workers.
    patterns.read(np.arange(3))
    groups = Groups(np.arange(12).reshape(3, 4), np.arange(12))
    dataset = GroupDataset([patterns], [groups], labels=False, jitter=1.0, seed=0)
    sampler = GroupSampler([3], 2, shuffle=True, seed=0)
    loaders = [make_loader(dataset, sampler, workers) for workers in (0, 2)]
    assert [len(loader) for loader in loaders] == [2, 2]
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        here, there = (list(loader) for loader in loaders)
        expected = [dataset[key] for key in sampler]
        assert all(map(same, here, expected))
        assert all(map(same, there, expected))


_PEAKS = """
import sys
import numpy as np
import torch
from diptych.ptycho.neural.data.dataset import GroupDataset, GroupSampler, make_loader
from diptych.ptycho.neural.data.neighbours import Groups
from diptych.ptycho.neural.data.hdf5 import open_patterns

torch.set_num_threads(1)

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))

def epoch(patterns):
    groups = Groups(np.random.default_rng(0).permutation(len(patterns)).reshape(-1, 4), np.arange(len(patterns)))
    dataset = GroupDataset([patterns], [groups], labels=False, jitter=0.1, seed=0)
    sampler = GroupSampler([len(groups.members)], 16, shuffle=True, seed=0)
    return sum(len(batch.members) for batch in make_loader(dataset, sampler, 0))

stream = sys.argv[1] == "stream"
for path in sys.argv[2:]:
    patterns = open_patterns(path, stream=stream)
    opened = peak()
    epoch(patterns)
    print(opened, peak())
"""

on_linux = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the peak memory of a process is read from /proc, which Linux has"
)


def peaks(folder: Path, *, stream: bool) -> list[tuple[float, float]]:
    """Peak memory (MB) of one process after opening, and after an epoch of, scans of 1000 and then 4000 patterns of 8
    kB."""
    rng = np.random.default_rng(0)
    paths = [folder / f"{patterns}.{'h5' if stream else 'npz'}" for patterns in (1000, 4000)]
    for path, patterns in zip(paths, (1000, 4000), strict=True):
        counts = np.broadcast_to(rng.poisson(3.0, (64, 64)).astype(np.uint16), (patterns, 64, 64))
        y, x = rng.uniform(50, 300, (2, patterns))
        arrays = {"diff3d": counts, "ycoords": y, "xcoords": x, "_metadata": np.asarray('{"domain": "counts"}')}
        if stream:
            with h5py.File(path, "w") as file:
                for key, value in arrays.items():
                    file[key] = str(value) if key == "_metadata" else value
        else:
            np.savez(path, **arrays)
    command = [sys.executable, "-c", _PEAKS, "stream" if stream else "load", *map(str, paths)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [(float(opened), float(after)) for opened, after in map(str.split, out.splitlines())]


@on_linux
def test_a_streamed_scan_takes_no_memory_by_its_length(tmp_path: Path) -> None:
    (_, short), (_, long) = peaks(tmp_path, stream=True)
    # The patterns of the long one are 33 MB, and 66 MB as float32.
    assert long - short < 10


@on_linux
def test_a_loaded_scan_takes_no_more_than_its_counts(tmp_path: Path) -> None:
    _, (opened, after) = peaks(tmp_path, stream=False)
    # As float32 the counts would be another 66 MB.
    assert after - opened < 10


def test_a_dataset_costs_nothing_before_it_is_read() -> None:
    class Untouched(ScanPatterns):
        def read(self, indices: object) -> object:  # type: ignore[override]
            raise AssertionError("read before a batch was asked for")

    scan = make_scan(2000)
    patterns = Untouched(scan)
    groups = Groups(np.arange(2000).reshape(-1, 4), np.arange(2000))
    tracemalloc.start()
    dataset = GroupDataset([patterns], [groups], labels=True, jitter=1.0, seed=0)
    cost, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert cost < 2**20
    key: Key = (0, ROWS, 0)
    with pytest.raises(AssertionError, match="read before"):
        dataset[key]
