"""The life of a network on the command line: trained, reloaded and run in processes of their own."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import diptych

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("network")
    for seed, name in enumerate(("train", "new")):
        scan = diptych.simulate(object="lines", size=32, patterns=64, step=4.0, dose=1e6, seed=seed)
        diptych.save(scan, path / f"{name}.npz")
    return path


def run(folder: Path, *arguments: object) -> dict[str, Any]:
    """A command in a process of its own; what it printed as JSON."""
    command = [sys.executable, "-c", "import diptych.cli; diptych.cli.main()", *map(str, arguments), "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def processor_seconds() -> float:
    """Seconds of the processor that all ended child processes of this one have used so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.fixture(scope="module")
def before() -> float:
    """The seconds that the child processes of earlier tests have used."""
    return processor_seconds()


@pytest.fixture(scope="module")
def trained(folder: Path, before: float) -> dict[str, Any]:
    """What the training said."""
    options = ("--epochs", 3, "--width", 8, "--threads", 1, "--no-pictures")
    return run(folder, "train", "train.npz", "--run", "run", *options)


def test_train_reload_and_infer_in_three_processes(folder: Path, trained: dict[str, Any], before: float) -> None:
    assert Path(trained["model"]).name == "model.safetensors"
    about = run(folder, "info", "run/model.safetensors")
    assert "network" in json.dumps(about)
    alone = ("--model", "run/model.safetensors", "--engine", "network", "--threads", 1)
    first = run(folder, "reconstruct", "new.npz", *alone, "--run", "one", "--log-patch-stats", "--patch-stats-limit", 2)
    # Training and inference. Seconds of the processor, so that a busy machine fails nothing.
    assert processor_seconds() - before < 60
    assert first["engine"] == "network"
    assert first["patterns_per_second"] > 0
    assert first["metrics"]["complex_error"] < 0.5
    assert len(json.loads((folder / "one" / "analysis" / "patch_stats.json").read_text())) == 2
    assert (folder / "one" / "analysis" / "patch_grid.png").stat().st_size > 1000
    again = run(folder, "reconstruct", "new.npz", *alone, "--run", "two")
    images = [
        diptych.load(each["result"] if Path(each["result"]).is_absolute() else folder / each["result"])
        for each in (first, again)
    ]
    assert images[0].object.values.tobytes() == images[1].object.values.tobytes()


def test_a_network_alone_needs_a_network(folder: Path) -> None:
    scan = diptych.load(folder / "new.npz")
    with pytest.raises(diptych.InputError, match="without a trained network"):
        diptych.reconstruct(scan, engine="network")
    with pytest.raises(diptych.InputError, match="alpha is not an option of engine network"):
        diptych.reconstruct(scan, engine="network", alpha=0.5)


def test_statistics_need_a_folder(folder: Path, trained: dict[str, Any]) -> None:
    model = diptych.load_model(folder / "run" / "model.safetensors")
    scan = diptych.load(folder / "new.npz")
    with pytest.raises(diptych.InputError, match="Pass folder=PATH"):
        model.reconstruct(scan, log_patch_stats=True)
    uniform, probe = (
        model.reconstruct(scan, network_weights=w, canvas_passes=0).object.values for w in ("uniform", "probe")
    )
    assert not np.allclose(uniform, probe)
    whole, parts = (model.reconstruct(scan, network_batch=b, canvas_passes=0) for b in (4, 64))
    assert whole.provenance["inference"]["network_batch"] == 4
    assert np.allclose(np.abs(whole.object.values), np.abs(parts.object.values), atol=1e-2)


def test_inference_options_reach_a_warm_start_too(
    folder: Path, trained: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from diptych.ptycho.neural.model import Model
    from diptych.ptycho.neural.options import InferenceOptions

    given: list[dict[str, Any]] = []
    plain = Model.reconstruct

    def noted(self: Model, scan: Any, *rest: Any, **more: Any) -> Any:
        given.append(more)
        return plain(self, scan, *rest, **more)

    monkeypatch.setattr(Model, "reconstruct", noted)
    scan = diptych.load(folder / "new.npz")
    wanted = InferenceOptions(network_batch=7, network_weights="uniform")
    diptych.reconstruct(
        scan, model=folder / "run" / "model.safetensors", epochs=1, inference=wanted, folder=folder / "warm"
    )
    # The engine makes the steps on the whole canvas itself.
    assert given[0]["options"] == wanted.with_changes(canvas_passes=0)
    with pytest.raises(diptych.InputError, match="without a network; expected model"):
        diptych.reconstruct(scan, epochs=1, inference=wanted)
