"""A reconstruction that was tuned by eye: the run from the YAML file is the tile that was chosen."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import diptych
from diptych.prefer.decoders.reconstruction import ReconstructionDecoder, picture
from diptych.prefer.exchange.pictures import load_picture
from diptych.ptycho.engines.flags.base import known_kinds
from diptych.ptycho.engines.options import ReconstructionOptions

Cli = Callable[..., Any]


@pytest.mark.slow
def test_the_run_from_the_settings_file_is_the_chosen_tile(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = diptych.simulate(object="blocks", size=16, patterns=36, step=3.0, dose=1e4, probe_error=0.5, seed=0)
    diptych.save(scan, "scan.npz")
    monkeypatch.setattr(sys, "stdin", io.StringIO("2\nq\n"))
    first = ("--decoder", "reconstruction", "--scan", "scan.npz", "--batch", 2, "--shared", "{seed: 3, drop: 3-5}")
    assert cli("prefer", "label", "tune", *first).code == 0
    assert cli("prefer", "best", "tune", "--out", "tune.png").code == 0
    assert cli("reconstruct", "scan.npz", "--config", "tune.yaml", "--run", "run").code == 0
    tile, made = load_picture(Path("tune.png")), diptych.load("run/result.h5")
    settings = yaml.safe_load(Path("tune.yaml").read_text(encoding="utf-8"))
    assert (settings["seed"], settings["drop"]) == (3, "3-5")
    shared = ReconstructionOptions(seed=3, drop="3-5")
    decoder = ReconstructionDecoder("scan.npz", options=shared)
    result = decoder.result(tile.latent)
    np.testing.assert_array_equal(made.object.values, result.object.values)
    fits = {name: made.provenance[name] for name in ("fit", "held_out_fit")}
    measured = dict(tile.provenance["measured"])
    assert measured.pop("flags") == known_kinds(made.flags)
    assert measured == pytest.approx(fits)
    np.testing.assert_array_equal(made.probe, result.probe)
    np.testing.assert_array_equal(made.positions, result.positions)
    assert tile.image is not None
    np.testing.assert_array_equal(picture(made, decoder._box, decoder._scale).image, tile.image)
