"""The table of a load: which dataset each part comes from, what was given, what was derived; kept in the result."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

import diptych
from diptych.cli import run
from diptych.ptycho.io.physical import ELEMENTARY_CHARGE_C

N, M = 16, 9


def cxi(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        detector = file.create_group("entry_1/instrument_1/detector_1")
        detector["data"] = np.random.default_rng(0).poisson(50.0, (M, N, N)).astype(np.uint16)
        detector["distance"], detector["x_pixel_size"], detector["y_pixel_size"] = 1.0, 75e-6, 75e-6
        detector["basis_vectors"] = np.array([[0, -75e-6], [-75e-6, 0], [0, 0]])
        file["entry_1/instrument_1/source_1/energy"] = 9e3 * ELEMENTARY_CHARGE_C
        line = np.arange(M) * 1e-7
        file["entry_1/data_1/translation"] = np.stack([line % 3e-7, line / 3, 0 * line], 1)
        file["entry_1/data_1/data"] = h5py.SoftLink("/entry_1/instrument_1/detector_1/data")
    return path


def rows(scan: diptych.Scan) -> dict[str, dict[str, str]]:
    return {row["part"]: row for row in scan.metadata["load"]}


def test_each_part_names_its_dataset(tmp_path: Path) -> None:
    table = rows(diptych.load(cxi(tmp_path / "a.cxi")))
    assert table["patterns"]["from"] == "entry_1/data_1/data"
    assert "counts, 9 x 16 x 16" in table["patterns"]["read as"]
    assert table["positions"]["from"] == "entry_1/data_1/translation"
    assert table["energy"] == {
        "part": "energy",
        "read as": "9000 eV",
        "from": "entry_1/instrument_1/source_1/energy",
    }
    assert table["position signs"]["read as"] == "y +, x +"
    assert table["object pixel"]["from"].startswith("derived")
    assert table["particle"]["read as"] == "photon"
    assert table["mask"]["read as"].startswith("none")


def test_what_was_given_is_told_from_what_was_read(tmp_path: Path) -> None:
    table = rows(diptych.load(cxi(tmp_path / "a.cxi"), energy_eV=8e3, corner_centred=True, flip_y=True))
    assert (table["energy"]["read as"], table["energy"]["from"]) == ("8000 eV", "given as an option")
    assert table["centring"]["from"] == "given as an option"
    assert "flip_y" in table["position signs"]["read as"]
    bare = rows(diptych.load(diptych.save(diptych.simulate(size=16, patterns=9), tmp_path / "own.npz")))
    assert bare["geometry"]["from"] == "not stated"


def test_the_result_and_info_tell_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan = diptych.load(cxi(tmp_path / "a.cxi"))
    result = diptych.reconstruct(scan, probe="estimate", epochs=1)
    assert result.provenance["load"] == scan.metadata["load"]
    assert diptych.load(diptych.save(result, tmp_path / "r.h5")).provenance["load"] == scan.metadata["load"]
    assert run(["info", str(tmp_path / "a.cxi")]) == 0
    shown = capsys.readouterr().out
    assert "How the file was read" in shown
    assert "entry_1/data_1/translation" in shown
