"""Model files: exact round trip, the same prediction in another process, and errors for other files."""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import diptych
from diptych.errors import InputError
from diptych.ptycho.describe import describe_file
from diptych.ptycho.evaluate.methods import run_method
from diptych.ptycho.networks import build_network
from diptych.ptycho.neural.model import Model, load_model
from diptych.ptycho.neural.options import TrainingOptions
from diptych.ptycho.scan import Scan
from diptych.runtime.device import ExecutionOptions

ONE = ExecutionOptions(device="cpu", threads=1)
OPTIONS = TrainingOptions(width=4, passes=1, seed=3)
EARLIER = Path(__file__).parent / "files" / "model_schema_1.safetensors"
PREDICTED = 0.78165 - 0.00131j


@pytest.fixture(scope="module")
def scan() -> Scan:
    """25 patterns of 32 x 32."""
    return diptych.simulate(object="dead-leaves", size=32, patterns=25, step=4.0, dose=1e5, seed=0)


@pytest.fixture(scope="module")
def model(scan: Scan) -> Model:
    """An untrained network in which all weights affect the output."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_network(32, 0.7, OPTIONS)
        with torch.no_grad():
            for weights in network.parameters():
                weights.add_(0.02 * torch.randn(weights.shape))
    assert scan.probe is not None
    return Model(network, OPTIONS, 32, 0.7, {"mean_photons": 1.5e5}, scan.probe, {"seed": 3})


@pytest.fixture
def file(model: Model, tmp_path: Path) -> Path:
    return model.save(tmp_path / "model.safetensors")


def rewritten(path: Path, change: Callable[[dict[str, Any], dict[str, torch.Tensor]], None]) -> Path:
    """The file with its header and tensors changed."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as opened:
        header = json.loads(opened.metadata()["diptych"])
    tensors = load_file(path)
    change(header, tensors)
    save_file(tensors, path, {"diptych": json.dumps(header)})
    return path


def test_what_is_saved_comes_back(model: Model, file: Path) -> None:
    again = load_model(file)
    assert (again.size, again.scale) == (32, 0.7)
    assert again.options.resolved() == model.options.resolved()
    assert (again.statistics, again.provenance) == (model.statistics, model.provenance)
    np.testing.assert_array_equal(again.probe, model.probe)
    assert not again.network.training
    for name, value in model.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], value), name


def test_the_file_is_decided_by_the_model_and_its_digest_is_the_files(model: Model, file: Path, tmp_path: Path) -> None:
    again = load_model(file).save(tmp_path / "again.safetensors")
    assert again.read_bytes() == file.read_bytes()
    assert model.digest == hashlib.sha256(file.read_bytes()).hexdigest()
    with torch.no_grad():
        other = load_model(file)
        next(other.network.parameters()).view(-1)[0] += 1e-3
    assert other.digest != model.digest


def test_loading_does_not_change_the_random_state(file: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_model(file)
    assert torch.equal(torch.rand(3), expected)


def test_a_cold_process_predicts_the_same_bytes(model: Model, scan: Scan, file: Path, tmp_path: Path) -> None:
    here = model.reconstruct(scan, execution=ONE, network_batch=8)
    diptych.save(scan, tmp_path / "scan.npz")
    program = f"""
import diptych, hashlib
from diptych.ptycho.neural.model import load_model
from diptych.runtime.device import ExecutionOptions
result = load_model({str(file)!r}).reconstruct(
    diptych.load({str(tmp_path / "scan.npz")!r}), execution=ExecutionOptions(device="cpu", threads=1), network_batch=8
)
print(hashlib.sha256(result.object.values.tobytes()).hexdigest())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == hashlib.sha256(here.object.values.tobytes()).hexdigest()
    assert np.ptp(np.abs(here.object.values)) > 0.01, "the prediction is not constant"


def test_a_model_file_of_an_earlier_version_is_read() -> None:
    """Written when all options of the network were options of training; predictions must not change."""
    model = load_model(EARLIER)
    own = model.options.own("network")
    assert (own.width, own.passes, own.output, own.decoder) == (4, 1, "real-imag", "shared")
    assert model.options.epochs == 2
    assert model.digest == hashlib.sha256(EARLIER.read_bytes()).hexdigest()
    scan = diptych.simulate(object="blocks", size=16, patterns=49, step=2.0, dose=1e5, seed=1)
    assert model.reconstruct(scan, execution=ONE).object.values[14, 14] == pytest.approx(PREDICTED, abs=1e-2)


def test_a_model_file_keeps_the_defaults_of_its_network(tmp_path: Path) -> None:
    """A default that changes later must not change the meaning of the file."""
    options = TrainingOptions(width=4)
    scan = diptych.simulate(size=16, patterns=9, step=2.0, dose=1e5, seed=0)
    assert scan.probe is not None
    path = Model(build_network(16, 1.0, options), options, 16, 1.0, {}, scan.probe).save(tmp_path / "m.safetensors")
    loaded = load_model(path)
    assert loaded.options.model_extra == {"width": 4, "passes": 2, "output": "amplitude-phase", "decoder": "shared"}


def test_another_size_of_pattern_is_used_with_a_warning(
    model: Model, scan: Scan, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "diptych"):
        model.reconstruct(scan, execution=ONE)
        assert not caplog.records
        larger = diptych.simulate(size=48, patterns=9, step=6.0, dose=1e5, seed=0)
        result = model.reconstruct(larger, execution=ONE)
    assert np.isfinite(result.object.values).all()
    assert "48 px" in caplog.text
    assert "32 px" in caplog.text
    with pytest.raises(InputError, match=r"20 px.*multiple of 16"):
        model.reconstruct(diptych.simulate(size=20, patterns=9, step=3.0, dose=1e5, seed=0), execution=ONE)


def test_threads_are_left_as_they_were(model: Model, scan: Scan) -> None:
    before = torch.get_num_threads()
    model.reconstruct(scan, execution=ExecutionOptions(device="cpu", threads=before + 1))
    assert torch.get_num_threads() == before


def test_info_describes_a_model_file(model: Model, file: Path) -> None:
    about = describe_file(file)
    assert (about["kind"], about["network"], about["size"], about["problem"]) == ("network", "cnn", 32, None)
    assert about["options"]["width"] == 4
    assert about["parameters"] == sum(weights.numel() for weights in model.network.parameters())
    assert {"name": "probe", "shape": list(model.probe.shape), "dtype": "complex64"} in about["arrays"]
    json.dumps(about)


# Files that are not model files, or not for this version of diptych.


def test_wrong_names_and_folders_are_refused(model: Model, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model\.pt.*\.safetensors"):
        model.save(tmp_path / "model.pt")
    with pytest.raises(InputError, match="does not exist"):
        model.save(tmp_path / "nowhere" / "model.safetensors")
    with pytest.raises(InputError, match=r"none\.safetensors: does not exist"):
        load_model(tmp_path / "none.safetensors")
    with pytest.raises(InputError, match="is a folder"):
        load_model(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"PK\x03\x04", b"\xff" * 64])
def test_a_file_of_another_kind(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.safetensors: is not a safetensors file, or is damaged"):
        load_model(tmp_path / "x.safetensors")


def test_a_file_cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match="damaged"):
        load_model(file)


def test_tensors_of_another_program(tmp_path: Path) -> None:
    for metadata in (None, {"format": "pt"}):
        save_file({"weight": torch.zeros(2)}, tmp_path / "x.safetensors", metadata)
        with pytest.raises(InputError, match="of another program"):
            load_model(tmp_path / "x.safetensors")


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "null", "[1]", '{"kind": "diptych something"}'])
def test_a_header_that_is_no_header(text: str, tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "x.safetensors", {"diptych": text})
    with pytest.raises(InputError, match=r"not valid JSON|expected 'diptych network'"):
        load_model(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("schema", 2, r"newer diptych \(schema 2\); expected schema 1 or older. Update diptych"),
        ("schema", "1", "header: schema is"),
        ("size", 32.0, "header: size is"),
        ("size", -16, "expected positive numbers"),
        ("scale", None, "header: scale is"),
        ("scale", float("nan"), "expected positive numbers"),
        ("statistics", [], "header: statistics is"),
        ("options", {"width": 1}, "width = 1"),
        ("options", {"sorcery": 1}, "options: unknown option 'sorcery'"),
        ("options", {"network": "transformer"}, r"needs the network 'transformer'.*one of cnn.*register"),
        ("options", {"width": 8, "passes": 1}, "expected"),
        ("options", {"width": 4, "passes": 2}, "lacks network"),
    ],
)
def test_a_header_that_does_not_fit(key: str, value: Any, says: str, file: Path) -> None:
    with pytest.raises(InputError, match=says) as caught:
        load_model(rewritten(file, lambda header, tensors: header.update({key: value})))
    assert str(file) in str(caught.value)


def _without_bias(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    del tensors[sorted(name for name in tensors if name.endswith("bias"))[0]]


def _with_more(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    tensors["network.more"] = torch.zeros(1)


def _other_type(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    name = sorted(name for name in tensors if name.endswith("bias"))[0]
    tensors[name] = tensors[name].double()


def _not_finite(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    tensors[sorted(name for name in tensors if name.endswith("bias"))[0]][0] = float("inf")


def _no_probe(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    del tensors["probe"]


def _small_probe(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    tensors["probe"] = tensors["probe"][:, :8].clone()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_without_bias, "lacks network"),
        (_with_more, r"also holds network\.more"),
        (_other_type, "float64; expected .* float32"),
        (_not_finite, "not finite"),
        (_no_probe, "probe: there is none"),
        (_small_probe, r"has shape \(1, 8, 32, 2\)"),
    ],
)
def test_tensors_that_do_not_fit(change: Callable[..., None], says: str, file: Path) -> None:
    with pytest.raises(InputError, match=says):
        load_model(rewritten(file, change))


def test_compared_networks_leave_bad_frames_out_as_engines_do(model: Model, scan: Scan) -> None:
    counts = scan.counts.copy()
    counts[7] = 0
    result = run_method("network", model, replace(scan, counts=counts), None, ONE, None)
    assert result.provenance["left_out"]["left_out"] == [7]
