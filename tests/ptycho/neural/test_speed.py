"""Time of the stages of an inference."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

import diptych
from diptych.ptycho.networks import build_network
from diptych.ptycho.neural.clock import Clock
from diptych.ptycho.neural.model import Model
from diptych.ptycho.neural.options import TrainingOptions
from diptych.ptycho.neural.speed import STAGES, measure_speed
from diptych.runtime.device import ExecutionOptions

CPU = ExecutionOptions(device="cpu", threads=1)


@pytest.fixture(scope="module")
def scan() -> diptych.Scan:
    return diptych.simulate(size=32, patterns=64, step=4.0, dose=1e5, seed=0)


def untrained(scan: diptych.Scan, passes: int, width: int = 4) -> Model:
    options = TrainingOptions.build({"passes": passes, "width": width}, origin="test")
    assert scan.probe is not None
    torch.manual_seed(0)
    return Model(build_network(32, 1.0, options), options, 32, 1.0, {}, np.asarray(scan.probe, np.complex64))


def test_a_clock_adds_up_what_a_stage_takes_each_time() -> None:
    clock = Clock()
    for _ in range(3):
        with clock.stage("outer"):
            time.sleep(0.01)
            with pytest.raises(ZeroDivisionError), clock.stage("inner"):
                _ = 1 / 0
    assert clock.seconds["outer"] >= 0.03
    assert 0 < clock.seconds["inner"] < clock.seconds["outer"]
    # Sleeping takes no time of the processor.
    assert clock.cpu_seconds["outer"] < clock.seconds["outer"]


def test_shares_of_all_stages_make_up_the_whole_and_the_image_is_the_same(scan: diptych.Scan) -> None:
    model = untrained(scan, 2)
    found = measure_speed(model, scan, canvas_passes=2, execution=CPU)
    assert tuple(found.shares) == STAGES
    assert sum(found.shares.values()) == pytest.approx(1)
    assert min(found.shares.values()) > 0
    assert found.patterns_per_second > 0
    plain = model.reconstruct(scan, execution=CPU, canvas_passes=2)
    assert np.array_equal(plain.object.values, found.result.object.values)
    assert set(plain.provenance["seconds_of_stages"]) == {"network", "stitching", "canvas"}
    assert sum(plain.provenance["seconds_of_stages"].values()) < plain.provenance["seconds"]
    # Nothing is left on the network that would slow it down or keep the clock.
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in model.network.modules())


def test_a_share_grows_with_its_work(scan: diptych.Scan) -> None:
    without, with_canvas = (measure_speed(untrained(scan, 1), scan, canvas_passes=n, execution=CPU) for n in (0, 12))
    assert without.shares["canvas"] == 0 < with_canvas.shares["canvas"]
    # The plain network of the literature has no physics at its entrance.
    wide = measure_speed(untrained(scan, 0, width=32), scan, execution=CPU)
    assert wide.shares["layers"] > without.shares["layers"]
