"""The network's image as the result: kept where held-out pixels confirm it, and never to the result's harm."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import diptych
from diptych.ptycho.engines.starts import network_result
from diptych.ptycho.neural.options import InferenceOptions
from diptych.ptycho.reconstruct import Interrupted, reconstruct
from diptych.ptycho.scan import Reconstruction, Scan
from diptych.runtime.progress import Progress
from small_runs import CPU, Image, StandIn, same


def wrong(error: float) -> Callable[[Image], Image]:
    def change(truth: Image) -> Image:
        rng = np.random.default_rng(1)
        return truth + error * (rng.normal(size=truth.shape) + 1j * rng.normal(size=truth.shape)) / np.sqrt(2)

    return change


@functools.cache
def scan_of(dose: float = 1e4, step: float = 7.0, seed: int = 0, **more: Any) -> Scan:
    """Few photons and little overlap: the engine's image has an error of some 10 %."""
    return diptych.simulate(object="dead-leaves", size=32, patterns=64, step=step, dose=dose, seed=seed, **more)


def solve(scan: Scan, change: Callable[[Image], Image] | None, **options: Any) -> Reconstruction:
    assert scan.truth is not None
    network = None if change is None else StandIn(scan.truth, change)
    return reconstruct(scan, network, execution=CPU, **{"epochs": 12, "probe": "fixed", **options})


def error(result: Reconstruction, scan: Scan) -> float:
    return float(diptych.evaluate(result, truth=scan.truth, gauge="phase")["complex_error"])


def test_a_right_image_is_kept_where_photons_are_few(caplog: pytest.LogCaptureFixture) -> None:
    scan = scan_of()
    alone = solve(scan, None)
    with caplog.at_level(logging.INFO, "diptych"):
        result = solve(scan, wrong(0.02))
    assert error(result, scan) < 0.5 * error(alone, scan)
    found = result.provenance["network_result"]
    assert found["kept"] == "network"
    assert found["difference"] >= network_result.CLEAR * found["standard_error"]
    assert found["network"] < found["engine"]
    assert f"network kept: held-out deviance {found['network']:.4g} with the network's image" in caplog.text
    assert any(flag.startswith("network: the object is the trained network's image") for flag in result.flags)
    assert result.provenance["held_out_fit"] < alone.provenance["held_out_fit"]
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    "change",
    [
        wrong(0.4),
        pytest.param(np.conj, marks=pytest.mark.integration),
        pytest.param(np.ones_like, marks=pytest.mark.integration),
    ],
    ids=["noise", "conjugate", "flat"],
)
def test_a_wrong_image_leaves_the_engines_result(change: Callable[[Image], Image]) -> None:
    scan = scan_of()
    result = solve(scan, change)
    assert result.provenance["network_result"]["kept"] == "engine"
    if result.provenance["start"]["object"] == "flat":
        assert same(result, solve(scan, None))
    assert error(result, scan) <= 1.02 * error(solve(scan, None), scan)


def test_many_photons_need_no_network() -> None:
    scan = scan_of(1e7, 4.0)
    result = solve(scan, wrong(0.02), probe="refine")
    assert result.provenance["network_result"]["kept"] == "engine"
    assert result.provenance["network_result"]["runs"] == 1
    assert error(result, scan) < 0.015


def test_the_option_leaves_the_image_to_the_engine() -> None:
    scan = scan_of()
    result = solve(scan, wrong(0.02), inference=InferenceOptions(network_result="start"))
    assert "network_result" not in result.provenance
    assert error(result, scan) > 1.5 * error(solve(scan, wrong(0.02)), scan)


def test_without_held_out_pixels_nothing_is_decided() -> None:
    found = solve(scan_of(), wrong(0.02), held_out=0.0, epochs=3).provenance["network_result"]
    assert found["kept"] == "engine"
    assert "no pixels are held out" in found["why"]


@pytest.mark.integration
def test_refined_probes_frame_factors_and_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_result, "CHECKS", 0)
    monkeypatch.setattr(network_result, "CLEAR", 0.5)
    for scan, options in (
        (scan_of(), {"probe": "refine"}),
        (scan_of(modes=2), {"probe": "refine"}),
        (scan_of(), {"frame_factors": "on"}),
        (scan_of(dead=0.05, background=0.1), {}),
        (scan_of(), {"correct_positions": "on"}),
    ):
        result = solve(scan, wrong(0.01), **options)
        assert result.provenance["network_result"]["kept"] == "network", options
        assert error(result, scan) < 0.05, options


@pytest.mark.integration
def test_where_few_pixels_do_not_tell_the_engine_is_run_again() -> None:
    scan, stages = scan_of(), set[str]()
    result = solve(scan, wrong(0.09), progress=lambda report: stages.add(report.stage))
    assert result.provenance["network_result"]["runs"] > 1
    assert any(stage.endswith(", repeated") for stage in stages)


@pytest.mark.integration
def test_a_repeated_run_can_be_interrupted() -> None:
    def stop(report: Progress) -> None:
        if report.stage.endswith(", repeated"):
            raise KeyboardInterrupt

    scan = scan_of()
    with pytest.raises(Interrupted) as caught:
        solve(scan, wrong(0.09), progress=stop)
    assert error(caught.value.result, scan) <= 1.01 * error(solve(scan, None), scan)


@pytest.mark.integration
def test_a_start_is_left_where_the_counts_do_not_decide() -> None:
    """Steps beyond the probe: what the engine ends at depends on its start, and the one it was given was wrong."""
    scan = scan_of(1e5, 9.0)
    flat, result = solve(scan, None), solve(scan, wrong(0.5))
    found = result.provenance
    assert found["network_result"]["kept"] == "engine"
    assert error(result, scan) <= 1.02 * error(flat, scan)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 9))
@pytest.mark.parametrize("dose", [1e2, 1e3, 1e4, 1e5])
def test_no_network_makes_the_result_worse(dose: float, seed: int) -> None:
    scan = scan_of(dose, [3.0, 5.0, 7.0, 9.0][seed % 4], seed)
    alone = error(solve(scan, None, epochs=None), scan)
    for change in (wrong(0.03), wrong(0.1), wrong(0.3), np.conj, np.ones_like):
        assert error(solve(scan, change, epochs=None), scan) <= 1.1 * alone
