"""A disk that fills up, or refuses, costs what cannot be written, and never the result of the work.

The file system is real where the test may mount one (a small tmpfs, as root), else writes are made to fail.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import diptych
from diptych.errors import UnavailableError
from diptych.ptycho.engines import run as engine_run
from diptych.ptycho.io import bytes_of
from diptych.ptycho.jobs import run_reconstruction, run_training
from diptych.runtime import files
from diptych.runtime.logging import log_file

FULL = os.strerror(errno.ENOSPC)


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    folder.mkdir()
    if os.geteuid() or sys.platform != "linux":
        pytest.skip("mounting a small file system needs root")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def scan():
    return diptych.simulate(object="blocks", size=32, patterns=36, step=4, dose=1e5, seed=0)


def test_a_checkpoint_that_does_not_fit_is_a_warning_and_the_result_is_written(tmp_path, scan, monkeypatch, caplog):
    """Every checkpoint is refused for lack of space: the result equals that of a run with space."""
    source = diptych.save(scan, tmp_path / "scan.npz")
    free = diptych.reconstruct(scan, epochs=4)
    monkeypatch.setattr(engine_run, "CHECKPOINT_SECONDS", 0.0)

    def refuse(path, *rest):
        with files.naming_the_file(path):
            raise OSError(errno.ENOSPC, FULL)

    monkeypatch.setattr(engine_run, "save_checkpoint", refuse)
    finished = run_reconstruction(source, run=tmp_path / "run", options={"epochs": 4})
    assert finished.status == "done"
    np.testing.assert_array_equal(diptych.load(tmp_path / "run" / "result.h5").object.values, free.object.values)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 5
    assert all(
        "checkpoint.npz" in text and FULL in text and "goes on without a checkpoint" in text for text in warnings
    )


@pytest.mark.parametrize("number", [errno.EIO, errno.EDQUOT, errno.EROFS])
def test_other_refusals_of_a_checkpoint_are_warnings_too(tmp_path, scan, monkeypatch, caplog, number):
    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("diptych.ptycho.engines.checkpoint.np.savez", refuse)
    diptych.reconstruct(scan, epochs=1, checkpoint=tmp_path / "state.npz")
    assert "state.npz" in caplog.text
    assert os.strerror(number) in caplog.text


def test_on_a_small_disk_the_result_takes_the_place_of_the_checkpoint(tmp_path, scan, monkeypatch, caplog):
    source = diptych.save(scan, tmp_path / "scan.npz")
    result = diptych.reconstruct(scan, epochs=2)
    with small_disk(tmp_path / "disk", bytes_of(result) // 1000 + 160) as disk:
        finished = run_reconstruction(source, run=disk / "run", options={"epochs": 3})
        assert finished.status == "done"
        assert np.isfinite(diptych.load(disk / "run" / "result.h5").object.values).all()
    assert FULL in caplog.text


def test_a_result_that_fits_nowhere_names_its_file_and_the_bytes(tmp_path, scan, caplog):
    source = diptych.save(scan, tmp_path / "scan.npz")
    with small_disk(tmp_path / "disk", 40) as disk:
        with pytest.raises(UnavailableError, match=rf"result\.h5.*{FULL}.*about 0\.\d+ MB are needed, .* MB are free"):
            run_reconstruction(source, run=disk / "run", options={"epochs": 1})
        # Another file for the result saves it.
        out = tmp_path / "other.npz"
        run_reconstruction(source, run=disk / "second", out=out, options={"epochs": 1})
        assert diptych.load(out).object.shape == diptych.load(source).truth.shape or out.exists()
    assert "result.h5" in caplog.text


def test_figures_that_do_not_fit_are_warnings_and_the_result_is_there(tmp_path, scan, monkeypatch, caplog):
    def refuse(*args, **kwargs):
        raise OSError(errno.ENOSPC, FULL)

    source = diptych.save(scan, tmp_path / "scan.npz")
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", refuse)
    finished = run_reconstruction(source, run=tmp_path / "run", options={"epochs": 1})
    assert finished.status == "done"
    assert np.isfinite(diptych.load(tmp_path / "run" / "result.h5").object.values).all()
    for name in ("result.png", "scan.png"):
        assert f"{tmp_path / 'run' / name}: could not be written ({FULL}); the result is kept" in caplog.text


@pytest.mark.parametrize("name", ["scan.npz", "result.h5", "result.npz"])
def test_an_export_names_its_file_and_the_bytes(tmp_path, scan, name):
    item = scan if name == "scan.npz" else diptych.reconstruct(scan, epochs=1)
    with small_disk(tmp_path / "disk", 20) as disk:
        with pytest.raises(UnavailableError, match=rf"{name}.*{FULL}.* MB are needed"):
            diptych.save(item, disk / name)
        assert not list(disk.iterdir())


def test_a_full_log_is_one_warning(capfd):
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    with log_file(Path("/dev/full")) as log:
        for n in range(5):
            log.info("line %d", n)
    said = capfd.readouterr().err
    assert said.count("/dev/full") == 1
    assert "Traceback" not in said


def test_a_full_standard_output_is_an_error_without_a_traceback(tmp_path, scan):
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    source = diptych.save(scan, tmp_path / "scan.npz")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", "from diptych.cli import main; main()", "info", str(source)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert FULL in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_errors_of_the_file_system_name_the_file_that_was_asked_for(tmp_path):
    with pytest.raises(OSError, match=r"quota|Disk") as caught, files.replacing(tmp_path / "a.npz"):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
    assert caught.value.filename == str(tmp_path / "a.npz")
    with pytest.raises(OSError, match=FULL), files.replacing(tmp_path / "a.h5"):
        raise RuntimeError(f"Unable to write (errno = 28, error message = '{FULL}')")
    with pytest.raises(RuntimeError, match="not of the disk"), files.replacing(tmp_path / "a.h5"):
        raise RuntimeError("not of the disk")


@pytest.mark.integration
def test_a_training_keeps_its_model_where_checkpoints_and_log_are_refused(tmp_path, scan, monkeypatch, caplog):
    from diptych.ptycho.neural.training import callbacks

    def refuse(path):
        raise OSError(errno.ENOSPC, FULL, str(path))

    source = diptych.save(scan, tmp_path / "scan.npz")
    options = {"epochs": 2, "validation": 0.0}
    free = run_training([source], run=tmp_path / "free", options=options)
    monkeypatch.setattr(callbacks, "replacing", refuse)
    monkeypatch.setattr("diptych.runtime.run_directory.RunDirectory.write_history", lambda self, h: refuse(self.path))
    finished = run_training([source], run=tmp_path / "run", options=options)
    assert finished.status == "done"
    model = diptych.load_model(tmp_path / "run" / "model.safetensors")
    other = diptych.load_model(tmp_path / "free" / "model.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(model.network.parameters(), other.network.parameters(), strict=True))
    assert free.model is not None
    assert caplog.text.count("goes on without a checkpoint") == 2


@pytest.mark.integration
def test_a_model_that_does_not_fit_names_its_file_and_the_bytes(tmp_path, scan):
    source = diptych.save(scan, tmp_path / "scan.npz")
    options = {"epochs": 1, "validation": 0.0}
    with small_disk(tmp_path / "disk", 60) as disk:
        with pytest.raises(UnavailableError, match=rf"model\.safetensors.*{FULL}.* MB are needed, .* MB are free"):
            run_training([source], run=disk / "run", options=options)
        out = tmp_path / "model.safetensors"
        finished = run_training([source], run=disk / "second", out=out, options=options)
        assert finished.status == "done"
    assert diptych.load_model(out).size == scan.size
