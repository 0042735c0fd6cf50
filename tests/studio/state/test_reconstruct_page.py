"""The state of the Reconstruct page: reading, remedies, presets, confined options, runs, exports."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import diptych
from diptych.errors import InputError
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.ptycho.io import LoadOptions
from diptych.ptycho.repeat import command_line, python
from diptych.studio.context import Studio
from diptych.studio.options import StudioOptions
from diptych.studio.state import jobs as runs
from diptych.studio.state.reconstruct.export import KINDS, export
from diptych.studio.state.reconstruct.look import Look
from diptych.studio.state.reconstruct.page import ReconstructPage
from diptych.studio.state.reconstruct.presets import PRESETS
from diptych.studio.state.reconstruct.remedies import remedies_for
from diptych.studio.state.uploads import safe_name


@pytest.fixture
def page(tmp_path: Path) -> Iterator[ReconstructPage]:
    scan = diptych.simulate(object="blocks", size=16, patterns=36, step=2.0, seed=0)
    diptych.save(scan, tmp_path / "scan.npz")
    studio = Studio(StudioOptions(data=(tmp_path,)))
    yield ReconstructPage(studio)
    studio.close()


def test_a_scan_is_read_described_and_drawn(page: ReconstructPage) -> None:
    look = page.open("scan.npz")
    assert look.about["patterns"] == 36
    counts = look.scan.counts
    np.testing.assert_allclose(look.totals, counts.sum((1, 2)))
    for data in (look.frame(0), look.frame(35), look.mean_pattern(), look.probe()):
        assert data is not None
        assert Image.open(io.BytesIO(data)).size == (512, 512)
    with pytest.raises(InputError):
        look.frame(36)
    points = look.positions_chart()["series"][0]["data"]
    assert [point[:2] for point in points] == [[x, y] for y, x in look.scan.positions.tolist()]


def test_a_scan_that_is_read_twice_at_once_keeps_how_it_was_asked_to_be_read(
    page: ReconstructPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that is loaded again opens the scan anew while another tab asks to swap its axes."""
    page.open("scan.npz")
    at, begun, go_on = Look.at, threading.Event(), threading.Event()

    def slowly(path: Path, load: LoadOptions) -> Look:
        if not begun.is_set():
            begun.set()
            assert go_on.wait(20)
        return at(path, load)

    monkeypatch.setattr(Look, "at", slowly)
    with ThreadPoolExecutor(2) as threads:
        again = threads.submit(page.open, "scan.npz")
        assert begun.wait(20)
        swapped = threads.submit(page.reread, {"swap_xy": True})
        # Without waiting for each other, the second one would be done first, and the first one undo it.
        wait([swapped], timeout=0.3)
        go_on.set()
        again.result(20)
        swapped.result(20)
    assert page.load == {"swap_xy": True}
    assert page.revision == 3


def test_masked_pixels_count_nothing_and_are_drawn_red(page: ReconstructPage) -> None:
    look = page.open("scan.npz")
    target = page.save_masked([(0, 4, 0, 16), (10, 12, 3, 5)])
    assert page.look is not None
    assert page.look.path == target
    mask = page.look.scan.mask
    assert mask is not None
    assert not mask[..., :4, :].any()
    assert not mask[..., 10:12, 3:5].any()
    assert mask[..., 4:10, :].all()
    assert page.look.totals[0] == pytest.approx(np.where(mask, look.scan.counts[0], 0).sum())
    picture = np.asarray(Image.open(io.BytesIO(page.look.mean_pattern())))
    assert tuple(picture[0, 0]) == (200, 60, 40)
    assert tuple(picture[-1, -1]) != (200, 60, 40)
    for box in ((0, 17, 0, 4), (4, 4, 0, 4), (0, 16, 0, 16), (-1, 3, 0, 3)):
        with pytest.raises(InputError):
            page.save_masked([box])


def test_notes_lead_to_remedies_that_answer_them(page: ReconstructPage, tmp_path: Path) -> None:
    scan = page.open("scan.npz").scan
    corner = replace(scan, counts=np.fft.ifftshift(scan.counts, axes=(1, 2)))
    diptych.save(corner, tmp_path / "corner.npz")
    look = page.open("corner.npz")
    remedies = [remedy for note in look.notes for remedy in remedies_for(note)]
    corner_centred = next(each for each in remedies if "corner_centred" in each.load)
    page.apply(corner_centred)
    assert page.look is not None
    np.testing.assert_array_equal(page.look.scan.counts, scan.counts)


def test_a_reading_that_fails_leaves_the_one_before(page: ReconstructPage) -> None:
    look = page.open("scan.npz")
    with pytest.raises(InputError):
        page.reread({"orientation": 99})
    assert page.look is look
    assert page.load == {}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_valid_set_of_options(page: ReconstructPage, name: str) -> None:
    page.choose_preset(name)
    options = ReconstructionOptions.build(page.values)
    assert all(getattr(options, key) == value for key, value in PRESETS[name].values.items())


def test_a_preset_keeps_what_was_said_of_the_scan(page: ReconstructPage) -> None:
    page.values.update(prepare={"crop": 8}, auto_mask=True, epochs=3, modes=2)
    page.choose_preset("quick")
    assert page.values == {"prepare": {"crop": 8}, "auto_mask": True, **PRESETS["quick"].values}
    page.choose_preset("quick", anew=True)
    assert page.values == PRESETS["quick"].values


@pytest.mark.parametrize("bad", ["../secret.h5", "/etc/passwd"])
def test_no_option_names_a_file_outside(page: ReconstructPage, bad: str) -> None:
    page.open("scan.npz")
    for name in ("probe", "start"):
        page.values = {name: bad}
        with pytest.raises(InputError, match="outside the data folders"):
            page.start()
    page.values = {}
    with pytest.raises(InputError, match="outside the data folders"):
        page.reread({"positions": f"{bad}:/x"})
    for opening in (page.open, page.choose_model, page.show):
        with pytest.raises(InputError, match="outside the data folders"):
            opening(bad)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04broken", b"\x89HDF\r\n\x1a\n" + b"\0" * 64, b"<script>"])
def test_a_malformed_file_is_refused_with_a_message(page: ReconstructPage, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(InputError):
        page.open("bad.npz")
    assert page.look is None


@pytest.mark.integration
def test_a_run_starts_ends_and_is_exported_renamed_and_deleted(page: ReconstructPage, tmp_path: Path) -> None:
    page.open("scan.npz")
    with pytest.raises(InputError, match="no result"):
        page.start_resolution()
    page.values = {"epochs": 3, "engine": "rpie", "stop": False}
    job = page.start()
    with pytest.raises(InputError, match="under way"):
        page.start()
    assert job.wait(120)
    assert job.state == "done", job.error
    page.watch()
    assert page.result is not None
    assert not page.resumable
    fits = page.curve.chart({"fit": "fit"})["series"][0]["data"]
    assert [epoch for epoch, _ in fits] == list(range(1, len(fits) + 1))
    assert page.of_another_scan == ""
    (tmp_path / "other.npz").write_bytes((tmp_path / "scan.npz").read_bytes())
    page.open("other.npz")
    assert page.of_another_scan == "scan.npz"
    for kind in KINDS:
        export(page.result, kind, tmp_path / f"copy.{kind}")
        assert (tmp_path / f"copy.{kind}").stat().st_size
    pages = Image.open(tmp_path / "copy.tiff")
    pages.seek(1)
    phase = np.angle(diptych.load(page.result).object.values)
    np.testing.assert_allclose(np.asarray(pages), phase, atol=1e-6)
    studio = page.studio
    (line,) = runs.lines(studio)
    assert (line.state, line.folder) == ("done", page.run)
    assert "reconstruct" in runs.log_tail(line.folder)
    runs.export(studio, page.result.parent, tmp_path / "run.zip")
    assert zipfile.is_zipfile(tmp_path / "run.zip")
    for bad in ("", "../x", "a/b", ".hidden"):
        with pytest.raises(InputError):
            runs.rename(studio, page.result.parent, bad)
    with pytest.raises(InputError, match="not a run"):
        runs.delete(studio, tmp_path)
    moved = runs.rename(studio, page.result.parent, "kept one")
    assert moved.is_dir()
    runs.delete(studio, moved)
    assert not moved.exists()
    assert runs.lines(studio) == []
    assert (tmp_path / "scan.npz").exists()


def test_the_command_line_and_python_state_what_was_run() -> None:
    arguments = {
        "file": "my scan.npz",
        "run": "runs/a",
        "model": None,
        "load": {"swap_xy": True},
        "options": {"epochs": 5, "stop": False},
        "inference": {"network_batch": 8},
        "execution": {},
    }
    expected = "diptych reconstruct 'my scan.npz' --run runs/a --swap-xy --epochs 5 --no-stop --network-batch 8"
    assert command_line(arguments) == expected
    code = python(arguments)
    compile(code, "shown", "exec")
    assert "diptych.load('my scan.npz', swap_xy=True)" in code
    assert "ReconstructionOptions(epochs=5, stop=False)" in code
    assert "inference=InferenceOptions(network_batch=8)" in code


def test_names_of_uploads_lose_folders_and_markup() -> None:
    assert safe_name("../../etc/scan.npz") == "scan.npz"
    assert safe_name("C:\\data\\scan.h5") == "scan.h5"
    assert safe_name('<img src=x onerror="a()">.npz') == "_img_src_x_onerror__a____.npz"
    for bad in ("scan.py", "npz", "", ".bashrc"):
        with pytest.raises(InputError):
            safe_name(bad)
