"""Importing costs next to nothing, loads nothing heavy and does nothing: no file written, no configuration read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HEAVY = {"torch", "lightning", "scipy", "skimage", "h5py", "matplotlib", "pydantic", "cyclopts", "rich", "yaml"}

IMPORT = """
import json, sys, time
began = time.process_time()
import diptych
spent = time.process_time() - began
print(json.dumps({"seconds": spent, "modules": sorted({name.partition(".")[0] for name in sys.modules})}))
"""

HELP = """
import contextlib, io, json, sys
from diptych.cli import run
with contextlib.redirect_stdout(io.StringIO()):
    run(["--help"])
import diptych
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
OPTIONAL = {"hdf5plugin", "tifffile", "lightning", "diffusers", "transformers", "sklearn", "xgboost", "nicegui", "dask"}

IMPORT_ALL = """
import importlib, json, os, pkgutil, sys
opened, home = [], os.getcwd()
def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        flags = arguments[2] if isinstance(arguments[2], int) else 0
        path = os.fsdecode(arguments[0])
        writes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) and not path.startswith("/dev/")
        if writes or os.path.abspath(path).startswith(home):
            opened.append(path)
    elif event in ("os.mkdir", "os.remove", "os.rename", "socket.connect", "subprocess.Popen"):
        opened.append(event + " " + str(arguments[0]))
# What the libraries do at their own import is theirs.
import cyclopts, h5py, lightning.pytorch, matplotlib.pyplot, nicegui, numpy, pydantic, rich, scipy.special, skimage
import torch, yaml
import diptych
state = numpy.random.get_state()[1].tolist(), torch.initial_seed(), torch.get_num_threads(), torch.is_grad_enabled()
sys.addaudithook(watch)
# Parts of Ptychodus' own classes, which load in Ptychodus alone.
within = tuple("diptych.ptycho.plugins.ptychodus." + part for part in ("files", "library", "panel", "products"))
# Compiled code is loaded when an engine starts, and looks for a folder that can keep it.
within += tuple("diptych.ptycho.physics.compiled." + part for part in ("kernels", "passes", "transform"))
names = [found.name for found in pkgutil.walk_packages(diptych.__path__, "diptych.")]
names = [name for name in names if not name.startswith(within)]
for name in names:
    importlib.import_module(name)
now = numpy.random.get_state()[1].tolist(), torch.initial_seed(), torch.get_num_threads(), torch.is_grad_enabled()
same = state == now
print(json.dumps({"opened": opened, "names": names, "cuda": torch.cuda.is_initialized(), "same": same}))
"""


def run(code: str, where: Path) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=where,
        capture_output=True,
        text=True,
        timeout=120,
        env={
            "HOME": str(where),
            "PATH": "",
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "MPLCONFIGDIR": str(where.parent),
        },
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_import_diptych_is_fast_and_light(tmp_path: Path) -> None:
    run(IMPORT, tmp_path)
    found = run(IMPORT, tmp_path)
    assert found["seconds"] < 0.6
    assert not HEAVY & set(found["modules"])
    assert "numpy" not in found["modules"]


@pytest.mark.integration
def test_importing_every_module_touches_no_files(tmp_path: Path) -> None:
    found = run(IMPORT_ALL, tmp_path)
    assert len(found["names"]) > 50
    assert found["opened"] == []
    assert not found["cuda"]
    assert found["same"], "no seed, thread count or gradient mode may change"
    assert list(tmp_path.iterdir()) == []


def test_the_front_door_has_every_name_it_lists() -> None:
    import diptych

    for name in diptych.__all__:
        assert getattr(diptych, name) is not None
        assert name in dir(diptych)
    with pytest.raises(AttributeError, match="no attribute 'nonesuch'"):
        _ = diptych.nonesuch


def test_import_and_help_load_no_optional_library(tmp_path: Path) -> None:
    assert not OPTIONAL & set(run(HELP, tmp_path))
