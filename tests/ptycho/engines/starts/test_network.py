"""Starting from a network's image: never worse than flat, sooner there when the image is good, and the record says what
happened."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

import diptych
import small_runs
from diptych.errors import InputError
from diptych.ptycho.engines import automatic
from diptych.ptycho.engines.base import FINAL_STAGE
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.ptycho.engines.problem import make_problem
from diptych.ptycho.engines.starts.initial import copy_overlap
from diptych.ptycho.engines.starts.network import hide_held_out
from diptych.ptycho.networks import build_network
from diptych.ptycho.neural.model import Model
from diptych.ptycho.neural.options import InferenceOptions, TrainingOptions
from diptych.ptycho.reconstruct import Interrupted, reconstruct
from diptych.ptycho.scan import Canvas, Reconstruction, Scan
from diptych.runtime.progress import Progress
from small_runs import CPU, Image, StandIn, same, stop_after

START = InferenceOptions(network_result="start")
"""The engine only starts from the network's image."""


def simulated(**changes: Any) -> Any:
    """A scan of 64 patterns of 32 x 32 at sub-pixel positions, made once per kind."""
    return small_runs.simulated(**{"integer": False, **changes})


def smooth(shape: tuple[int, ...], sigma: float = 6.0) -> NDArray[np.float64]:
    values = gaussian_filter(np.random.default_rng(0).normal(size=shape), sigma)
    return np.asarray(values / values.std())


def noisy(error: float) -> Callable[[Image], Image]:
    """A slow phase error and as much noise."""

    def change(truth: Image) -> Image:
        rng = np.random.default_rng(1)
        noise = (rng.normal(size=truth.shape) + 1j * rng.normal(size=truth.shape)) / np.sqrt(2)
        return truth * np.exp(0.7j * error * smooth(truth.shape)) + error * noise

    return change


def random_phases(truth: Image) -> Image:
    return np.exp(1j * np.random.default_rng(2).uniform(-3, 3, truth.shape))


def half_wrong(truth: Image) -> Image:
    wrong = np.exp(1j * smooth(truth.shape, 4))
    return np.where(np.arange(truth.shape[1]) < truth.shape[1] // 2, truth, wrong)


GOOD = {
    "5 %": noisy(0.05),
    "20 %": noisy(0.2),
    "out of gauge": lambda t: 2.5j * t * np.exp(0.15j * np.arange(t.shape[1])),
}
BAD: dict[str, Callable[[Image], Image]] = {
    "random": random_phases,
    "half wrong": half_wrong,
    "conjugate": np.conj,
    "shifted": lambda t: np.roll(t, (3, 2), (0, 1)),
    "slow phases": lambda t: np.exp(1j * smooth(t.shape, 4)),
    "zero": np.zeros_like,
    "not finite": lambda t: np.where(np.arange(t.size).reshape(t.shape) == t.size // 2 + t.shape[1] // 2, np.nan, t),
    "nothing seen": np.ones_like,
}


def solve(scan: Scan, change: Callable[[Image], Image] | None = None, **options: Any) -> Reconstruction:
    assert scan.truth is not None
    return reconstruct(scan, None if change is None else StandIn(scan.truth, change), execution=CPU, **options)


def error(result: Reconstruction, scan: Scan) -> float:
    return float(diptych.evaluate(result, truth=scan.truth)["complex_error"])


def epochs_to(result: Reconstruction, fit: float) -> int:
    return int(np.argmax(np.array(result.history["held_out_fit"]) <= fit)) + 1


def random_scan(seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return diptych.simulate(
        object=str(rng.choice(["dead-leaves", "natural", "blocks"])),
        size=32,
        patterns=int(rng.integers(48, 65)),
        step=float(rng.uniform(3, 5)),
        integer=bool(rng.integers(2)),
        dose=[1e3, 1e4, 1e5, 1e6, 1e8][seed % 5],
        probe_error=[0.0, 0.3, 1.0][seed % 3],
        seed=seed,
    )


# What matters: never worse, and sooner.


@pytest.mark.parametrize(
    "seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.integration) for seed in range(4, 20))]
)
def test_no_start_makes_the_result_worse(seed: int) -> None:
    scan = random_scan(seed)
    flat = error(solve(scan, epochs=50), scan)
    for kinds in (GOOD, BAD):
        name = list(kinds)[seed // 2 % len(kinds)]
        assert error(solve(scan, kinds[name], epochs=50), scan) <= 1.05 * flat, name


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20, 40))
def test_no_start_makes_the_finished_result_worse(seed: int) -> None:
    scan = random_scan(seed)
    flat = error(solve(scan), scan)
    for name, change in {**GOOD, **BAD}.items():
        assert error(solve(scan, change), scan) <= 1.05 * flat, name


@pytest.mark.parametrize("dose", [pytest.param(1e4, marks=pytest.mark.integration), 1e5, 1e6])
def test_a_good_start_needs_a_third_of_the_epochs(dose: float) -> None:
    scan = simulated(dose=dose)
    flat = solve(scan, epochs=60)
    level = 1.2 * flat.history["held_out_fit"][-1]
    helped = solve(scan, noisy(0.05), epochs=60)
    assert helped.provenance["start"]["object"] == "network"
    assert 3 * epochs_to(helped, level) <= epochs_to(flat, level)


def test_a_good_start_is_taken_under_a_wrong_probe_too() -> None:
    scan = simulated(probe_error=1.0)
    flat, helped = solve(scan, epochs=60), solve(scan, noisy(0.1), epochs=60)
    record = helped.provenance["start"]
    assert record["object"] == "network"
    assert record["network_trial_fit"] < 0.5 * record["flat_trial_fit"]
    assert epochs_to(helped, 2.0) < epochs_to(flat, 2.0)


@pytest.mark.parametrize("kind", ["random", "half wrong", "zero", "not finite"])
def test_without_a_good_start_all_is_as_without_a_network(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    scan = simulated()
    with caplog.at_level(logging.INFO, "diptych"):
        result = solve(scan, BAD[kind], epochs=25)
    assert same(result, solve(scan, epochs=25))
    record = result.provenance["start"]
    assert record["object"] == "flat"
    assert record["flat_fit"] > 10
    assert (record["network_fit"] is None) == (kind in ("zero", "not finite"))
    assert "rejected as initial guess" in caplog.text
    json.dumps(record, allow_nan=False)


def test_scale_phase_and_ramp_of_the_networks_image_do_not_matter() -> None:
    scan = simulated()
    plain, turned = solve(scan, lambda t: t, epochs=1), solve(scan, GOOD["out of gauge"], epochs=1)
    for result in (plain, turned):
        assert result.provenance["start"]["object"] == "network"
    assert turned.provenance["start"]["network_fit"] < 2 * plain.provenance["start"]["network_fit"]


def test_a_start_at_the_noise_goes_to_the_likelihood_at_once() -> None:
    assert solve(simulated(dose=1e4), noisy(0.05), epochs=3).history["stage"] == [3.0, 3.0, 3.0]
    assert solve(simulated(), noisy(0.2), epochs=3).history["stage"] == [0.0, 0.0, 0.0]


def test_masked_pixels_do_not_enter_what_stands_for_the_held_out_ones() -> None:
    scan = simulated()
    mask = np.random.default_rng(0).random(scan.counts.shape) < 0.9
    network = StandIn(scan.truth, lambda truth: truth)
    reconstruct(
        replace(scan, counts=np.where(mask, scan.counts, 1e6), mask=mask), model=network, epochs=1, execution=CPU
    )
    assert network.shown[0].counts[mask].max() <= scan.counts[mask].max()


def test_a_held_out_pixel_at_the_edge_is_no_neighbour_of_its_own() -> None:
    scan = simulated()
    chosen = ReconstructionOptions()
    problem = make_problem(
        scan, device=torch.device("cpu"), double=False, subpixel=True, held_out=chosen.held_out, seed=chosen.seed
    )
    held, size = problem.held.numpy(), scan.counts.shape[-1]
    pattern = np.broadcast_to(np.arange(len(held))[:, None], held.shape)
    y, x = np.divmod(held, size)
    assert ((y == 0) | (x == 0) | (y == size - 1) | (x == size - 1)).any()
    bright = scan.counts.copy()
    bright[pattern, y, x] += 1000
    # Held-out pixels that are neighbours of one another may show in each other, but not in themselves.
    alone = np.array(
        [
            [np.abs(y[i] - a).astype(int) + np.abs(x[i] - b) for a, b in zip(y[i], x[i], strict=True)]
            for i in range(len(y))
        ]
    )
    alone = (alone == 1).sum(axis=2) == 0
    first, second = (
        hide_held_out(replace(scan, counts=counts), problem)[pattern, y, x] for counts in (scan.counts, bright)
    )
    np.testing.assert_array_equal(first[alone], second[alone])


def test_a_start_that_pie_makes_worse_is_gone_back_to(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # As where a model that lacks something fits the data badly: PIE is driven about by its batches, the likelihood is
    # not.
    monkeypatch.setattr(automatic, "STAGNATED_FIT", 0.0)
    with caplog.at_level(logging.INFO, "diptych"):
        result = solve(simulated(), lambda truth: truth, engine="auto", epochs=8)
    assert "does not improve" in caplog.text
    assert result.history["stage"][: automatic.REFINEMENT_TRIAL + 1] == [0.0] * automatic.REFINEMENT_TRIAL + [
        float(FINAL_STAGE)
    ]
    assert result.history["fit"][automatic.REFINEMENT_TRIAL] < min(result.history["fit"][: automatic.REFINEMENT_TRIAL])


def test_the_network_does_not_see_the_held_out_pixels() -> None:
    scan = simulated()
    network = StandIn(scan.truth, lambda truth: truth)
    reconstruct(scan, model=network, epochs=1, inference=START, execution=CPU)
    (shown,) = network.shown
    chosen = ReconstructionOptions()
    held = make_problem(
        scan, device=torch.device("cpu"), double=False, subpixel=True, held_out=chosen.held_out, seed=chosen.seed
    ).held.numpy()
    pattern = np.arange(len(scan.counts))[:, None]
    differs = (shown.counts != scan.counts).reshape(len(scan.counts), -1)
    untouched = differs.copy()
    untouched[pattern, held] = False
    assert not untouched.any()
    # A count may equal the mean of its neighbours by chance, mostly where all are zero.
    bright = scan.counts.reshape(len(scan.counts), -1)[pattern, held] > 50
    assert bright.any()
    assert differs[pattern, held][bright].mean() > 0.95


def brought(scan: Scan, probe: NDArray[np.complex64], **options: Any) -> Reconstruction:
    """Started by a network that was trained with a probe, and is right to 5 %."""
    assert scan.truth is not None
    return reconstruct(scan, StandIn(scan.truth, noisy(0.05), probe=probe), execution=CPU, **options)


@pytest.mark.integration
def test_the_probe_of_the_networks_training_is_taken_where_it_is_the_better_one() -> None:
    scan = simulated(probe_error=1.0)
    true = simulated().probe
    flat, plain, helped = solve(scan), solve(scan, noisy(0.05)), brought(scan, true)
    record = helped.provenance["start"]
    assert (record["object"], record["probe"]) == ("network", "network")
    assert record["network_fit"] == record["fit_network_probe"] < 0.2 * record["fit_scan_probe"]
    assert "probe" not in plain.provenance["start"]
    level = 1.05 * flat.history["held_out_fit"][-1]
    assert 2 * epochs_to(helped, level) < epochs_to(plain, level) <= epochs_to(flat, level)
    assert error(helped, scan) <= 1.05 * error(flat, scan)


def test_the_probe_of_another_instrument_is_left_alone() -> None:
    scan = replace(simulated(), probe_calibrated=False)
    other = simulated(probe_error=1.0).probe
    record = brought(scan, other, epochs=3).provenance["start"]
    assert (record["object"], record["probe"]) == ("network", "scan")
    assert record["network_fit"] == record["fit_scan_probe"]
    assert same(brought(scan, other, epochs=3), solve(scan, noisy(0.05), epochs=3))


def test_a_flat_start_after_all_has_the_scans_own_probe() -> None:
    scan = simulated(probe_error=1.0)
    assert scan.truth is not None
    network = StandIn(scan.truth, random_phases, probe=simulated().probe)
    result = reconstruct(scan, network, epochs=5, execution=CPU)
    assert result.provenance["start"]["object"] == "flat"
    assert result.provenance["start"].get("probe") == "scan"
    assert same(result, solve(scan, epochs=5))


@pytest.mark.parametrize("kept", ["fixed", "calibrated", "same", "modes"])
def test_a_probe_that_is_to_be_kept_is_not_exchanged(kept: str) -> None:
    scan = simulated(probe_error=1.0)
    probe = {"same": 3j * scan.probe, "modes": simulated(modes=2).probe}.get(kept, simulated().probe)
    scan = replace(scan, probe_calibrated=kept == "calibrated")
    assert scan.truth is not None
    network = StandIn(scan.truth, noisy(0.05), probe=probe)
    result = reconstruct(
        scan, network, epochs=1, probe="fixed" if kept == "fixed" else "refine", inference=START, execution=CPU
    )
    assert len(network.shown) == 1
    assert "probe" not in result.provenance["start"]


@pytest.mark.parametrize("engine", ["rpie", "epie", "dm", "raar"])
def test_every_engine_starts_from_it(engine: str) -> None:
    scan = simulated()
    helped, flat = solve(scan, noisy(0.05), engine=engine, epochs=2), solve(scan, engine=engine, epochs=2)
    assert helped.history["fit"][0] < 0.1 * flat.history["fit"][0]
    assert same(solve(scan, random_phases, engine=engine, epochs=2), flat)


def test_modes_masks_background_and_a_fixed_probe() -> None:
    for scan, options in (
        (simulated(modes=2), {}),
        (simulated(), {"modes": 2}),
        (simulated(dead=0.05, beam_stop=1.5), {}),
        (simulated(background=1.0), {}),
        (simulated(), {"probe": "fixed"}),
        (simulated(), {"held_out": 0.0}),
    ):
        assert solve(scan, noisy(0.05), epochs=2, **options).provenance["start"]["object"] == "network"


# The pieces.


def test_the_start_is_one_where_the_network_saw_nothing() -> None:
    image = copy_overlap(Canvas(np.full((4, 5), 2 + 1j), (-2, 3)), torch.ones(4, 6, dtype=torch.complex64), (0, 0))
    expected = np.ones((4, 6), complex)
    expected[:2, 3:] = 2 + 1j
    np.testing.assert_array_equal(image.numpy(), expected)
    assert torch.equal(
        copy_overlap(Canvas(np.full((4, 5), 2 + 1j), (50, 3)), torch.ones(4, 6), (0, 0)), torch.ones(4, 6)
    )


def test_stagnation_is_left_for_a_flat_object(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With limits at which PIE counts as stagnated from the network's image, and only from there."""
    monkeypatch.setattr(automatic, "STAGNATED_FIT", 0.0)
    answers = iter([True])
    monkeypatch.setattr(automatic, "stagnated", lambda report: next(answers, False))
    scan = simulated()
    with caplog.at_level(logging.INFO, "diptych"):
        stagnated, flat = solve(scan, noisy(0.2), epochs=60), solve(scan, epochs=60)
    assert "stagnated" in caplog.text
    fits = np.array(stagnated.history["fit"])
    lost = int(np.argmax(np.diff(fits))) + 1
    assert 4 <= lost <= 40
    assert fits[lost] > 20 * fits[lost - 1], "the object is flat again"
    assert error(stagnated, scan) < 1.05 * error(flat, scan)


def test_the_network_sees_the_scan_with_the_probe_that_the_engine_gets() -> None:
    scan = simulated()
    model = StandIn(scan.truth, lambda t: t)
    result = reconstruct(
        replace(scan, probe=None, probe_calibrated=False),
        model,
        probe="estimate",
        epochs=1,
        inference=START,
        execution=CPU,
    )
    assert "estimated" in result.provenance["probe_start"]
    (seen,) = model.shown
    assert seen.probe is not None
    assert not seen.probe_calibrated
    assert seen.truth is None


def test_a_model_or_its_file_and_its_progress(tmp_path: Path) -> None:
    scan = simulated()
    options = TrainingOptions(width=4, passes=1)
    model = Model(build_network(32, 1.0, options), options, 32, 1.0, {}, scan.probe)
    seen: list[Progress] = []
    result = reconstruct(scan, model, progress=seen.append, epochs=2, inference=START, execution=CPU)
    assert seen[0].stage == "network"
    assert [report.stage for report in seen][-2:] == ["ml", "ml"]
    assert result.provenance["start"]["model"] == model.digest
    assert same(
        result, reconstruct(scan, model.save(tmp_path / "m.safetensors"), epochs=2, inference=START, execution=CPU)
    )


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    scan = simulated()
    with pytest.raises(InputError, match="only one initial object"):
        solve(scan, noisy(0.1), start="first.h5")
    with pytest.raises(InputError, match=r"none\.safetensors: does not exist"):
        reconstruct(scan, tmp_path / "none.safetensors")
    with pytest.raises(InputError, match="model is a int; expected a trained Model"):
        reconstruct(scan, 3)  # type: ignore[arg-type]


# Going on.


@pytest.mark.integration
@pytest.mark.parametrize("kind", ["20 %", "conjugate"])
@pytest.mark.parametrize("cut", [2, 16])
def test_a_resumed_run_is_the_uninterrupted_one_and_asks_no_network(kind: str, cut: int, tmp_path: Path) -> None:
    scan = simulated()
    change = {**GOOD, **BAD}[kind]
    whole = solve(scan, change, inference=START, epochs=24)
    path = tmp_path / "c.npz"
    with pytest.raises(Interrupted):
        solve(scan, change, inference=START, epochs=24, checkpoint=path, progress=stop_after(cut))
    model = StandIn(scan.truth, change)
    resumed = reconstruct(scan, model, epochs=24, checkpoint=path, resume=True, inference=START, execution=CPU)
    assert same(resumed, whole)
    assert resumed.provenance["start"] == whole.provenance["start"]
    assert model.shown == []


def test_a_run_is_not_resumed_with_another_network_or_none(tmp_path: Path) -> None:
    scan = simulated()
    path = tmp_path / "c.npz"
    solve(scan, noisy(0.1), epochs=2, checkpoint=path)
    for other in (StandIn(scan.truth, noisy(0.1), "another"), None):
        with pytest.raises(InputError, match="model = stand-in"):
            reconstruct(scan, other, epochs=4, checkpoint=path, resume=True, execution=CPU)
