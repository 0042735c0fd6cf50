"""The runner, with an engine made up for it: history, best state, interruption and checkpoints."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from diptych.errors import InputError
from diptych.ptycho.engines.checkpoint import Run, load_checkpoint, save_checkpoint
from diptych.ptycho.engines.run import run_engine
from diptych.runtime.interrupts import stop_if_asked
from diptych.runtime.progress import Progress
from small_runs import simulated, solve

CPU = torch.device("cpu")


class Walk:
    """Reports a given course of the held-out fit; its image holds the number of epochs, plus noise drawn from the
    generator."""

    def __init__(
        self, course: list[float], rng: np.random.Generator, patience: int | None = 8, stages: list[float] | None = None
    ) -> None:
        self.course, self.rng, self.patience, self.stages = course, rng, patience, stages
        self.image, self.probe = torch.zeros(3, 4, dtype=torch.complex64), torch.zeros(1, 2, 2, dtype=torch.complex64)
        self.done, self.drawn, self.settled = 0, 0.0, ""

    def epoch(self) -> dict[str, float]:
        value = self.course[self.done]
        self.done += 1
        self.drawn = float(self.rng.random())
        self.image = torch.full((3, 4), self.done + 0j)
        row = {"fit": value / 2, "held_out_fit": value, "drawn": self.drawn}
        return row if self.stages is None else {**row, "stage": self.stages[self.done - 1]}

    def snapshot(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.image, self.probe

    def state(self) -> dict[str, torch.Tensor]:
        return {"image": self.image, "done": torch.tensor(self.done)}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        self.image, self.done = state["image"].clone(), int(state["done"])


def test_history_has_a_row_per_epoch() -> None:
    rng = np.random.default_rng(0)
    run = run_engine(Walk([4.0, 3.0, 2.0], rng), Run(), epochs=3, stop=True, rng=rng, stage="walk")
    assert run.history["epoch"] == [1, 2, 3]
    assert run.history["held_out_fit"] == [4.0, 3.0, 2.0]
    assert run.history["fit"] == [2.0, 1.5, 1.0]
    assert run.history["seconds"] == sorted(run.history["seconds"])
    assert run.reason == "all 3 epochs done"
    assert not run.interrupted


@pytest.mark.parametrize("stop", [True, False])
def test_the_best_state_is_kept_whether_or_not_the_rule_is_heard(stop: bool) -> None:
    course = [9.0, 5.0, 2.0, *(3.0 + 0.1 * i for i in range(20))]
    rng = np.random.default_rng(0)
    run = run_engine(Walk(course, rng), Run(), epochs=len(course), stop=stop, rng=rng, stage="walk")
    assert run.best is not None
    assert run.best_epoch == 3
    assert float(run.best[0][0, 0].real) == 3
    assert run.epochs == (11 if stop else len(course))


def test_a_settled_engine_is_heard_unless_told_otherwise() -> None:
    for stop, epochs in ((True, 0), (False, 4)):
        rng = np.random.default_rng(0)
        walk = Walk([5.0] * 4, rng, patience=None)
        walk.settled = "there"
        assert run_engine(walk, Run(), epochs=4, stop=stop, rng=rng, stage="walk").epochs == epochs


def test_opening_stages_are_not_judged() -> None:
    """A fit that is better in an opening stage neither counts as the best nor makes the last stage look worse."""
    rng = np.random.default_rng(0)
    walk = Walk([9.0, 1.0, 6.0, 5.0, 4.0], rng, stages=[0.0, 0.0, 3.0, 3.0, 3.0])
    run = run_engine(walk, Run(), epochs=5, stop=True, rng=rng, stage="walk")
    assert run.best_epoch == 5


def test_a_far_better_state_of_a_stage_that_was_returned_to_is_kept() -> None:
    """While positions are refined, after the last stage: a run that ends there does not lose what it gained."""
    rng = np.random.default_rng(0)
    stages = [0.0, 3.0, 3.0, 2.0, 2.0, 2.0, 2.0, 3.0]
    course = [900.0, 800.0, 700.0, 600.0, 300.0, 20.0, 25.0, 30.0]
    for epochs, best in ((4, 3), (5, 5), (6, 6), (7, 6), (8, 8)):
        run = run_engine(Walk(course, rng, stages=stages), Run(), epochs=epochs, stop=False, rng=rng, stage="walk")
        assert run.best_epoch == best, epochs
        assert run.best is not None
        assert run.best[0][0, 0] == best


def test_a_state_of_a_refinement_that_was_given_up_is_not_kept() -> None:
    rng = np.random.default_rng(0)
    course, stages = [900.0, 800.0, 700.0, 20.0, 710.0, 705.0], [0.0, 3.0, 3.0, 2.0, 3.0, 3.0]
    for epochs, best in ((4, 4), (5, 5)):
        run = run_engine(Walk(course, rng, stages=stages), Run(), epochs=epochs, stop=False, rng=rng, stage="walk")
        assert run.best_epoch == best


def test_columns_that_appear_late_are_filled_up() -> None:
    rng = np.random.default_rng(0)
    walk = Walk([3.0, 2.0, 1.0], rng)
    rows = iter(
        [
            {"fit": 1.0, "held_out_fit": 3.0},
            {"fit": 1.0, "held_out_fit": 2.0, "loss": 7.0},
            {"fit": 1.0, "held_out_fit": 1.0},
        ]
    )
    walk.epoch = lambda: next(rows)  # type: ignore[method-assign]
    run = run_engine(walk, Run(), epochs=3, stop=False, rng=rng, stage="walk")
    np.testing.assert_array_equal(run.history["loss"], [np.nan, 7.0, np.nan])


def test_ctrl_c_keeps_the_best_state_and_writes_the_checkpoint(tmp_path: Path) -> None:
    def stop_at_4(report: Progress) -> None:
        assert report.total == 9
        if report.done == 4:
            raise KeyboardInterrupt

    rng = np.random.default_rng(0)
    run = run_engine(
        Walk([5.0, 2.0, 4.0, 4.0, 1.0], rng),
        Run(),
        epochs=9,
        stop=True,
        rng=rng,
        stage="walk",
        progress=stop_at_4,
        checkpoint=tmp_path / "c.npz",
    )
    assert run.interrupted
    assert "interrupted after 4 epochs" in run.reason
    assert run.best is not None
    assert float(run.best[0][0, 0].real) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["c.npz"], "no temporary file may stay"


def test_ctrl_c_inside_an_epoch_leaves_whole_rows() -> None:
    rng = np.random.default_rng(0)
    walk = Walk([5.0, 2.0], rng)
    whole = walk.epoch

    def epoch() -> dict[str, float]:
        if walk.done == 2:
            raise KeyboardInterrupt
        return whole()

    walk.epoch = epoch  # type: ignore[method-assign]
    run = run_engine(walk, Run(), epochs=9, stop=True, rng=rng, stage="walk")
    assert run.interrupted
    assert {len(column) for column in run.history.values()} == {2}


def test_a_cancel_token_ends_the_run_as_ctrl_c_does(tmp_path: Path) -> None:
    class Token:
        requested = False

    def cancel_at_3(report: Progress) -> None:
        token.requested = report.done == 3

    rng, token = np.random.default_rng(0), Token()
    run = run_engine(
        Walk([5.0, 2.0, 4.0, 4.0, 1.0], rng),
        Run(),
        epochs=5,
        stop=True,
        rng=rng,
        stage="walk",
        progress=cancel_at_3,
        checkpoint=tmp_path / "c.npz",
        cancel=token,
    )
    assert (run.interrupted, run.epochs, run.best_epoch) == (True, 3, 2)
    assert load_checkpoint(tmp_path / "c.npz", Walk([], rng), rng, {}, CPU).epochs == 3


def test_long_trials_in_an_epoch_end_at_a_signal_or_a_cancellation() -> None:
    class Token:
        requested = False

    def run_until(asks: Callable[[], None]) -> Run:
        walk = Walk([5.0, 2.0], rng)
        whole = walk.epoch

        def epoch() -> dict[str, float]:
            report = whole()
            if walk.done == 2:
                asks()
                for _ in range(3):
                    stop_if_asked()
                raise AssertionError("the trials went on")
            return report

        walk.epoch = epoch  # type: ignore[method-assign]
        return run_engine(walk, Run(), epochs=9, stop=True, rng=rng, stage="walk", cancel=token)

    rng, token = np.random.default_rng(0), Token()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    run = run_until(lambda: signal.raise_signal(signal.SIGINT))
    signal.signal(signal.SIGINT, before)
    assert (run.interrupted, run.epochs, run.reason) == (True, 1, "interrupted after 1 epochs")
    run = run_until(lambda: setattr(token, "requested", True))
    assert (run.interrupted, run.epochs, run.reason) == (True, 1, "cancelled after 1 epochs")


def test_previews_are_small_images_of_the_current_state() -> None:
    rng, seen = np.random.default_rng(0), []

    def show(report: Progress) -> None:
        assert report.preview is not None
        seen.append(report.preview())

    run_engine(Walk([2.0, 1.0], rng), Run(), epochs=2, stop=False, rng=rng, stage="walk", progress=show)
    assert [float(each.amplitude[0, 0]) for each in seen] == [1.0, 2.0]
    assert {each.phase.shape for each in seen} == {(3, 4)}
    assert {each.probe.shape for each in seen} == {(2, 2)}


def test_ctrl_c_before_the_first_epoch_ends_gives_the_start() -> None:
    rng = np.random.default_rng(0)
    walk = Walk([], rng)
    walk.epoch = lambda: (_ for _ in ()).throw(KeyboardInterrupt())  # type: ignore[method-assign]
    run = run_engine(walk, Run(), epochs=9, stop=True, rng=rng, stage="walk")
    assert run.interrupted
    assert run.best is not None


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    """Same rows, same draws, same best, same stop; the rule remembers what came before."""
    course = [9.0, 5.0, 2.0, *(3.0 + 0.1 * i for i in range(20))]
    rng = np.random.default_rng(1)
    whole = run_engine(Walk(course, rng), Run(), epochs=20, stop=True, rng=rng, stage="walk")
    for cut_at in (1, 3, 7):
        rng, path = np.random.default_rng(1), tmp_path / f"{cut_at}.npz"
        run_engine(
            Walk(course, rng),
            Run(),
            epochs=cut_at,
            stop=True,
            rng=rng,
            stage="walk",
            checkpoint=path,
            identity={"a": 1},
        )
        rng = np.random.default_rng(99)
        walk = Walk(course, rng)
        run = load_checkpoint(path, walk, rng, {"a": 1}, CPU)
        assert run.epochs == cut_at
        run_engine(walk, run, epochs=20, stop=True, rng=rng, stage="walk")
        for name in ("epoch", "fit", "held_out_fit", "drawn"):
            assert run.history[name] == whole.history[name]
        assert run.history["seconds"] == sorted(run.history["seconds"])
        assert (run.best_epoch, run.reason) == (whole.best_epoch, whole.reason)
        assert run.best is not None
        assert whole.best is not None
        assert torch.equal(run.best[0], whole.best[0])


@pytest.fixture
def written(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    run_engine(
        Walk([4.0] * 3, rng),
        Run(),
        epochs=3,
        stop=False,
        rng=rng,
        stage="walk",
        checkpoint=tmp_path / "c.npz",
        identity={"engine": "walk"},
    )
    return tmp_path / "c.npz"


@pytest.mark.parametrize("identity", [{"engine": "dm"}, {"engine": "walk", "size": 64}])
def test_a_checkpoint_of_another_run_is_refused(written: Path, identity: dict[str, object]) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match=r"c\.npz: was written with .*; expected"):
        load_checkpoint(written, Walk([], rng), rng, identity, CPU)


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[data.find(b"best_image") + 200] ^= 0xFF
    path.write_bytes(bytes(data))


def _text(path: Path) -> None:
    path.write_text("not a checkpoint")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _single_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def _other_npz(path: Path) -> None:
    np.savez(path, counts=np.zeros((2, 4, 4)))


def _meta_without_identity(path: Path) -> None:
    np.savez(path, meta=np.array("{}"))


def _meta_not_a_mapping(path: Path) -> None:
    np.savez(path, meta=np.array("[1, 2]"))


def _state_missing(path: Path) -> None:
    with np.load(path) as file:
        kept = {name: file[name] for name in file.files if name != "engine_done"}
    np.savez(path, **kept)


@pytest.mark.parametrize(
    "spoil",
    [
        _truncated,
        _flipped,
        _text,
        _empty,
        _single_array,
        _other_npz,
        _meta_without_identity,
        _meta_not_a_mapping,
        _state_missing,
    ],
)
def test_a_file_that_is_no_whole_checkpoint_is_refused(written: Path, spoil: object) -> None:
    spoil(written)  # type: ignore[operator]
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match=r"c\.npz.*checkpoint"):
        load_checkpoint(written, Walk([], rng), rng, {"engine": "walk"}, CPU)


def test_a_checkpoint_replaces_the_one_before_at_once(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A save that dies half-way leaves the old checkpoint readable."""
    rng = np.random.default_rng(0)

    def dies(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", dies)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(written, Walk([], rng), Run(), rng, {})
    monkeypatch.undo()
    assert load_checkpoint(written, Walk([], rng), rng, {"engine": "walk"}, CPU).epochs == 3


def test_an_engine_that_diverges_stops_and_its_last_usable_state_is_kept():
    made = simulated(object="blocks", size=16, patterns=25, step=3.0, dose=1e7, probe_error=0.5, seed=0, integer=False)
    result = solve(made, alpha=0.02, step=1.0, momentum=0.99, epochs=60, likelihood="poisson")
    about = result.provenance
    assert about["stop_reason"].startswith("diverged: the fit of epoch")
    assert about["epochs"] < 60
    assert np.isfinite(result.object.values).all()
    assert about["fit"] < 100 * np.nanmin(result.history["fit"])
    assert any("the engine diverged" in flag and "smaller step" in flag for flag in result.flags)
