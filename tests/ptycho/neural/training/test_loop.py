"""Training: it learns, it is reproducible, and an interrupted or killed run resumes to the same result."""

from __future__ import annotations

import csv
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import diptych
from diptych.errors import InputError, UnavailableError
from diptych.ptycho.networks import build_network
from diptych.ptycho.neural.data.patterns import ScanPatterns
from diptych.ptycho.neural.data.preparation import _stream, input_scale, prepare_scans
from diptych.ptycho.neural.model import Model, load_model
from diptych.ptycho.neural.options import TrainerOptions, TrainingOptions
from diptych.ptycho.neural.probe_model import ProbeModel
from diptych.ptycho.neural.training import callbacks, schedules
from diptych.ptycho.neural.training import loop as training
from diptych.ptycho.train import TrainingInterrupted, train
from diptych.runtime.progress import Progress

PLAIN = TrainerOptions(device="cpu", threads=1, pictures=False, logger="none", deterministic=True)
SMALL: dict[str, Any] = {"width": 4, "passes": 1, "epochs": 4, "warmup": 3, "n_groups": 24, "jitter": 0.2}


@pytest.fixture(scope="module")
def scan() -> diptych.Scan:
    """100 patterns of 32 x 32."""
    return diptych.simulate(object="dead-leaves", size=32, patterns=100, step=4.0, dose=1e5, seed=1)


@pytest.fixture(scope="module")
def whole(scan: diptych.Scan) -> Model:
    """The model of an uninterrupted run with the small options."""
    return train(scan, trainer=PLAIN, **SMALL)


def weights(model: Model) -> dict[str, torch.Tensor]:
    return {**model.network.state_dict(), "probe": torch.from_numpy(model.probe)}


def same(first: Model, second: Model) -> bool:
    a, b = weights(first), weights(second)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def history(run: Path) -> dict[str, list[float]]:
    rows = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    return {name: [float(row[name]) for row in rows] for name in rows[0]}


def test_training_explains_patterns_that_it_has_not_seen(scan: diptych.Scan, tmp_path: Path) -> None:
    model = train(scan, None, tmp_path / "run", trainer=PLAIN, width=8, passes=1, epochs=8, batch=16, warmup=3)
    info = history(tmp_path / "run")
    assert info["epoch"] == list(range(1, 9))
    assert info["validation_loss"][-1] < 0.9 * info["validation_loss"][0]
    assert info["loss"][-1] < info["loss"][0]
    torch.manual_seed(0)
    fresh = Model(build_network(32, model.scale, model.options), model.options, 32, model.scale, {}, model.probe)
    other = diptych.simulate(object="dead-leaves", size=32, patterns=100, step=4.0, dose=1e5, seed=2)
    # Without passes over the whole scan, which would bring any image near the counts.
    images = [each.reconstruct(other, canvas_passes=0) for each in (model, fresh)]
    errors = [diptych.evaluate(image, truth=other.truth)["complex_error"] for image in images]
    assert errors[0] < 0.9 * errors[1]


def test_a_run_leaves_model_history_indices_and_figure(scan: diptych.Scan, tmp_path: Path) -> None:
    run = tmp_path / "deep" / "run"
    model = train(scan, TrainingOptions(**SMALL), run, trainer=PLAIN, n_subsample=30, epochs=3)
    assert {path.name for path in run.iterdir()} == {
        *("model.safetensors", "metrics.csv", "subsample_indices.json", "training.png", "checkpoints"),
    }
    loaded = load_model(run / "model.safetensors")
    assert same(loaded, model)
    # Not only the same numbers: in the same order in memory, so that every sum is rounded alike.
    images = [each.reconstruct(scan).object.values for each in (model, loaded)]
    np.testing.assert_array_equal(*images)
    assert set(history(run)) == {"epoch", "seconds", "loss", "validation_loss", "learning_rate", "grad_norm"}
    assert model.statistics["validation_loss"] == pytest.approx(min(history(run)["validation_loss"]))
    drawn = json.loads((run / "subsample_indices.json").read_text())["scans"][0]
    assert len(drawn["subsample"]) == 30
    assert set(drawn["subsample"]) <= set(drawn["train"])
    assert not set(drawn["train"]) & set(drawn["validation"])
    # Training patterns do not illuminate the validation region.
    between = np.linalg.norm(
        scan.positions[drawn["train"]][:, None] - scan.positions[drawn["validation"]][None], axis=-1
    )
    assert between.min() >= 10
    with pytest.raises(
        InputError, match=r"holds an earlier training run.*another folder, or continue the run with resume=True"
    ):
        train(scan, None, run, trainer=PLAIN, **SMALL)


def test_the_seed_decides_everything_and_nothing_else_does(scan: diptych.Scan, whole: Model) -> None:
    torch.manual_seed(987)
    assert same(train(scan, trainer=PLAIN, **SMALL), whole)
    assert not same(train(scan, trainer=PLAIN, seed=1, **SMALL), whole)
    assert same(train(scan, trainer=PLAIN.with_changes(workers=1), **SMALL), whole)


def test_nothing_of_the_caller_is_changed(scan: diptych.Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)

    def state() -> tuple[Any, ...]:
        return (
            torch.get_rng_state().tolist(),
            np.random.get_state()[1].tolist(),  # noqa: NPY002 (the global one is what matters here)
            (torch.are_deterministic_algorithms_enabled(), torch.get_num_threads(), torch.is_grad_enabled()),
            (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)),
            [logging.getLogger(name).level for name in callbacks.SILENCED_LOGGERS],
            os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
            sorted(tmp_path.iterdir()),
        )

    with torch.no_grad():
        before = state()
        train(scan, trainer=PLAIN.with_changes(threads=2), **{**SMALL, "epochs": 1, "n_groups": 8})
        assert state() == before


def stopper(after: int) -> Any:
    """A progress callback that stops the training after some updates."""

    def tell(progress: Progress) -> None:
        if progress.done >= after:
            raise KeyboardInterrupt

    return tell


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"schedule": "plateau", "probe": "refine", "learning_rate": 0.03, "epochs": 6},
        pytest.param({"patience": 1, "learning_rate": 0.1, "epochs": 6}, marks=pytest.mark.integration),
    ],
)
def test_an_interrupted_run_resumes_to_the_same_result(
    changes: dict[str, Any], scan: diptych.Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that there are plateaus in a few epochs.
    monkeypatch.setattr(schedules, "PLATEAU_PATIENCE", 0)
    options = TrainingOptions(**{**SMALL, **changes})
    full = train(scan, options, tmp_path / "full", trainer=PLAIN)
    rates = history(tmp_path / "full")["learning_rate"]
    if options.schedule == "plateau":
        assert rates[-2] < rates[0]
    updates = 3 * (len(rates) - 1) + 1
    with pytest.raises(TrainingInterrupted) as caught:
        train(scan, options, tmp_path / "parts", stopper(updates), trainer=PLAIN)
    best = caught.value.model
    assert best.provenance["stop_reason"] == "interrupted"
    assert same(load_model(tmp_path / "parts" / "model.safetensors"), best)
    again = train(scan, options, tmp_path / "parts", trainer=PLAIN.with_changes(workers=1), resume=True)
    assert same(again, full)
    for name in ("loss", "validation_loss", "learning_rate", "grad_norm"):
        assert history(tmp_path / "parts")[name] == history(tmp_path / "full")[name]
    # Resuming a finished run does not train further.
    assert same(train(scan, options, tmp_path / "parts", trainer=PLAIN, resume=True), full)


def test_patience_stops_early_and_the_best_weights_are_kept(scan: diptych.Scan, tmp_path: Path) -> None:
    # With a rate this high the loss fluctuates.
    model = train(
        scan,
        None,
        tmp_path / "run",
        trainer=PLAIN,
        **{**SMALL, "learning_rate": 0.1, "patience": 1, "epochs": 8, "warmup": 0},
    )
    losses = history(tmp_path / "run")["validation_loss"]
    assert len(losses) < 8
    assert losses[-1] >= losses[-2]
    assert model.provenance["best_epoch"] == int(np.argmin(losses)) + 1
    assert model.provenance["stop_reason"] == f"no lower validation loss since epoch {np.argmin(losses) + 1}"


KILLED = """
import sys, diptych
from diptych.ptycho.neural.options import TrainerOptions
from diptych.ptycho.train import train
if __name__ == "__main__":
    scan = diptych.simulate(object="dead-leaves", size=32, patterns=100, step=4.0, dose=1e5, seed=1)
    plain = TrainerOptions(device="cpu", threads=1, pictures=False, logger="none", deterministic=True)
    train(scan, None, sys.argv[1], trainer=plain, width=4, passes=1, epochs=400, warmup=3, n_groups=24, jitter=0.2)
"""


@pytest.mark.integration
def test_a_killed_run_leaves_a_whole_checkpoint_and_goes_on(scan: diptych.Scan, tmp_path: Path) -> None:
    """Killed at a random moment, the state on disk is that of an uninterrupted run at the same epoch, bit for bit."""
    run = tmp_path / "run"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(run)], env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        deadline = time.monotonic() + 60
        while not ((run / "metrics.csv").exists() and len(history(run)["epoch"]) >= 2):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(float(np.random.default_rng().uniform(0, 0.5)))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    options = TrainingOptions(**{**SMALL, "epochs": 400})
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    done = len(saved["callbacks"]["CheckpointCallback"]["history"]["epoch"])
    assert done >= 2

    def until(folder: Path, epochs: int, **more: Any) -> dict[str, Any]:
        with pytest.raises(TrainingInterrupted):
            train(scan, options, folder, stopper(3 * epochs + 1), trainer=PLAIN, **more)
        return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]

    resumed, whole = until(run, done + 2, resume=True), until(tmp_path / "whole", done + 2)
    assert history(run)["loss"] == history(tmp_path / "whole")["loss"]
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_a_run_is_resumed_with_its_own_options_and_scans_only(scan: diptych.Scan, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = {**SMALL, "epochs": 1}
    train(scan, None, run, trainer=PLAIN, **options)
    with pytest.raises(
        InputError,
        match=r"last.ckpt: was written with tv = 0.0, now 0.5; epochs = 1, now 5; expected the same options",
    ):
        train(scan, None, run, trainer=PLAIN, resume=True, **{**options, "epochs": 5, "tv": 0.5})
    other = replace(scan, counts=scan.counts + 1)
    with pytest.raises(InputError, match=r"last.ckpt: was written with other scans"):
        train(other, None, run, trainer=PLAIN, resume=True, **options)
    checkpoint = run / "checkpoints" / "last.ckpt"
    data = checkpoint.read_bytes()
    checkpoint.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"last.ckpt: cannot be resumed .*Train again without resuming"):
        train(scan, None, run, trainer=PLAIN, resume=True, **options)


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("sprung"),)


def test_a_checkpoint_runs_no_code(scan: diptych.Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    for write in (
        lambda: torch.save({"callbacks": Trap()}, checkpoint),
        lambda: checkpoint.write_bytes(pickle.dumps(Trap())),
    ):
        write()
        with pytest.raises(InputError, match="cannot be resumed"):
            train(scan, None, tmp_path / "run", trainer=PLAIN, resume=True, **SMALL)
    assert not Path("sprung").exists()


def test_ctrl_c_ends_after_the_batch_and_a_second_one_at_once(scan: diptych.Scan) -> None:
    before = signal.getsignal(signal.SIGINT)
    updates = []

    def once(progress: Progress) -> None:
        updates.append(progress.done)
        if progress.done == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(TrainingInterrupted) as caught:
        train(scan, progress=once, trainer=PLAIN, **SMALL)
    assert updates == [1, 2]
    assert caught.value.model.provenance["epochs"] == 0
    assert signal.getsignal(signal.SIGINT) is before

    def twice(progress: Progress) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    # Never SystemExit, which would end the program of whoever called.
    with pytest.raises(KeyboardInterrupt):
        train(scan, progress=twice, trainer=PLAIN, **SMALL)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(("number", "last"), [(signal.SIGTERM, False), (signal.SIGINT, True)])
def test_a_signal_between_two_epochs_is_not_lost(
    scan: diptych.Scan, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, last: bool
) -> None:
    """Lightning answers a SIGTERM that comes after the last batch of an epoch with SystemExit, which is exit code 0."""
    epoch_end = callbacks.DiagnosticsCallback.on_train_epoch_end

    def and_signal(self: Any, trainer: Any, module: Any) -> None:
        epoch_end(self, trainer, module)
        if trainer.current_epoch == (1 if last else 0):
            signal.raise_signal(number)

    monkeypatch.setattr(callbacks.DiagnosticsCallback, "on_train_epoch_end", and_signal)
    with pytest.raises(TrainingInterrupted) as caught:
        train(scan, trainer=PLAIN, **SMALL | {"epochs": 2})
    found = caught.value.model.provenance
    assert (found["epochs"], found["stop_reason"]) == (2 if last else 1, "interrupted")


class Cancel:
    """A cancel token that is set after some updates."""

    requested = False


def test_a_cancel_token_ends_training_after_the_batch(scan: diptych.Scan, tmp_path: Path) -> None:
    cancel, updates = Cancel(), []

    def note(progress: Progress) -> None:
        updates.append(progress.done)
        # 24 groups of 4 in batches of 32 patterns: the second update of the second epoch.
        cancel.requested = progress.done == 5

    run = tmp_path / "run"
    with pytest.raises(TrainingInterrupted) as caught:
        train(scan, None, run, note, trainer=PLAIN, cancel=cancel, **SMALL)
    assert updates == [1, 2, 3, 4, 5]
    assert caught.value.model.provenance["stop_reason"] == "interrupted"
    assert caught.value.model.provenance["epochs"] == 1
    assert same(load_model(run / "model.safetensors"), caught.value.model)
    whole = train(scan, trainer=PLAIN, **SMALL)
    assert same(train(scan, None, run, trainer=PLAIN, resume=True, cancel=Cancel(), **SMALL), whole)


def test_progress_counts_updates(scan: diptych.Scan) -> None:
    info: list[Progress] = []
    train(scan, progress=info.append, trainer=PLAIN, **{**SMALL, "epochs": 2, "accumulate": 2})
    # 24 groups of 4 in batches of 32 patterns are 3 batches, of which the first two make an update and the last
    # another.
    assert [(each.stage, each.done, each.total) for each in info] == [("train", done, 4) for done in (1, 2, 3, 4)]
    assert "loss" in info[0].values
    assert "validation_loss" in info[-1].values


def module_on(scan: diptych.Scan, options: TrainingOptions) -> tuple[Any, Any]:
    """A module, and the datamodule of its batches."""
    from diptych.ptycho.neural.training.lightning_module import GroupDataModule

    prepared = prepare_scans([scan], options, PLAIN, None)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return training._make_module(prepared, options, torch.device("cpu")), GroupDataModule(prepared, options, 0)


def fitted(scan: diptych.Scan, batches: list[list[int]], accumulate: int) -> dict[str, torch.Tensor]:
    import lightning
    from torch.utils.data import DataLoader

    options = TrainingOptions(
        **{**SMALL, "jitter": 0.0, "clip": 0.01, "epochs": 1, "warmup": 0, "schedule": "constant"}
    )
    module, data = module_on(scan, options)
    loader = DataLoader(data.training_set, batch_size=None, sampler=[(0, np.array(rows), 0) for rows in batches])
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=1,
        accumulate_grad_batches=accumulate,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader)
    assert trainer.global_step == 2
    return {name: value.clone() for name, value in module.state_dict().items()} | {
        "norm": trainer.callback_metrics["grad_norm"]
    }


def test_accumulated_batches_are_one_larger_batch(scan: diptych.Scan) -> None:
    # Equal halves, because a batch is weighed by its own mean count.
    parts = fitted(scan, [[0, 1, 2, 3], [3, 2, 1, 0], [4, 5, 6, 7], [7, 6, 5, 4]], 2)
    whole = fitted(scan, [[0, 1, 2, 3, 0, 1, 2, 3], [4, 5, 6, 7, 4, 5, 6, 7]], 1)
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-3, atol=2e-5)


def test_mixed_precision_leaves_the_physics_in_32_bits(
    scan: diptych.Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diptych.ptycho.networks import passes
    from diptych.ptycho.neural.training import loss

    seen: dict[str, set[torch.dtype]] = {}

    def watched(name: str, function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            tensors = [each for each in (*args, result) if isinstance(each, torch.Tensor) and each.dtype != torch.bool]
            seen.setdefault(name, set()).update(each.dtype for each in tensors)
            return result

        return call

    monkeypatch.setattr(passes, "modulus_correction", watched("modulus", passes.modulus_correction))
    monkeypatch.setattr(loss, "data_loss", watched("loss", loss.data_loss))
    monkeypatch.setattr(torch.nn.Conv2d, "forward", watched("convolution", torch.nn.Conv2d.forward))
    train(
        scan,
        None,
        tmp_path / "run",
        trainer=PLAIN.with_changes(precision="bf16-mixed", deterministic=False),
        **{**SMALL, "passes": 2},
    )
    info = history(tmp_path / "run")
    assert np.isfinite(info["loss"]).all()
    assert info["loss"][-1] < info["loss"][0]
    assert seen["modulus"] <= {torch.float32, torch.complex64}
    assert seen["loss"] <= {torch.float32}
    assert torch.bfloat16 in seen["convolution"]


def test_labels_train_the_baseline_and_need_a_truth(scan: diptych.Scan, tmp_path: Path) -> None:
    options = {**SMALL, "supervision": "labels", "gridsize": 1}
    train(scan, None, tmp_path / "run", trainer=PLAIN, **options)
    info = history(tmp_path / "run")
    assert info["validation_loss"][-1] < info["validation_loss"][0]
    with pytest.raises(InputError, match="has no true object, which supervision by labels needs"):
        train(replace(scan, truth=None), trainer=PLAIN, **options)


def test_several_scans_are_learned_together_each_with_its_own_probe(scan: diptych.Scan, tmp_path: Path) -> None:
    # Ten times the photons, and no background in the first.
    other = diptych.simulate(object="blocks", size=32, patterns=100, step=4.0, dose=1e6, seed=4)
    path = diptych.save(other, tmp_path / "other.npz")
    model = train([scan, path], trainer=PLAIN, **SMALL)
    assert [each["groups"] for each in model.statistics["scans"]] == [24, 24]
    np.testing.assert_allclose((np.abs(model.probe) ** 2).sum(), ProbeModel.of(ScanPatterns(scan)).power, rtol=1e-4)


def test_the_input_scale_is_one_over_the_rms_of_the_scaled_amplitudes(scan: diptych.Scan) -> None:
    flat = replace(scan, counts=np.full(scan.counts.shape, 7, np.uint16))
    options = TrainingOptions(**SMALL)
    prepared = prepare_scans([flat], options, PLAIN, None)
    probe_model = ProbeModel.of(prepared[0].patterns)
    assert input_scale(prepared, [probe_model], 0) == pytest.approx((probe_model.power / 7) ** 0.5, rel=1e-6)
    mask = np.ones((32, 32), bool)
    mask[:16] = False
    prepared = prepare_scans([replace(flat, mask=mask)], options, PLAIN, None)
    assert input_scale(prepared, [probe_model], 0) == pytest.approx((probe_model.power / 7) ** 0.5, rel=1e-6)


def hdf5(scan: diptych.Scan, path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["diff3d"], file["probeGuess"] = scan.counts, scan.probe[0]
        file["ycoords"], file["xcoords"] = scan.positions.T
        file.attrs["domain"] = "counts"
    return path


def test_a_streamed_scan_trains_the_same_network(scan: diptych.Scan, tmp_path: Path) -> None:
    path = hdf5(scan, tmp_path / "scan.h5")
    load = diptych.ptycho.io.LoadOptions(domain="counts")
    held, streamed = (
        train(path, trainer=PLAIN.with_changes(streaming=how), load=load, **SMALL) for how in ("off", "on")
    )
    assert same(held, streamed)


def test_scans_are_streamed_above_ten_thousand_groups(
    scan: diptych.Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = hdf5(scan, tmp_path / "scan.h5")
    at, above = TrainingOptions(n_groups=10_000), TrainingOptions(n_groups=10_001)
    assert [_stream(path, each, PLAIN) for each in (at, above)] == [False, True]
    assert [_stream(path, at, PLAIN.with_changes(streaming=how)) for how in ("on", "off")] == [True, False]
    assert not _stream(scan, above, PLAIN)
    assert not _stream(diptych.save(scan, tmp_path / "scan.npz"), above, PLAIN)
    # Without n_groups, the patterns count.
    monkeypatch.setattr("diptych.ptycho.neural.data.preparation.STREAM_ABOVE", len(scan))
    assert not _stream(path, TrainingOptions(), PLAIN)
    monkeypatch.setattr("diptych.ptycho.neural.data.preparation.STREAM_ABOVE", len(scan) - 1)
    assert _stream(path, TrainingOptions(), PLAIN)


def test_what_cannot_be_trained_on_is_refused(scan: diptych.Scan) -> None:
    larger = diptych.simulate(size=48, patterns=16, seed=0)
    cases: list[tuple[Any, dict[str, Any], str]] = [
        ([], {}, "no scan to train on"),
        ([3], {}, r"got int; expected scans or their files. diptych.load\(path\) makes a Scan"),
        ([scan, larger], {}, "has patterns of 32 px and .* of 48 px; expected one size"),
        (replace(scan, probe=None), {}, r"has no probe; .*probe='estimate'"),
        (
            scan,
            {"n_subsample": 90},
            r"n_subsample is 90, but of 100 patterns \d+ are left for training .*expected at most \d+",
        ),
        (scan, {"network": "magic"}, "network 'magic': is not known; expected one of cnn, fno"),
        (
            replace(scan, counts=scan.counts[:3], positions=scan.positions[:3]),
            {},
            "3 patterns are too few for groups of 4",
        ),
    ]
    for scans, options, text in cases:
        with pytest.raises(InputError, match=text):
            train(scans, trainer=PLAIN, **options)


def test_what_the_machine_cannot_do_is_refused(
    scan: diptych.Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"devices = 2: strategy is 'auto'; expected strategy 'ddp'"):
        train(scan, trainer=TrainerOptions(device="cpu", devices=2))
    with pytest.raises(InputError, match="16-mixed: the device is the CPU"):
        train(scan, trainer=TrainerOptions(device="cpu", precision="16-mixed"))
    if find_spec("mlflow") is None:
        with pytest.raises(UnavailableError, match=r"package mlflow is not installed. Run: pip install mlflow"):
            train(scan, None, tmp_path / "run", trainer=PLAIN.with_changes(logger="mlflow"), **SMALL)
    monkeypatch.setattr(training, "find_spec", lambda name: None)
    with pytest.raises(UnavailableError, match=r"pip install 'diptych\[train\]'"):
        train(scan, trainer=PLAIN)


def test_the_device_and_its_reason_are_logged(scan: diptych.Scan, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "diptych")
    train(scan, trainer=PLAIN, **{**SMALL, "epochs": 1})
    assert "device cpu (as requested)" in caplog.text
    assert "epoch 1/1: seconds=" in caplog.text


def test_training_that_diverges_is_an_error_that_says_what_to_change(
    scan: diptych.Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diptych.ptycho.neural.training import lightning_module as module

    batch_loss = module.batch_loss

    def broken(*args: Any) -> Any:
        result = batch_loss(*args)
        return replace(result, loss=result.loss * float("nan"))

    monkeypatch.setattr(module, "batch_loss", broken)
    with pytest.raises(
        InputError, match="training diverged: the loss is nan in epoch 1: a lower learning_rate or clip may help"
    ):
        train(scan, trainer=PLAIN, **SMALL)


def test_a_collapse_is_warned_of_once_and_ends_the_run(
    scan: diptych.Scan, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []

    def flat(patches: torch.Tensor, counts: torch.Tensor) -> str:
        looked.append((patches.shape, counts.shape))
        return "The network has collapsed: no reason."

    monkeypatch.setattr(callbacks, "collapsed", flat)
    options = {**SMALL, "warmup": 4, "epochs": 9}
    model = train(scan, None, tmp_path / "run", trainer=PLAIN, **options)
    assert looked == [((8, 4, 32, 32), (8, 4, 32, 32))] * 3
    why = "collapsed in 3 epochs in a row. The network has collapsed: no reason."
    assert [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING] == [
        "epoch 2: The network has collapsed: no reason.",
        f"stop: {why}",
    ]
    assert (model.provenance["epochs"], model.provenance["stop_reason"]) == (4, why)
    # Resuming does not go on with a collapsed network.
    again = train(scan, None, tmp_path / "run", trainer=PLAIN, resume=True, **options)
    assert (again.provenance["epochs"], again.provenance["stop_reason"]) == (4, why)
    caplog.clear()
    assert train(scan, trainer=PLAIN.with_changes(collapse_epochs=0), **options).provenance["epochs"] == 9


def test_a_network_that_emits_a_constant_is_stopped_and_one_that_explains_a_flat_object_is_not(
    scan: diptych.Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diptych.ptycho.networks.passes import PhysicsPasses

    def constant(self: PhysicsPasses, exposure: Any) -> torch.Tensor:
        level = sum(weights.sum() for weights in self.parameters()) * 0
        return torch.ones_like(exposure.counts).to(torch.complex64) * (1 + level)

    monkeypatch.setattr(PhysicsPasses, "forward", constant)
    options = {**SMALL, "epochs": 6, "warmup": 0, "jitter": 0.0}
    stopped = train(scan, trainer=PLAIN, **options)
    assert stopped.provenance["epochs"] == 3
    assert "collapsed in 3 epochs in a row" in stopped.provenance["stop_reason"]
    clear = diptych.simulate(
        object="blocks", size=32, patterns=100, step=4.0, dose=1e5, seed=1, amplitude=(1.0, 1.0), phase=(0.0, 0.0)
    )
    assert train(clear, trainer=PLAIN, **options).provenance["epochs"] == 6


@pytest.mark.parametrize(("network", "mode"), [("hybrid", "norm"), ("stable_hybrid", "value"), ("ffno", "agc")])
def test_clipping_reaches_the_generator_and_the_norm_before_it_is_recorded(
    scan: diptych.Scan, tmp_path: Path, network: str, mode: str
) -> None:
    options = {**SMALL, "epochs": 1, "n_groups": 8, "network": network, "clip_mode": mode, "validation": 0}
    free, held = (train(scan, None, tmp_path / str(x), trainer=PLAIN, **options, clip=x) for x in (0.0, 1e-12))
    # The optimiser divides by the size of the gradients, but not of such small ones.
    assert not same(free, held)
    norms = [history(tmp_path / str(limit))["grad_norm"][0] for limit in (0.0, 1e-12)]
    assert norms[0] > 1e-3
    assert norms[1] == pytest.approx(norms[0])


def test_diagnostics_lie_in_the_run(scan: diptych.Scan, tmp_path: Path) -> None:
    run = tmp_path / "run"
    trainer = PLAIN.with_changes(
        pictures=True, log_patch_stats=True, patch_stats_limit=1, parity_dump=True, logger="csv"
    )
    train(scan, None, run, trainer=trainer, **{**SMALL, "epochs": 2})
    assert sorted(path.name for path in (run / "pictures").iterdir()) == ["epoch-0001.png", "epoch-0002.png"]
    records = json.loads((run / "analysis" / "patch_stats.json").read_text())
    assert [(each["phase"], each["epoch"]) for each in records] == [
        ("train", 1),
        ("validation", 1),
        ("train", 2),
        ("validation", 2),
    ]
    assert (run / "logs" / "version_0" / "metrics.csv").exists()
    with np.load(run / "analysis" / "parity" / "parity.npz", allow_pickle=False) as dump:
        patches, canvas, origin, positions = (dump[name] for name in ("patches", "canvas", "origin", "positions"))
    # A canvas of patches that were merged holds each where its position says.
    assert patches.shape == (4, 32, 32)
    corner = np.floor(positions + 0.5).astype(int) - 16 - origin
    assert (corner.min(0) == 0).all()
    assert canvas.shape == tuple([32 + corner.max()] * 2)
    weak = np.abs(canvas[corner[0, 0] + 16, corner[0, 1] + 16] - patches[0, 16, 16])
    assert weak < 0.5


def test_the_figure_of_a_group_knows_what_light_reached(
    scan: diptych.Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diptych.ptycho.figures.network import Figures

    seen: list[Any] = []
    draw = Figures.group

    def group(*parts: Any) -> Any:
        seen.append(parts[5])
        return draw(*parts)

    monkeypatch.setattr(Figures, "group", staticmethod(group))
    train(scan, None, tmp_path / "run", trainer=PLAIN.with_changes(pictures=True), **{**SMALL, "epochs": 1})
    assert scan.probe is not None
    light, expected = np.asarray(seen[0]).reshape(-1, 32, 32)[0], (np.abs(scan.probe) ** 2).sum(0)
    assert np.corrcoef(light.ravel(), expected.ravel())[0, 1] > 0.9


def test_bad_frames_are_not_learned_and_counts_are_photons(
    scan: diptych.Scan, whole: Model, caplog: pytest.LogCaptureFixture
) -> None:
    spoilt = (1e-3 * scan.counts).astype(np.float32)
    spoilt[[7, 40]] = 0
    with caplog.at_level(logging.WARNING, "diptych"):
        (prepared,) = prepare_scans([replace(scan, counts=spoilt)], TrainingOptions(**SMALL), PLAIN, None)
    assert len(prepared.patterns) == len(scan) - 2
    kept = np.delete(scan.counts, [7, 40], 0)
    np.testing.assert_array_equal(prepared.patterns.read(np.arange(98))[0], kept)
    assert "7, 40" in caplog.text
    assert "gain g = 0.001" in caplog.text
    keeping = PLAIN.with_changes(bad_frames="keep")
    (prepared,) = prepare_scans([replace(scan, counts=spoilt)], TrainingOptions(**SMALL), keeping, None)
    assert len(prepared.patterns) == len(scan)


def test_the_image_of_a_network_alone_does_not_depend_on_the_unit(scan: diptych.Scan, whole: Model) -> None:
    blind = replace(scan, probe_calibrated=False)
    photons, other = (
        diptych.reconstruct(each, whole, engine="network")
        for each in (blind, replace(blind, counts=(1e-3 * scan.counts).astype(np.float32)))
    )
    np.testing.assert_allclose(other.object.values, photons.object.values, rtol=1e-4, atol=1e-5)
    assert other.provenance["fit"] == pytest.approx(photons.provenance["fit"], rel=1e-4)
    assert other.provenance["counts_per_photon"] == pytest.approx(1e-3)
    np.testing.assert_allclose(other.probe, photons.probe * 1e-3**0.5, rtol=1e-4, atol=1e-6)
    assert any("gain g = 0.001" in flag for flag in other.flags)
