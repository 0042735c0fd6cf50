"""Detector masters, beamlines' frames, EMPAD and EMD: made here by their conventions, and real files where they lie."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

import diptych
from diptych.cli import run
from diptych.errors import InputError

N, M = 16, 12
rng = np.random.default_rng(8)
COUNTS = rng.poisson(9.0, (M, N, N)).astype(np.uint32)
DETECTOR = "entry/instrument/detector"


def master(folder: Path, *, electrons: bool = False, centre: tuple[float, float] = (0.0, 0.0), pad: int = 0) -> Path:
    """A Dectris master with two data files."""
    frames = np.pad(COUNTS, ((0, 0), (0, pad), (pad, 2 * pad)))
    for number, part in ((1, frames[:7]), (2, frames[7:])):
        with h5py.File(folder / f"s_data_{number:06d}.h5", "w") as file:
            file["entry/data/data"] = part
    with h5py.File(folder / "s_master.h5", "w") as file:
        for number in (1, 2):
            file[f"entry/data/data_{number:06d}"] = h5py.ExternalLink(f"s_data_{number:06d}.h5", "entry/data/data")
        mask = np.zeros(frames.shape[1:], np.uint32)
        mask[2, 3 + pad] = 8
        file[f"{DETECTOR}/detectorSpecific/pixel_mask"] = mask
        energy = 3e5 if electrons else 9e3
        file[f"{DETECTOR}/detectorSpecific/photon_energy"] = energy
        file[f"{DETECTOR}/detectorSpecific/photon_energy"].attrs["units"] = "eV"
        file[f"{DETECTOR}/description"] = "Dectris ARINA Si" if electrons else "Dectris EIGER2 1M"
        for name, value in (("detector_distance", 1.5), ("x_pixel_size", 75e-6), ("y_pixel_size", 75e-6)):
            file[f"{DETECTOR}/{name}"] = value
            file[f"{DETECTOR}/{name}"].attrs["units"] = "m"
        file[f"{DETECTOR}/beam_center_y"], file[f"{DETECTOR}/beam_center_x"] = centre
    return folder / "s_master.h5"


def test_a_master_reads_its_data_files(tmp_path: Path) -> None:
    scan = diptych.load(master(tmp_path), scan_columns=4, scan_step=3.0)
    assert np.array_equal(scan.counts, COUNTS)
    assert scan.positions[:5].tolist() == [[0, 0], [0, 3], [0, 6], [0, 9], [3, 0]]
    assert np.argwhere(~scan.mask).tolist() == [[2, 3]]
    assert (scan.geometry.energy_eV, scan.geometry.distance_m) == (9e3, 1.5)


def test_electrons_of_an_arina_are_electrons(tmp_path: Path) -> None:
    scan = diptych.load(master(tmp_path, electrons=True), scan_columns=4, scan_step=3.0)
    assert scan.geometry.particle == "electron"
    assert scan.geometry.wavelength_m == pytest.approx(1.9687e-12, rel=1e-4)


def test_frames_that_are_not_square_are_cut_around_the_beam(tmp_path: Path) -> None:
    path = master(tmp_path, centre=(8.0, 13.0), pad=5)
    scan = diptych.load(path, scan_columns=4, scan_step=3.0)
    assert np.array_equal(scan.counts, COUNTS)
    small = diptych.load(path, scan_columns=4, scan_step=3.0, frame_size=8)
    assert np.array_equal(small.counts, COUNTS[:, 4:12, 4:12])
    unknown = master(tmp_path, pad=5)
    with pytest.raises(InputError, match="--centre-y"):
        diptych.load(unknown, scan_columns=4, scan_step=3.0)
    with pytest.raises(InputError, match="leaves the frames"):
        diptych.load(unknown, scan_columns=4, scan_step=3.0, frame_size=16, centre_y=3, centre_x=3)


def test_sentinels_and_saturated_pixels_are_masked(tmp_path: Path) -> None:
    path = master(tmp_path)
    with h5py.File(tmp_path / "s_data_000001.h5", "r+") as file:
        file["entry/data/data"][3, 5, 6] = 2**32 - 1
        file["entry/data/data"][4, 7, 8] = 70_000
    with h5py.File(path, "r+") as file:
        file[f"{DETECTOR}/saturation_value"] = 60_000
    scan = diptych.load(path, scan_columns=4, scan_step=3.0)
    assert not scan.mask[3, 5, 6]
    assert not scan.mask[4, 7, 8]
    assert int((~scan.mask).sum()) == M + 2


def test_a_missing_data_file_is_named_before_anything_else(tmp_path: Path) -> None:
    path = master(tmp_path)
    (tmp_path / "s_data_000002.h5").unlink()
    with pytest.raises(InputError, match=r"s_data_000002\.h5, which is missing"):
        diptych.load(path)


def test_frames_without_positions_say_what_to_pass(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"12 frames .* no scan positions.*--positions FILE.*--scan-columns"):
        diptych.load(master(tmp_path))
    with pytest.raises(InputError, match="a multiple of 5"):
        diptych.load(master(tmp_path), scan_columns=5, scan_step=1.0)


def test_nanomax(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "scan_1_eiger1m.hdf5", "w") as file:
        file["entry/instrument/eiger/data"] = COUNTS
    line = np.arange(M) * 0.1
    with h5py.File(tmp_path / "000001.h5", "w") as file:
        file["entry/measurement/eiger1m/frames"] = h5py.ExternalLink(
            "scan_1_eiger1m.hdf5", "entry/instrument/eiger/data"
        )
        file["entry/measurement/xspress3"] = h5py.ExternalLink("absent.hdf5", "entry")
        file["entry/measurement/pseudo/x"], file["entry/measurement/pseudo/y"] = line, 2 * line
        file["entry/snapshots/pre_scan/energy"] = np.array([9e3])
    with pytest.raises(InputError, match="--distance-m"):
        diptych.load(tmp_path / "000001.h5")
    scan = diptych.load(tmp_path / "000001.h5", distance_m=1.5, detector_pixel_m=75e-6)
    assert np.array_equal(scan.counts, COUNTS)
    assert scan.positions[:, 0] == pytest.approx(2 * line * 1e-6 / scan.pixel_m[0])


@pytest.mark.parametrize("key", ["eh5/images", "exchange/data"])
def test_frames_with_positions_of_a_table(tmp_path: Path, key: str) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file[key] = COUNTS
    rows = "\n".join(f"{number},{number * 2},{number * 3}" for number in range(2, 20))
    (tmp_path / "p.csv").write_text(f"trigger,y_px,x_px\n{rows}\n")
    scan = diptych.load(tmp_path / "f.h5", positions=str(tmp_path / "p.csv"))
    assert np.array_equal(scan.counts, COUNTS[2:])
    assert scan.positions[0].tolist() == [4, 6]
    said = " ".join(scan.metadata["conversions"])
    assert "2 patterns without a position, left out: frame 0, 1" in said
    assert "8 positions without a pattern, not used: frame 12, 13" in said


def write_empad(folder: Path, name: str = "scan_x4_y3.raw") -> np.ndarray:
    frames = rng.uniform(0, 50, (M, 130, 128)).astype("<f4")
    frames[:, 128:] = -7.0
    (folder / name).write_bytes(frames.tobytes())
    return frames[:, :128]


XML = """<root name="a"><pix_x>4</pix_x><pix_y>3</pix_y><raw_file filename="C:\\data\\scan_x4_y3.raw"/>
<scan_parameters mode="search"><scan_resolution_x>64</scan_resolution_x></scan_parameters>
<scan_parameters mode="acquire"><scan_resolution_x>4</scan_resolution_x><scan_resolution_y>3</scan_resolution_y>
<scan_size>0.5</scan_size></scan_parameters><iom_measurements><source.get_voltage>300000.0</source.get_voltage>
<optics.get_full_scan_field_of_view>[4e-9, 3e-9]</optics.get_full_scan_field_of_view>
<calibrated_diffraction_angle>0.0004</calibrated_diffraction_angle></iom_measurements></root>"""


def test_empad_by_its_raw_file_and_by_its_xml(tmp_path: Path) -> None:
    frames = write_empad(tmp_path)
    with pytest.raises(InputError, match=r"raster of 3 x 4 patterns.*--scan-step"):
        diptych.load(tmp_path / "scan_x4_y3.raw")
    stepped = diptych.load(tmp_path / "scan_x4_y3.raw", scan_step=2.0)
    assert np.array_equal(stepped.counts, frames)
    assert stepped.positions[4].tolist() == [2, 0]
    (tmp_path / "about.xml").write_text(XML)
    for name in ("scan_x4_y3.raw", "about.xml"):
        scan = diptych.load(tmp_path / name)
        assert np.array_equal(scan.counts, frames)
        # The object pixel is wavelength / (N * angle per pixel).
        assert scan.pixel_m[0] == pytest.approx(1.96875e-12 / (128 * 4e-4), rel=1e-4)
        steps = np.array([3e-9 * 0.5 / 3, 4e-9 * 0.5 / 4]) / scan.pixel_m
        assert scan.positions[5] == pytest.approx(steps)


def test_hostile_xml_and_raw_files(tmp_path: Path) -> None:
    write_empad(tmp_path)
    path = tmp_path / "about.xml"
    path.write_text('<!DOCTYPE r [<!ENTITY a "b">]><root><raw_file filename="scan_x4_y3.raw"/>&a;</root>')
    with pytest.raises(InputError, match="never expanded"):
        diptych.load(path)
    path.write_text('<root><raw_file filename="../../etc/secret.raw"/></root>')
    with pytest.raises(InputError, match=r"secret\.raw, which are not in its folder"):
        diptych.load(path)
    path.write_text("<root><raw_file")
    with pytest.raises(InputError, match="not valid XML"):
        diptych.load(path)
    raw = tmp_path / "scan_x4_y3.raw"
    raw.write_bytes(raw.read_bytes()[:-4])
    with pytest.raises(InputError, match=r"scan_x4_y3\.raw"):
        diptych.load(raw)


def test_a_data_cube_of_py4dstem(tmp_path: Path) -> None:
    cube = COUNTS.reshape(3, 4, N, N)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["authoring_program"], file.attrs["emd_group_type"] = "emdfile", "file"
        group = file.create_group("datacube_root/datacube")
        file["datacube_root"].attrs["emd_group_type"] = "root"
        group["data"] = cube
        for number, (step, unit) in enumerate(((0.4, "nm"), (0.8, "nm"), (0.05, "A^-1"), (0.05, "A^-1"))):
            group[f"dim{number}"] = np.array([0.0, step])
            group[f"dim{number}"].attrs["units"] = unit
    scan = diptych.load(tmp_path / "a.h5")
    pixel = 1e-10 / (N * 0.05)
    assert scan.positions[5] == pytest.approx([0.4e-9 / pixel, 0.8e-9 / pixel])
    assert scan.pixel_m is None
    electrons = diptych.load(tmp_path / "a.h5", energy_eV=80e3)
    assert electrons.geometry.particle == "electron"
    assert electrons.pixel_m == pytest.approx([pixel, pixel])
    assert electrons.positions == pytest.approx(scan.positions)


def test_every_file_of_the_field_loads_or_says_what_is_missing(
    measured_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = measured_data / "formats"
    files = sorted(path for path in folder.iterdir() if path.suffix != ".md")
    # What their data files hold is missing in these, or anything at all.
    empty = {"diamond_NXmx_Therm_6_2.nxs", "diamond_xrc_209_master.h5", "nanomax_000008.h5"}
    empty |= {"ncem_au_microprobe_01_master.h5", "nxdl_NXcxi_ptycho_auto.hdf5", "rsciio_empad_map4x4.xml"}
    kinds = {"aps_2xfm_0011.mda": "positions", "ptypy090_cnm.ptyr": "result", "ptypy090_cnm.ptyd": "scan"}
    kinds |= {"ptychoshelves_probe_PSI.mat": "probe", "csaxs_eiger_4_valid_mask.h5": "image"}
    kinds |= {"ours_foldslice_data_roi0_Ndp128_para.hdf5": "positions", "ptychodus170_diffraction.cxi": "incomplete"}
    for path in files:
        code = run(["info", str(path), "--json"])
        shown = capsys.readouterr()
        assert code == (2 if path.name in empty else 0), path.name
        if code == 2:
            assert path.name in shown.err
            assert "expected" in shown.err or "missing" in shown.err
            assert "--layout-template" in shown.out + shown.err or path.suffix == ".xml", path.name
        else:
            assert json.loads(shown.out)["kind"] == kinds.get(path.name, json.loads(shown.out)["kind"])


def test_real_files_load_with_what_the_message_asks_for(measured_data: Path, tmp_path: Path) -> None:
    folder = measured_data / "formats"
    frame = {"scan_columns": 1, "scan_step": 3.0, "centre_y": 1000, "centre_x": 1000, "frame_size": 256}
    eiger = diptych.load(folder / "hdf5plugin_bitshuffle.h5", **frame)
    assert 0 < (~eiger.mask).sum() < eiger.mask.size / 2
    cxs = diptych.load(
        folder / "csaxs_ptycho_00000.h5", **{**frame, "centre_y": 250, "centre_x": 500, "frame_size": 128}
    )
    assert cxs.counts.shape == (1, 128, 128)
    stem = diptych.load(folder / "ours_empad_scan_x4_y4.raw", scan_step=4.0, clip_negative=True)
    assert stem.counts.shape == (16, 128, 128)
    shutil.copy(folder / "ours_empad_scan_x4_y4.raw", tmp_path / "scan_x4_y4.raw")
    shutil.copy(folder / "rsciio_empad_map4x4.xml", tmp_path)
    assert diptych.load(tmp_path / "rsciio_empad_map4x4.xml").geometry.energy_eV == 3e5
    prismatic = diptych.load(folder / "rsciio_prismatic_Si100_4D.emd")
    assert prismatic.geometry.energy_eV == 1e5
    assert prismatic.positions[12] == pytest.approx(np.array([0.5, 0.5]) / (5.43 / 8), rel=1e-3)


def test_the_five_forms_of_one_scan_agree(measured_data: Path) -> None:
    folder = measured_data / "formats"
    patterns = folder / "ptychodus170_diffraction.cxi"
    scans = [
        diptych.load(folder / "ptypy090_cnm.ptyd"),
        diptych.load(folder / "cdtools032_cnm.cxi"),
        diptych.load(folder / "ours_foldslice_data_roi0_Ndp128_dp.hdf5"),
        diptych.load(patterns, positions=str(folder / "ptychodus170_product.cxi")),
        diptych.load(patterns, positions=str(folder / "ptychodus170_product.h5")),
    ]
    first = scans[0].positions - scans[0].positions.mean(0)
    for scan in scans[1:]:
        assert np.array_equal(scan.counts, scans[0].counts)
        assert scan.positions - scan.positions.mean(0) == pytest.approx(first, abs=5e-3)
        assert scan.geometry.energy_eV == pytest.approx(9000, rel=1e-6)
