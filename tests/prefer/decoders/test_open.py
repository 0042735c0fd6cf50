from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import numpy as np
import pytest

from diptych.errors import InputError, UnavailableError
from diptych.prefer import decoders
from diptych.prefer.decoders import Decoder, open_decoder
from diptych.prefer.decoders.base import BaseDecoder, Decoded, as_bytes
from diptych.prefer.judgement import Frame


class Plain(BaseDecoder):
    """Shows the first number of the latent as a grey."""

    def __init__(self, space: str = "cube", prompt: str = "") -> None:
        super().__init__("plain", space, 2, Frame(prompt, width=8, height=4))

    def _decode(self, latent: np.ndarray) -> Decoded:
        return as_bytes(np.full((4, 8, 3), latent[0], np.float32))


class Entry:
    name, value = "plain", "elsewhere:Plain"

    def load(self) -> type:
        return Plain


class Broken(Entry):
    def load(self) -> type:
        raise ModuleNotFoundError("No module named 'elsewhere'")


def offer(monkeypatch: pytest.MonkeyPatch, entry: Entry) -> None:
    monkeypatch.setattr(decoders, "entry_points", lambda group: [entry] if group == "diptych.decoders" else [])


def test_objects_and_entry_points_are_opened_as_names_are(monkeypatch):
    offer(monkeypatch, Entry())
    ready = Plain()
    assert open_decoder(ready) is ready
    named = open_decoder("plain", prompt="a")
    assert isinstance(named, Decoder)
    assert named.frame.prompt == "a"
    with pytest.raises(InputError, match=r"comes ready made, but prompt was given"):
        open_decoder(ready, prompt="a")


def test_what_is_no_decoder_is_refused(monkeypatch):
    with pytest.raises(
        InputError,
        match=r"there is no decoder 'nothing'; expected one of synthetic, diffusion, remote, reconstruction, or",
    ):
        open_decoder("nothing")
    with pytest.raises(InputError, match="dict is no decoder: it has no name, space, dimension, frame, cost, decode"):
        open_decoder({})
    with pytest.raises(InputError, match=r"'synthetic' cannot be opened .*'colour'.* takes dimension, prompt"):
        open_decoder("synthetic", colour="red")
    offer(monkeypatch, Broken())
    with pytest.raises(
        UnavailableError, match=r"'plain' \(elsewhere:Plain\) cannot be loaded: No module named 'elsewhere'"
    ):
        open_decoder("plain")


def test_real_entry_points_are_looked_up():
    assert decoders.entry_points is importlib.metadata.entry_points


def test_wrong_latents_are_refused_in_words():
    plain = Plain()
    with pytest.raises(InputError, match=r"latent has shape \(3,\); the decoder plain expects \(2,\)"):
        plain.decode(np.zeros(3))
    with pytest.raises(InputError, match="1 values that are not finite"):
        plain.decode([0.5, np.nan])
    with pytest.raises(InputError, match=r"spans -0\.5 to 1\.5; .* from 0 to 1"):
        plain.decode([-0.5, 1.5])
    assert Plain("sphere").decode([-0.5, 1.5]).shape == (4, 8, 3)


def test_a_decode_is_timed_and_recorded_and_its_flaws_are_named(caplog):
    plain = Plain()
    assert np.isnan(plain.cost)
    assert plain.last is None
    assert np.all(plain.decode([0.0, 1.0]) == 0)
    assert plain.cost > 0
    assert plain.last.flaw == "black"
    assert "the image is black" in caplog.text
    assert (plain.last.latent_mean, plain.last.latent_std, plain.last.shape) == (0.5, 0.5, (2,))
    plain.decode([0.5, 0.5])
    assert plain.last.flaw == "flat"
    assert (plain.last.image_min, plain.last.image_max) == (128, 128)


def test_values_that_are_not_finite_become_black_and_are_told():
    decoded = as_bytes(np.array([[[np.nan, np.inf, 0.25]]]))
    assert not decoded.finite
    assert decoded.image.tolist() == [[[0, 0, 64]]]


def test_nothing_heavy_is_imported_before_a_decoder_is_opened():
    code = (
        "import sys, diptych.prefer.decoders, diptych.prefer.decoders.pipelines, diptych.prefer.decoders.diffusion, "
        "diptych.prefer.decoders.remote, diptych.prefer.decoders.reconstruction, diptych.prefer.decoders.tiny\n"
        "diptych.prefer.decoders.open_decoder('synthetic', dimension=256)\n"
        "print([name for name in ('torch', 'diffusers', 'transformers', 'matplotlib', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
