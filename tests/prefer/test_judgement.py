"""Frames, candidates and judgements: errors for wrong values, and conversion to and from JSON."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.errors import InputError
from diptych.prefer.judgement import Candidate, Frame, Judgement, Report, image_hash

FRAME = Frame(
    "a lake", "fog", "tiny", 64, 48, 4, 1.5, "Euler", 3, (("torch", "2.6"), ("numpy", "2.0")), "cpu", "float32", 1
)

numbers = st.floats(allow_nan=False, allow_infinity=False)
frames = st.builds(
    Frame,
    st.text(),
    st.text(),
    st.text(),
    st.integers(0, 4096),
    st.integers(0, 4096),
    st.integers(0, 100),
    numbers,
    st.text(),
    st.integers(),
    st.lists(st.tuples(st.text(), st.text()), max_size=3).map(tuple),
)


def candidate(name: str = "a", **fields: object) -> Candidate:
    return Candidate(np.ones(4, dtype=np.float32), FRAME, id=name, **fields)  # type: ignore[arg-type]


@given(frames, frames)
def test_frames_survive_json_and_keys_tell_them_apart(one: Frame, two: Frame) -> None:
    assert Frame.from_json(one.to_json()) == one
    assert (one.key == two.key) == (one == two)
    assert set(one.key) <= set("0123456789abcdef")
    assert len(one.key) == 16


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "is a list; expected a JSON object"),
        ("{", "is not JSON"),
        ("{}", "has no prompt"),
        ('{"prompt": "a", "width": "64"}', "'width' of a frame: is '64'"),
        ('{"prompt": "a", "colour": 1}', "has the field 'colour'"),
        ('{"prompt": null}', "'prompt' of a frame: is None"),
    ],
)
def test_a_frame_from_bad_json_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("[", r"\[")):
        Frame.from_json(text)


def test_a_guidance_without_decimals_is_a_number_too() -> None:
    assert Frame.from_json('{"prompt": "a", "guidance": 7}').guidance == 7.0


def test_differences_name_the_fields() -> None:
    other = Frame("a lake", "", "tiny", 64, 64, steps=9)
    assert FRAME.differences(other) == ("negative_prompt", "height")
    assert FRAME.differences(other, ("steps", "model")) == ("steps",)


def test_nobody_can_change_what_a_candidate_holds() -> None:
    latent, image = np.ones(4, dtype=np.float32), np.zeros((2, 3, 3), dtype=np.uint8)
    shown = Candidate(latent, FRAME, image)
    latent[0], image[0, 0, 0] = 5, 5
    assert shown.latent[0] == 1
    assert shown.image is not None
    assert shown.image[0, 0, 0] == 0
    for array in (shown.latent, shown.image):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    assert shown.dimension == 4


def test_a_latent_is_float32_whatever_is_given() -> None:
    assert Candidate([1.0, 2.0], FRAME).latent.dtype == np.float32  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("latent", "image", "message"),
    [
        (np.ones((2, 2)), None, r"shape \(2, 2\); expected \(d,\)"),
        (np.array([1.0, np.nan]), None, "expected .* finite"),
        (np.array([1e39]), None, "finite"),
        (np.zeros(0), None, r"shape \(0,\)"),
        (np.ones(2), np.zeros((2, 2, 3)), "float64 of shape"),
        (np.ones(2), np.zeros((2, 2), dtype=np.uint8), r"expected uint8 of shape \(H, W, 3\)"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_a_candidate_of_the_wrong_shape_is_refused(latent: np.ndarray, image: np.ndarray | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Candidate(latent, FRAME, image)


def test_constructors_put_the_winner_first() -> None:
    a, b, c = (candidate(name) for name in "abc")
    assert Judgement.rate(a, good=False).value == 0
    assert Judgement.rate("a", True, 2.5).weight == 2.5
    assert Judgement.pair(b, a).ids == ("b", "a")
    assert Judgement.choose(b, [a, b, c]).ids == ("b", "a", "c")
    assert Judgement.choose(b, [c]).kind == "best"
    assert Judgement.stars(a, 4).value == 4
    assert (Judgement.tie(a, b).kind, Judgement.skip(a).kind) == ("tie", "skip")
    assert Judgement.rate(a, True).time.endswith("Z")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Judgement.stars("a", 6), "value = 6; expected 1 to 5"),
        (lambda: Judgement.stars("a", 0), "value = 0"),
        (lambda: Judgement.stars("a", 2.5), "value = 2.5"),
        (lambda: Judgement.rate("a", True, 0.0), "weight = 0; expected a number from 1e-06 to 100"),
        (lambda: Judgement.rate("a", True, float("nan")), "weight = nan"),
        (lambda: Judgement.rate("", True), "without id; expected candidates that were shown"),
        (lambda: Judgement.pair("a", "a"), "names a, a; expected two different candidates"),
        (lambda: Judgement.choose("a", []), "at least two different candidates"),
        (lambda: Judgement.choose("a", ["b", "b"]), "names a, b, b"),
        (lambda: Judgement("rate", ("a", "b"), 1), "expected one candidate"),
        (lambda: Judgement("love", ("a",)), "kind = 'love'; expected one of rate"),
        (lambda: Judgement("pair", ("a", "b"), 1), "value = 1; expected 0 to 0"),
    ],
)
def test_a_judgement_that_says_nothing_clear_is_refused(make: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()  # type: ignore[operator]


def test_judgements_survive_json() -> None:
    for said in (Judgement.choose("a", ["b", "c"], 0.25), Judgement.stars("ä", 2), Judgement.skip("x")):
        assert Judgement.from_json(said.to_json()) == said
    with pytest.raises(InputError, match="expected kind, ids, value, weight, time"):
        Judgement.from_json('{"kind": "skip"}')


def test_the_hash_of_an_image_is_of_its_pixels_and_shape() -> None:
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert image_hash(image) == image_hash(np.asfortranarray(image))
    assert image_hash(image) != image_hash(image.reshape(4, 2, 3))
    changed = image.copy()
    changed[1, 3, 2] ^= 1
    assert image_hash(changed) != image_hash(image)


def test_a_report_reads_as_one_line() -> None:
    report = Report(5, {"other prompt": 2}, {"steps": 1})
    assert str(report) == "5 judgements used; 2 not used (other prompt); 1 used with other steps"


def test_the_package_loads_its_names_on_first_use() -> None:
    code = (
        "import sys, diptych.prefer as p; assert 'numpy' not in sys.modules; "
        "assert p.Judgement.skip('a').ids == ('a',); p.Ledger"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    import diptych.prefer

    with pytest.raises(AttributeError, match="no attribute 'nonesuch'"):
        _ = diptych.prefer.nonesuch
