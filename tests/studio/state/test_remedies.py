"""Every note on a scan leads to buttons that answer it; the form shows every option that fits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import diptych
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.ptycho.io import LoadOptions
from diptych.runtime.option_fields import option_fields, option_names
from diptych.studio.context import Studio
from diptych.studio.options import StudioOptions
from diptych.studio.state.fields import fitting
from diptych.studio.state.reconstruct.page import ReconstructPage
from diptych.studio.state.reconstruct.remedies import CHECK, remedies_for

NOTES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "the counts are not whole numbers but their squares are: are they amplitudes? (domain='amplitude')": (
        {"domain": "amplitude"},
        {},
    ),
    "step usual: load with position_unit='um' (--position-unit um).": ({"position_unit": "um"}, {}),
    "is the mask inverted? (mask_means='bad')": ({"mask_means": "bad"}, {}),
    "there is no probe to start from; reconstruct with probe='estimate' (--probe estimate) or a file.": (
        {},
        {"probe": "estimate"},
    ),
    "an exact raster (step y 2, x 2 px). A spiral, or a known probe (probe='fixed') prevents it.": (
        {},
        {"probe": "fixed"},
    ),
    "2 frames without photons (or nearly): 3, 7-9.": ({}, {"drop": "3,7-9"}),
    "40 frames with far fewer photons than the frames around them: 1, 3, 5 and 28 more.": ({}, {"bad_frames": "keep"}),
    "7 counts at single pixels of 2 frames (cosmic rays?): 4, 5.": ({}, {"bad_frames": "keep"}),
    "2 hot pixels exceed their neighbours in nearly all frames: (y 1, x 2).": ({}, {"auto_mask": True}),
    "1 rows (y) are zero in all frames, beside bright ones: 4.": ({}, {"auto_mask": True}),
    "the largest count 255 repeats: the detector saturates there.": ({}, {"saturated": "limit"}),
    "the probe's energy lies at the corners of its array; expected it in the middle.": ({}, {"probe": "estimate"}),
    "the true object is flat: perhaps it is only a first guess (use_truth=False).": ({"use_truth": False}, {}),
}


@pytest.mark.parametrize("note", NOTES)
def test_a_note_has_a_button_that_answers_it(note: str) -> None:
    load, options = NOTES[note]
    found = remedies_for(note)
    assert any(each.load == load and each.options == options for each in found), found
    for each in found:
        LoadOptions.build(each.load)
        ReconstructionOptions.build(each.options)
    assert len({each.label for each in found}) == len(found)


def test_a_value_that_only_the_person_knows_is_asked_for() -> None:
    found = remedies_for("state it where it is known (--scale, photons per count).")
    assert [each.ask for each in found] == ["scale"]
    assert CHECK in remedies_for("3 positions repeat an earlier one.")


def test_moved_patterns_are_moved_back(tmp_path: Path) -> None:
    scan = diptych.simulate(object="blocks", size=32, patterns=36, step=4.0, seed=0)
    diptych.save(replace(scan, counts=np.roll(scan.counts, (5, -4), axis=(1, 2))), tmp_path / "moved.npz")
    page = ReconstructPage(Studio(StudioOptions(data=(tmp_path,))))
    (note,) = [each for each in page.open("moved.npz").notes if "centre of mass" in each]
    page.apply(remedies_for(note, page.load)[0])
    assert page.look is not None
    assert not any("centre of mass" in each for each in page.look.notes)
    assert page.load["move_y"] in (-4, -5, -6)
    assert page.load["move_x"] in (3, 4, 5)


def test_frames_that_are_dropped_one_after_another_add_up(tmp_path: Path) -> None:
    page = ReconstructPage(Studio(StudioOptions(data=(tmp_path,))))
    for note in ("1 frames without photons (or nearly): 3.", "2 frames with another shape than the patterns: 5, 6."):
        page.apply(remedies_for(note)[0])
    assert page.values["drop"] == "3,5,6"
    ReconstructionOptions.build(page.values)


def test_the_form_has_every_option_of_reconstruct_that_fits_the_engine() -> None:
    shown = [
        set(fitting(ReconstructionOptions, {"engine": name}))
        for name in ReconstructionOptions.registries["engine"].names()
    ]
    assert set.union(*shown) == set(option_names(ReconstructionOptions))
    assert set.intersection(*shown) >= set(ReconstructionOptions.model_fields)
    for field in option_fields(ReconstructionOptions):
        assert field.help not in ("", "None"), field.name
        assert any(field.name in each for each in shown)
    assert "momentum" not in fitting(ReconstructionOptions, {"engine": "dm"})
