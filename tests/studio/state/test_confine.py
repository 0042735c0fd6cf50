"""No option leads out of the data folders, however it is written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import diptych
from diptych.errors import InputError
from diptych.prefer import Session
from diptych.studio.context import Studio
from diptych.studio.data import DataFolders
from diptych.studio.options import StudioOptions
from diptych.studio.state.confine import confined_load, confined_options, confined_session
from diptych.studio.state.prefer.desks import Desks

OUTSIDE = "outside the data folders"


@pytest.fixture
def folders(tmp_path: Path) -> DataFolders:
    data = tmp_path / "data"
    data.mkdir()
    np.save(tmp_path / "secret.npy", np.ones((8, 8)))
    (tmp_path / "secret.yaml").write_text("crop: 8\n")
    (data / "link.npy").symlink_to(tmp_path / "secret.npy")
    (data / "link.yaml").symlink_to(tmp_path / "secret.yaml")
    np.save(data / "dark.npy", np.ones((8, 8)))
    (data / "prepare.yaml").write_text("dark: dark.npy\nbin: 2\n")
    (data / "dark.npy:x").mkdir()
    return DataFolders((data,))


@pytest.mark.parametrize("bad", ["../secret.npy", "/etc/passwd", "link.npy", "~/x.npy", "dark.npy:x/../../secret.npy"])
def test_no_option_of_a_scan_names_a_file_outside(folders: DataFolders, bad: str) -> None:
    for given in (bad, f"{bad}:entry/data"):
        for name in ("probe", "start"):
            with pytest.raises(InputError):
                confined_options(folders, {name: given})
        with pytest.raises(InputError):
            confined_load(folders, {"positions": given})
        for name in ("dark", "flat", "mask_file"):
            with pytest.raises(InputError):
                confined_options(folders, {"prepare": json.dumps({name: given})})


@pytest.mark.parametrize("bad", ["../secret.yaml", "/etc/passwd", "link.yaml", "~/x.yaml"])
def test_no_file_of_options_lies_outside(folders: DataFolders, bad: str) -> None:
    with pytest.raises(InputError, match=OUTSIDE):
        confined_options(folders, {"prepare": bad})
    with pytest.raises(InputError, match=OUTSIDE):
        confined_load(folders, {"layout": bad})
    for name in ("reading", "shared"):
        with pytest.raises(InputError, match=OUTSIDE):
            confined_session(folders, {name: bad})


def test_the_file_of_a_preparation_does_not_lead_out_either(folders: DataFolders) -> None:
    (folders.roots[0] / "hostile.yaml").write_text("dark: ../secret.npy\n")
    with pytest.raises(InputError, match=OUTSIDE):
        confined_options(folders, {"prepare": "hostile.yaml"})


def test_names_that_are_no_files_stay_and_files_become_absolute(folders: DataFolders) -> None:
    root = folders.roots[0]
    plain = {"probe": "estimate", "start": "flat", "epochs": 3}
    assert confined_options(folders, plain) == plain
    assert confined_options(folders, {"probe": "optics:size=4"})["probe"] == "optics:size=4"
    assert confined_options(folders, {"probe": "dark.npy"})["probe"] == str(root / "dark.npy")
    assert confined_load(folders, {"positions": "dark.npy:a,b"})["positions"] == f"{root / 'dark.npy'}:a,b"
    assert confined_load(folders, {"layout": "ourbeamline"})["layout"] == "ourbeamline"
    found = json.loads(confined_options(folders, {"prepare": "prepare.yaml"})["prepare"])
    assert found == {"dark": str(root / "dark.npy"), "bin": 2}


def test_a_session_from_elsewhere_cannot_name_a_scan_outside(folders: DataFolders) -> None:
    root = folders.roots[0]
    scan = diptych.simulate(object="blocks", size=16, patterns=16, step=3.0, seed=0)
    diptych.save(scan, root.parent / "outside.npz")
    with Session.open(root / "tuned", decoder="reconstruction", scan=str(root.parent / "outside.npz"), threads=1):
        pass
    studio = Studio(StudioOptions(data=(root,)))
    with pytest.raises(InputError, match=OUTSIDE):
        Desks(studio).open(root / "tuned")
    studio.close()
