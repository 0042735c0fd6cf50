"""Ctrl-C and going on: the best state is returned, and a resumed run is the uninterrupted one, bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diptych.errors import InputError
from diptych.ptycho.engines.fit_monitor import FitMeter
from diptych.ptycho.reconstruct import Interrupted
from diptych.ptycho.scan import Scan
from diptych.runtime.progress import Progress
from small_runs import ENGINES, same, simulated, solve, stop_after


@pytest.mark.parametrize("engine", ["auto", *ENGINES])
def test_ctrl_c_gives_the_best_state_so_far(engine: str, tmp_path: Path) -> None:
    scan = simulated()
    with pytest.raises(KeyboardInterrupt) as caught:
        solve(scan, engine=engine, progress=stop_after(4), checkpoint=tmp_path / "c.npz")
    assert isinstance(caught.value, Interrupted)
    result = caught.value.result
    assert result.provenance["epochs"] == 4
    assert any("interrupted" in flag for flag in result.flags)
    assert (tmp_path / "c.npz").exists()
    assert np.array_equal(result.object.values, solve(scan, engine=engine, epochs=4).object.values)


@pytest.mark.parametrize("engine", ["rpie", "dm", "ml"])
def test_ctrl_c_inside_an_epoch_gives_the_last_whole_one(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    count_to = {"rpie": 40, "dm": 5, "ml": 70}[engine]

    def interrupted(original: Any) -> Any:
        def method(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == count_to:
                raise KeyboardInterrupt
            return original(*arguments)

        return method

    # Each batch's expected counts are collected, whether it is processed in one compiled call or in steps.
    for name in ("add", "storage"):
        monkeypatch.setattr(FitMeter, name, interrupted(getattr(FitMeter, name)))
    scan = simulated()
    with pytest.raises(KeyboardInterrupt) as caught:
        solve(scan, engine=engine)
    monkeypatch.undo()
    assert isinstance(caught.value, Interrupted)
    result = caught.value.result
    assert result.provenance["epochs"] >= 1
    assert np.array_equal(
        result.object.values, solve(scan, engine=engine, epochs=result.provenance["epochs"]).object.values
    )


@pytest.mark.parametrize(
    ("engine", "cuts"),
    [
        pytest.param("rpie", [3, 9], marks=pytest.mark.integration),
        ("epie", [2]),
        pytest.param("dm", [2, 9], marks=pytest.mark.integration),
        ("raar", [5]),
        ("ml", []),
    ],
)
def test_a_resumed_run_is_the_uninterrupted_one(engine: str, cuts: list[int], tmp_path: Path) -> None:
    """Bit for bit; the maximum-likelihood engine is cut before, at, and after its change of stage."""
    scan = simulated(integer=False, probe_error=0.3, dose=1e4)
    epochs = 5 if engine == "epie" else 45
    whole = solve(scan, engine=engine, epochs=epochs)
    if engine == "ml":
        first = whole.history["stage"].index(3.0)
        cuts = [4, first - 1, first, first + 1, first + 12]
    for epoch in cuts:
        path = tmp_path / f"{epoch}.npz"
        with pytest.raises(KeyboardInterrupt):
            solve(scan, engine=engine, epochs=epochs, progress=stop_after(epoch), checkpoint=path)
        resumed = solve(scan, engine=engine, epochs=epochs, checkpoint=path, resume=True)
        assert same(resumed, whole), f"cut after epoch {epoch}"
        assert resumed.provenance["stop_reason"] == whole.provenance["stop_reason"]


def test_a_finished_run_may_be_resumed_for_more_epochs(tmp_path: Path) -> None:
    scan = simulated()
    path = tmp_path / "c.npz"
    solve(scan, engine="rpie", epochs=5, checkpoint=path)
    more = solve(scan, engine="rpie", epochs=9, checkpoint=path, resume=True)
    assert same(more, solve(scan, engine="rpie", epochs=9))


def test_resume_without_a_checkpoint_file_starts_afresh(tmp_path: Path) -> None:
    scan = simulated()
    assert same(
        solve(scan, engine="rpie", epochs=2, checkpoint=tmp_path / "new.npz", resume=True),
        solve(scan, engine="rpie", epochs=2),
    )


def _other_positions(scan: Scan) -> Scan:
    return replace(scan, positions=-scan.positions, truth=None)


def _wider_positions(scan: Scan) -> Scan:
    return replace(scan, positions=1.5 * scan.positions, truth=None)


def _reordered(scan: Scan) -> Scan:
    return replace(scan, counts=np.ascontiguousarray(scan.counts[::-1]))


def _turned(scan: Scan) -> Scan:
    return replace(scan, counts=np.ascontiguousarray(scan.counts.transpose(0, 2, 1)))


def _masked(scan: Scan) -> Scan:
    mask = np.ones((scan.size, scan.size), bool)
    mask[np.unravel_index(int(scan.counts.sum(0).argmin()), mask.shape)] = False
    return replace(scan, mask=mask)


def _brighter(scan: Scan) -> Scan:
    return replace(scan, counts=scan.counts + np.uint16(1))


@pytest.mark.parametrize("other", [_other_positions, _wider_positions, _reordered, _turned, _masked, _brighter])
def test_a_checkpoint_of_another_scan_is_refused(other: Callable[[Scan], Scan], tmp_path: Path) -> None:
    scan = simulated()
    solve(scan, engine="rpie", epochs=2, checkpoint=tmp_path / "c.npz")
    with pytest.raises(InputError, match=r"c\.npz"):
        solve(other(scan), engine="rpie", epochs=4, checkpoint=tmp_path / "c.npz", resume=True)


@pytest.mark.parametrize(
    "change", [{"engine": "dm"}, {"modes": 2}, {"seed": 1}, {"probe": "fixed"}, {"held_out": 0.05}]
)
def test_a_checkpoint_of_other_options_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    scan = simulated()
    solve(scan, engine="rpie", epochs=2, checkpoint=tmp_path / "c.npz")
    with pytest.raises(InputError, match=next(iter(change))):
        solve(scan, **{"engine": "rpie", "epochs": 4, **change}, checkpoint=tmp_path / "c.npz", resume=True)


def test_a_checkpoint_that_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    seen: list[Progress] = []
    with pytest.raises(InputError, match="nowhere"):
        solve(simulated(), engine="rpie", epochs=2, checkpoint=tmp_path / "nowhere" / "c.npz", progress=seen.append)
    assert not seen


ENDED = """
import signal, sys
import diptych
from diptych.ptycho.engines.pie import Pie

signal.signal(signal.SIGTERM, signal.SIG_DFL)
scan = diptych.simulate(object="blocks", size=16, patterns=36, step=2.0, dose=1e4, seed=0)
epoch, done = Pie.epoch, []

def ended(engine):
    done.append(1)
    if len(done) == 3:
        signal.raise_signal(signal.SIGTERM)
    return epoch(engine)

Pie.epoch = ended
diptych.reconstruct(scan, engine="rpie", epochs=50, checkpoint=sys.argv[1])
"""


@pytest.mark.skipif(os.name == "nt", reason="no signals")
def test_a_sigterm_that_ends_the_process_leaves_every_epoch_in_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    done = subprocess.run([sys.executable, "-c", ENDED, str(path)], timeout=120, check=False)
    assert done.returncode == -signal.SIGTERM
    with np.load(path) as state:
        assert state["history_epoch"].tolist() == [1, 2, 3]
