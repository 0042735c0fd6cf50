"""Arrays named by their paths, files of other programs named as such, particles and plausible energies."""

from __future__ import annotations

import zipfile

import h5py
import numpy as np
import pytest

import diptych
from diptych.errors import InputError


@pytest.fixture
def scan():
    return diptych.simulate(object="blocks", size=16, patterns=25, step=2, dose=1e4, seed=0)


def test_arrays_are_read_by_their_paths(tmp_path, scan):
    path = tmp_path / "raw.h5"
    with h5py.File(path, "w") as file:
        file["entry/data/frames"] = scan.counts
        file["entry/stage/yx"] = scan.positions
        file["entry/stage/y"], file["entry/stage/x"] = scan.positions.T
        file["entry/probe"] = scan.probe
        file["entry/bad"] = np.eye(16, dtype=np.uint8)
        file["linked"] = h5py.SoftLink("/entry/data/frames")
    common = {"patterns_at": "entry/data/frames", "probe_at": "entry/probe", "domain": "counts"}
    found = diptych.load(path, positions_at="entry/stage/yx", mask_at="entry/bad", mask_means="bad", **common)
    np.testing.assert_array_equal(found.counts, scan.counts)
    np.testing.assert_array_equal(found.positions, scan.positions)
    np.testing.assert_array_equal(found.mask, np.eye(16) == 0)
    columns = diptych.load(path, positions_at="entry/stage/y,entry/stage/x", **{**common, "patterns_at": "linked"})
    np.testing.assert_array_equal(columns.positions, found.positions)
    with pytest.raises(InputError, match=r"there is no array.*entry/data/frames"):
        diptych.load(path, positions_at="entry/stage/yx", **{**common, "patterns_at": "nowhere"})
    with pytest.raises(InputError, match="--positions-at"):
        diptych.load(path, **common)
    with pytest.raises(InputError, match="--domain counts"):
        diptych.load(path, patterns_at="entry/data/frames", positions_at="entry/stage/yx")
    with pytest.raises(InputError, match="--patterns-at"):
        diptych.load(path, positions_at="entry/stage/yx")


def test_links_and_virtual_datasets_are_visible(tmp_path, scan):
    from diptych.ptycho.describe import describe_file

    path = diptych.save(scan, tmp_path / "scan.npz")
    linked = tmp_path / "linked.h5"
    with h5py.File(tmp_path / "frames.h5", "w") as file:
        file["frames"] = scan.counts
    with h5py.File(linked, "w") as file:
        file["diff3d"] = h5py.ExternalLink("frames.h5", "/frames")
        layout = h5py.VirtualLayout(scan.counts.shape, scan.counts.dtype)
        layout[:] = h5py.VirtualSource("frames.h5", "frames", scan.counts.shape)
        file.create_virtual_dataset("copy", layout)
        for axis, line in zip("yx", scan.positions.T, strict=True):
            file[f"{axis}coords"] = line
    assert path.exists()
    shown = str(describe_file(linked, domain="counts"))
    assert "link to /frames of frames.h5" in shown
    assert "virtual, of frames.h5" in shown


@pytest.mark.parametrize(
    ("paths", "named"),
    [
        ({"obj/deep": 1, "chunks/0/data": 1, "info/x": 1}, "PtyPy|no positions|shape"),
        (
            {"entry/data/data_000001": 1, "entry/instrument/detector/detectorSpecific/x": 1},
            r"data_000001: has shape \(\).*expected frames",
        ),
        ({"content/obj/S": 1}, "PtyPy result without an object or a probe.*content/obj, content/probe"),
    ],
)
def test_files_of_other_programs_are_named(tmp_path, paths, named):
    with h5py.File(tmp_path / "file.h5", "w") as file:
        for path, value in paths.items():
            file[path] = value
    with pytest.raises(InputError, match=named):
        diptych.load(tmp_path / "file.h5")


def test_matlab_and_zip_files_are_named(tmp_path):
    from scipy.io import savemat

    savemat(tmp_path / "five.mat", {"dp": np.zeros((3, 4, 4))})
    with pytest.raises(
        InputError, match=r"five\.mat: seems to be .*holds dp 3 x 4 x 4; expected a scan .*probeGuess.*a result"
    ):
        diptych.load(tmp_path / "five.mat")
    with h5py.File(tmp_path / "seven.mat", "w", userblock_size=512) as file:
        file["object"] = np.zeros((4, 4))
        file["object"].attrs["MATLAB_class"] = np.bytes_("double")
        file["results"] = np.zeros((4, 4))
    with pytest.raises(InputError, match=r"MATLAB 7\.3"):
        diptych.load(tmp_path / "seven.mat")
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        archive.writestr("a.tif", b"x")
    with pytest.raises(InputError, match=r"ZIP archive, no NPZ: it holds a\.tif"):
        diptych.load(tmp_path / "pictures.zip")


def test_the_wavelength_is_that_of_the_particle():
    for volts, picometres in ((80e3, 4.1757), (200e3, 2.5079), (300e3, 1.9687)):
        electron = diptych.Geometry(energy_eV=volts, particle="electron")
        assert electron.wavelength_m * 1e12 == pytest.approx(picometres, abs=2e-4)
    assert diptych.Geometry(energy_eV=8800).wavelength_m == pytest.approx(1.4089e-10, rel=1e-4)


@pytest.mark.parametrize(
    ("energy", "particle", "says"),
    [
        (1.5e-21, "photon", "20 to 1e"),
        (1.41e-15, "photon", "eV if it is in J"),
        (8.8, "photon", "8800 eV if it is in keV"),
        (5e6, "photon", "--particle electron"),
        (100.0, "electron", "--particle photon"),
        (300.0, "electron", "keV"),
    ],
)
def test_an_implausible_energy_asks_for_unit_and_particle(energy, particle, says):
    with pytest.raises(InputError, match=says):
        diptych.Geometry(energy_eV=energy, particle=particle)


def test_the_particle_is_kept_in_files(tmp_path, scan):
    from dataclasses import replace

    geometry = diptych.Geometry(300e3, 0.1, 50e-6, particle="electron")
    electrons = replace(scan, geometry=geometry)
    assert diptych.load(diptych.save(electrons, tmp_path / "scan.npz")).geometry == geometry
    result = diptych.reconstruct(electrons, epochs=1)
    for name in ("result.h5", "result.npz"):
        assert diptych.load(diptych.save(result, tmp_path / name)).geometry == geometry


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"fmag": np.ones((16, 16, 9)), "p": {"asize": [16, 16]}}, "prepared data or a result of PtychoShelves"),
        ({"ptychogram": np.ones((9, 16, 16)), "encoder": np.ones((9, 2))}, "scan of PtyLab"),
        ({"object": np.ones((30, 30)), "probe": np.ones((16, 16))}, "a result"),
        ({"dp": np.ones((16, 16, 9))}, "a stack of patterns"),
        ({"x": np.ones((3, 3))}, "no scan or result"),
    ],
)
def test_a_matlab_5_file_is_named_by_what_it_seems_to_be(tmp_path, arrays, said):
    import scipy.io

    scipy.io.savemat(tmp_path / "a.mat", arrays)
    with pytest.raises(InputError, match="MATLAB 5 file") as caught:
        diptych.load(tmp_path / "a.mat")
    assert said in str(caught.value)
    assert ("seems to be" in str(caught.value)) == (said != "no scan or result")
    assert all(name in str(caught.value) for name in arrays)
