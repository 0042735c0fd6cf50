"""What ``diptych prefer`` prints for a person: counts, names of screens and images, doubts, and commands to copy."""

from __future__ import annotations

import io
import re
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import diptych
from diptych.cli.prefer.label import _since
from diptych.prefer import Ledger, Session
from diptych.prefer.utility.linear_gp import LinearGP

Cli = Callable[..., Any]

NEW = ("--dimension", 256, "--prompt", "a lake")


def answer(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(line + "\n" for line in lines)))


def names(text: str) -> list[str]:
    """The ids of the first images of the screens that were printed."""
    return re.findall(r"^1  image (\S+)", text, re.MULTILINE)


def titles(text: str) -> list[str]:
    return re.findall(r"^(screen .*|images? \d.*)$", text, re.MULTILINE)


@pytest.fixture
def photo() -> str:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 48, 3), dtype=np.uint8)).save("my photo.png")
    return "my photo.png"


# counts


def test_skips_are_counted_apart(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "g1 b2", "s", "u", "s", "q")
    done = cli("prefer", "label", "s", *NEW, "--batch", 3)
    assert "[screen 2; 2 judgements so far] >" in done.out
    assert "[screen 3; 2 judgements, 3 skips so far] >" in done.out
    assert "taken back: 0 judgements, 3 skips of screen 2" in done.out
    assert re.search(r"judgements +2, 2 more than before\s+skips +3, 3 more than before", done.out)
    assert "2 judgements used; 3 skips" in cli("prefer", "score", "s").out
    assert cli("prefer", "rows", "s", "--seconds", 0).out == "[rows] live=5 disk=5 disp=5 skips=3\n"
    head, line = cli("prefer", "sessions", ".").out.splitlines()
    assert dict(zip(head.split()[3:5], line.split()[4:6], strict=True)) == {"judgements": "2", "skips": "3"}


# how good the model is


@pytest.mark.parametrize("labels", [8, 60])
def test_chance_stands_beside_the_agreement_at_any_number_of_answers(cli: Cli, labels: int) -> None:
    assert cli("prefer", "simulate", "s", *NEW, "--labels", labels).code == 0
    with Ledger.open("s", read_only=True) as ledger:
        good = sum(said.judgement.value for said in ledger.judgements())
    out = cli("prefer", "score", "s", "--cross-validate").out
    for what in ("leave-one-out agreement:", "cross-validation "):
        assert re.search(rf"{what} *\d+ of {labels} \(chance: {max(good, labels - good)}\)", out), out


def test_values_of_few_judgements_are_said_to_be_in_doubt(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    doubt = "predicted values are not to be trusted yet"
    answer(monkeypatch, "q")
    assert doubt not in cli("prefer", "label", "s", *NEW).out  # there are no values
    answer(monkeypatch, "g1 b2", "g1 b2", "q")
    cli("prefer", "label", "s")
    answer(monkeypatch, "q")
    assert f"{doubt}: they rest on 4 judgements, fewer than 20" in cli("prefer", "label", "s").out
    assert doubt in cli("prefer", "best", "s", "--out", "best.png").out
    assert doubt in cli("prefer", "score", "s").out


# screens and images


def test_what_was_left_without_an_answer_comes_first(cli: Cli, monkeypatch: pytest.MonkeyPatch, photo: str) -> None:
    answer(monkeypatch, "g1", "q")
    waits = names(cli("prefer", "label", "s", *NEW, "--batch", 2).out)[-1]
    answer(monkeypatch, "q")
    assert names(cli("prefer", "label", "s").out) == [waits]
    own = cli("prefer", "upload", "s", "--image", photo, "--json").json["id"]
    answer(monkeypatch, "g", "g2", "q")
    done = cli("prefer", "label", "s")
    assert titles(done.out)[:2] == [
        "screen 3 (your upload), which has no answer yet",
        "screen 2, which has no answer yet",
    ]
    assert names(done.out)[:2] == [own, waits]
    with Ledger.open("s", read_only=True) as ledger:
        assert [said.judgement.ids[0] for said in ledger.judgements()] == ["000001-0", own, f"{waits[:-1]}1"]


@pytest.mark.parametrize(
    "lines",
    [
        ("g1", "g1", "u", "g1", "q"),
        ("g1", "s", "u", "g1 q"),
        ("g1", "g1", "a", "g2", "q"),
        ("g1", "g1", "a screen 1", "b2", "a", "q"),
        ("g1", "g1", "a image 000001-1", "b q"),
    ],
)
def test_a_screen_that_waits_behind_an_answer_to_another_comes_first(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, lines: tuple[str, ...]
) -> None:
    answer(monkeypatch, *lines)
    cli("prefer", "label", "s", *NEW, "--batch", 2)
    answer(monkeypatch, "q")
    assert titles(cli("prefer", "label", "s").out) == ["screen 3, which has no answer yet"]


def test_an_image_of_ones_own_that_was_judged_and_taken_back_comes_first_and_what_waits_is_listed(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, photo: str
) -> None:
    answer(monkeypatch, "g1", "g1", "u", "q")
    first = cli("prefer", "label", "s", *NEW, "--batch", 2)
    assert "come first, in this order" not in first.out
    own = cli("prefer", "upload", "s", "--image", photo, "--json").json["id"]
    answer(monkeypatch, "g", "u", "q")  # Judged and taken back; in front when the run ends.
    cli("prefer", "label", "s")
    answer(monkeypatch, "q")
    again = cli("prefer", "label", "s")
    assert names(again.out) == [own]
    order = "3 screens have no answer yet and come first, in this order: screen 4 (your upload), screen 2, screen 3"
    assert order in again.out


def test_screens_and_images_are_asked_for_as_they_are_printed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "g1", "g1", "a screen 1", "a image 000002-1", "a screen 9", "a 000009-0", "b", "u", "q")
    done = cli("prefer", "label", "s", *NEW, "--batch", 2)
    assert titles(done.out) == [
        "screen 1",
        "screen 2",
        "screen 3",
        "screen 1 again",
        "image 000002-1 again",
        "screen 3 again",
        "image 000002-1 again",
    ]
    assert "a screen 9: was not shown in this session" in done.out
    assert "a 000009-0: no image of this session has that id" in done.out
    assert "[image 000002-1; 2 judgements so far] >" in done.out
    assert "taken back: 1 judgement of image 000002-1" in done.out


def test_an_upload_whose_colours_are_lost_is_said_to_be(cli: Cli, photo: str) -> None:
    done = cli("prefer", "upload", "s", "--image", photo, *NEW)
    assert "The decoder synthetic has no encoder" in done.out
    assert "not its colours" in done.out


def test_judgements_of_another_model_are_counted_apart(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "g1 b2", "s", "q")
    cli("prefer", "label", "s", *NEW, "--batch", 2)
    answer(monkeypatch, "g1", "q")
    done = cli("prefer", "label", "s", "--prompt", "a hill")
    what = "0 judgements of this session count for this prompt and model; others do not: 4 (other prompt)"
    assert what in done.out
    assert "0 judgements so far]" in done.out
    assert "1 judgement so far]" in done.out
    assert "3, 1 more than before; 1 count for this prompt and model" in done.out


def test_values_say_when_they_are_older_than_the_last_answer(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "g1 b2", "q")
    first = cli("prefer", "label", "s", *NEW, "--batch", 2)
    assert "a new fit is running" not in first.out
    answer(monkeypatch, "g1 b2", "q")
    out = cli("prefer", "label", "s", "--fit-interval", 4).out
    before, _, after = out.partition("; 2 judgements so far] >")
    assert "a new fit is running" not in before
    assert "values of the fit of 2 judgements; a new fit is running" in after
    assert "they rest on 2 judgements" in after
    assert "; 4 judgements so far] >" in after


def test_a_screen_is_made_from_the_fit_to_the_last_answer(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit that takes 0.3 s: with the answer that it is fitted to, not with the one before."""
    fit, ask, known = LinearGP.fit, Session.ask, []

    def slow(self: LinearGP, *arguments: Any) -> Any:
        time.sleep(0.3)
        return fit(self, *arguments)

    def noted(self: Session, *arguments: Any) -> Any:
        known.append((self.ledger.position, self.state.fit_position))
        return ask(self, *arguments)

    monkeypatch.setattr(LinearGP, "fit", slow)
    monkeypatch.setattr(Session, "ask", noted)
    answer(monkeypatch, "g1 b2", "g2 b1", "q")
    cli("prefer", "label", "s", *NEW, "--batch", 2)
    assert len(known) == 3
    assert all(fitted == said for said, fitted in known[1:])


# commands to copy


def commands(text: str) -> list[str]:
    """The commands that a text names, each of which is alone on an indented line."""
    found = [line for line in text.splitlines() if "diptych " in line]
    assert all(line.startswith("  diptych ") for line in found), found
    return [line.strip() for line in found]


def test_every_command_that_is_printed_runs_as_it_is(cli: Cli, monkeypatch: pytest.MonkeyPatch, photo: str) -> None:
    answer(monkeypatch, "g1 b2", "q")
    shown = commands(cli("prefer", "label", "my lake", *NEW).out)
    shown += commands(cli("prefer", "upload", "my lake", "--image", photo).out)
    shown += commands(cli("prefer", "match", "my lake", "--image", photo, "--decodes", 2).out)
    assert [line.split()[2] for line in shown] == ["label", "best", "label", "label"]
    for line in shown:
        answer(monkeypatch, "q")
        assert cli(*shlex.split(line)[1:]).code == 0, line


def test_the_command_that_stores_an_option_of_one_run_runs_as_it_is(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for more in ((), ("--batch", 2, "--prompt", "my pond")):
        answer(monkeypatch, "q")
        done = cli("prefer", "label", "s", "--dimension", 256, *(more or ("--prompt", "a lake")))
    (store,) = commands(done.err)
    settings = cli(*shlex.split(store)[1:], "--json").json["settings"]
    assert (settings["batch"], settings["prompt"]) == (2, "my pond")


@pytest.mark.integration
def test_tiles_have_their_fit_and_the_command_for_their_settings(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    diptych.save(diptych.simulate(object="blocks", size=16, patterns=16, step=3.0, dose=1e3, seed=0), "my scan.npz")
    answer(monkeypatch, "g1 b2", "q")
    args = ("--decoder", "reconstruction", "--scan", "my scan.npz", "--batch", 2, "--threads", 1)
    done = cli("prefer", "label", "s", *args)
    tiles = re.findall(
        r"^[12]  image .* fit (\S+), held out ([\d.]+)(?:, flags: .*)?  likelihood=", done.out, re.MULTILINE
    )
    assert len(tiles) == 4
    assert "1 is shot noise alone" in done.out
    assert "underfitted" in done.out
    with Ledger.open("s", read_only=True) as ledger:
        measured = ledger.candidate("000001-0").provenance["measured"]
    assert tiles[0] == (f"{measured['fit']:.2f}", f"{measured['held_out_fit']:.2f}")
    (use,) = commands(cli("prefer", "best", "s", "--out", "best.png").out)
    again = cli(*shlex.split(use)[1:], "--run", "again", "--json").json
    kept = {"000001-0": tiles[0], "000001-1": tiles[1]}
    assert (f"{again['fit']:.2f}", f"{again['held_out_fit']:.2f}") in kept.values()


def test_the_file_that_is_offered_for_the_best_image_is_not_there_yet(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, "g1 b2", "q")
    (_, best) = commands(cli("prefer", "label", "s", *NEW, "--batch", 2).out)
    made = cli(*shlex.split(best)[1:])
    assert Path("s.png").is_file()
    assert "--seen chooses among those you have judged" in made.out
    answer(monkeypatch, "q")
    done = cli("prefer", "label", "s")
    (_, again) = commands(done.out)
    assert again.endswith("--out s-2.png")
    assert "--seen" in done.out
    assert cli(*shlex.split(again)[1:]).code == 0


def test_a_run_that_takes_back_earlier_answers_says_so() -> None:
    assert _since(12, 5) == "12, 7 more than before"
    assert _since(4, 5) == "4; this run took back 1"
