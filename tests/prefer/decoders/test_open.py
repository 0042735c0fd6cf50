from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from diptych.errors import InputError, UnavailableError
from diptych.prefer.decoders import Decoder, DecoderKind, Reframes, cube_of, latent_shape, open_decoder
from diptych.prefer.decoders.base import BaseDecoder, Decoded, as_bytes
from diptych.prefer.decoders.protocols import start_of, with_frame
from diptych.prefer.decoders.synthetic import Synthetic
from diptych.prefer.judgement import Frame
from diptych.prefer.spaces.cube import Cube
from diptych.runtime import registry
from diptych.runtime.options import Options


class Plain(BaseDecoder):
    """Shows the first number of the latent as a grey."""

    def __init__(self, space: str = "cube", prompt: str = "") -> None:
        super().__init__("plain", space, 2, Frame(prompt, width=8, height=4))

    def _decode(self, latent: np.ndarray) -> Decoded:
        return as_bytes(np.full((4, 8, 3), latent[0], np.float32))


class PlainOptions(Options):
    space: str = "cube"


PLAIN = DecoderKind(
    "plain", "A grey.", PlainOptions, "cube", "optional", lambda options, prompt, _: Plain(options.space, prompt or "")
)


class Entry:
    name, value, dist = "plain", "elsewhere:PLAIN", None

    def load(self) -> DecoderKind:
        return PLAIN


class Broken(Entry):
    def load(self) -> DecoderKind:
        raise ModuleNotFoundError("No module named 'elsewhere'")


class Callable(Entry):
    def load(self) -> type:
        return Plain


def offer(monkeypatch: pytest.MonkeyPatch, entry: Entry) -> None:
    monkeypatch.setattr(registry, "offered", lambda group: [entry] if group == "diptych.decoders" else [])


def test_objects_and_entry_points_are_opened_as_names_are(monkeypatch):
    offer(monkeypatch, Entry())
    ready = Plain()
    assert open_decoder(ready) is ready
    named = open_decoder("plain", prompt="a", space="sphere")
    assert isinstance(named, Decoder)
    assert (named.frame.prompt, named.space) == ("a", "sphere")
    with pytest.raises(InputError, match=r"is an object, but prompt was given"):
        open_decoder(ready, prompt="a")


def test_what_is_no_decoder_is_refused(monkeypatch):
    with pytest.raises(InputError, match=r"decoder 'nothing': is not known; expected one of synthetic, diffusion, rem"):
        open_decoder("nothing")
    with pytest.raises(
        InputError, match="dict: is not a decoder: it has no name, space, dimension, frame, cost, decode"
    ):
        open_decoder({})
    with pytest.raises(
        InputError, match=r"decoder synthetic: unknown option 'colour'; expected one of decoder_seed, dim"
    ):
        open_decoder("synthetic", colour="red")
    offer(monkeypatch, Broken())
    with pytest.raises(UnavailableError, match=r"decoder 'plain' of elsewhere:PLAIN: cannot be loaded .*'elsewhere'"):
        open_decoder("plain")
    offer(monkeypatch, Callable())
    with pytest.raises(InputError, match=r"expected a .*DecoderKind"):
        open_decoder("plain")


def test_a_prompt_is_needed_only_where_it_matters():
    with pytest.raises(InputError, match=r"decoder diffusion: no prompt is given.*--prompt"):
        open_decoder("diffusion")
    with pytest.raises(InputError, match=r"decoder reconstruction: no scan is given.*--scan"):
        open_decoder("reconstruction")
    with pytest.raises(InputError, match=r"decoder remote: no address is given.*--url"):
        open_decoder("remote")
    assert open_decoder("synthetic").frame.prompt == ""


def test_optional_protocols_have_defaults():
    plain = Plain()
    assert (latent_shape(plain), cube_of(plain), start_of(plain).tolist()) == (None, Cube(), [0.5, 0.5])
    assert isinstance(Synthetic(256), Reframes)
    assert latent_shape(Synthetic(256)) == (4, 8, 8)
    with pytest.raises(InputError, match="decoder plain: cannot change prompt"):
        with_frame(plain, {"prompt": "b"})


def test_wrong_latents_are_refused_in_words():
    plain = Plain()
    with pytest.raises(InputError, match=r"latent for the decoder plain: has shape \(3,\); expected \(2,\)"):
        plain.decode(np.zeros(3))
    with pytest.raises(InputError, match="1 values that are not finite"):
        plain.decode([0.5, np.nan])
    with pytest.raises(InputError, match=r"values from -0\.5 to 1\.5; expected values from 0 to 1"):
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
