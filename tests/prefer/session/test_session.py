"""A session: what is asked for comes, what is told stays, and nothing slow happens in the caller."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from angles import angle_between
from diptych.errors import InputError, UnavailableError
from diptych.prefer import Candidate, Frame, Judgement, Session
from diptych.prefer.decoders.base import BaseDecoder, Decoded
from diptych.prefer.decoders.synthetic import Synthetic
from diptych.prefer.exchange.pictures import load_picture, save_picture, snippet
from diptych.prefer.exchange.predecessor import prompt_hash
from diptych.prefer.propose import Proposed, Situation
from diptych.prefer.propose.nei import EARLY, LOOKS, NoisyImprovement
from diptych.prefer.session.changes import Change
from diptych.prefer.session.folder import default_folder, sessions
from diptych.prefer.session.worker import BackgroundWorker
from diptych.prefer.spaces.sphere import prompt_anchor, typicality, usual_shape
from diptych.prefer.utility.baselines.ridge import Ridge

D = 256


def opened(folder: Path, **options: Any) -> Session:
    return Session.open(
        folder,
        options.pop("decoder", "synthetic"),
        **{"dimension": D, "prompt": "a lake", "synchronous": True, **options},
    )


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with opened(tmp_path / "s") as session:
        yield session


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Session]:
    with opened(tmp_path / "s", synchronous=False) as session:
        yield session


def taste(d: int = D) -> np.ndarray:
    direction = np.random.default_rng(7).standard_normal(d)
    return direction / np.linalg.norm(direction)


def judge(session: Session, screens: int, size: int = 4) -> list[Candidate]:
    """Rate by a linear taste: good is what beats the screen's mean."""
    seen: list[Candidate] = []
    for _ in range(screens):
        screen = session.ask(size)
        values = [float(candidate.latent @ taste(session.dimension)) for candidate in screen]
        for candidate, value in zip(screen, values, strict=True):
            session.tell(Judgement.rate(candidate, good=value > np.mean(values)))
        seen += screen
    return seen


class Slow(Synthetic):
    """A decoder that waits until it is let go on, and counts which threads decode."""

    def __init__(self, **options: Any) -> None:
        super().__init__(D, **options)
        self.go, self.threads = threading.Event(), set[int]()
        self.fails: Exception | None = None

    def decode(self, latent: Any) -> Any:
        assert self.go.wait(10)
        self.threads.add(threading.get_ident())
        if self.fails is not None:
            raise self.fails
        return super().decode(latent)


class SlowFit(Ridge):
    """A model whose fits wait until they are let go on."""

    def __init__(self) -> None:
        super().__init__()
        self.go, self.fits, self.fails = threading.Event(), 0, False
        self.threads = set[int]()

    def add(self, observations: Any, features: Any = None) -> str:
        assert self.go.wait(10)
        self.fits += 1
        self.threads.add(threading.get_ident())
        if self.fails:
            raise ValueError("no such luck")
        return super().add(observations, features)


def until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < limit, "it did not come to pass"
        time.sleep(0.002)


# Asking and telling


def test_a_screen_is_decoded_recorded_and_tells_where_it_comes_from(session: Session) -> None:
    screen = session.ask(3)
    assert [candidate.id for candidate in screen] == ["000001-0", "000001-1", "000001-2"]
    for candidate in screen:
        assert candidate.image is not None
        assert np.array_equal(candidate.image, session.decoder.decode(candidate.latent))
        kept = session.ledger.candidate(candidate.id)
        assert np.array_equal(kept.image, candidate.image)
        assert candidate.provenance["proposal"] == "tempered"
        assert candidate.provenance["key"] == [0, 0, 0]
        assert (candidate.provenance["fit"], candidate.provenance["position"]) == (0, 0)
        assert typicality(usual_shape(D)).passes(candidate.latent)
    session.tell(Judgement.rate(screen[0], good=True))
    position = session.ledger.position
    assert session.ask(1)[0].provenance["fit"] == position


def test_learning_shows_and_recommends_better_images(session: Session) -> None:
    seen = judge(session, 12)
    gained = np.array([candidate.latent @ taste() for candidate in seen])
    assert gained[-8:].mean() > gained[:8].mean() + 1
    assert session.best().latent @ taste() > 2.5
    judged = session.best(seen=True)
    assert judged.id in {candidate.id for candidate in seen}
    mean = session.score(seen)[0]
    assert judged.id == seen[int(np.argmax(mean))].id
    assert np.all(np.diff(session.step_scores(3, 0.2)) > 0)


def test_the_safe_best_is_of_highest_lower_bound(session: Session) -> None:
    seen = judge(session, 6)
    safe = session.best(safe=True)
    mean, spread = session.score([safe, session.best(), *seen])
    assert np.argmax(mean - spread) == 0 or np.isclose((mean - spread)[0], (mean - spread).max())


def test_synchronous_sessions_repeat_each_other(tmp_path: Path) -> None:
    def run(folder: Path, stop: int) -> np.ndarray:
        with opened(folder) as one:
            latents = [candidate.latent for candidate in judge(one, stop)]
        with opened(folder) as one:
            return np.stack([*latents, *(candidate.latent for candidate in judge(one, 4 - stop)), one.best().latent])

    first, again, resumed = run(tmp_path / "a", 4), run(tmp_path / "b", 4), run(tmp_path / "c", 2)
    assert first.tobytes() == again.tobytes()
    # A posterior that grew judgement by judgement and one that was learned at once agree to rounding.
    np.testing.assert_allclose(resumed, first, atol=1e-4)
    with opened(tmp_path / "d", seed=1) as another:
        assert not np.allclose(another.ask(4)[0].latent, first[0])


def test_undo_takes_back_what_was_learned(session: Session) -> None:
    screen = session.ask(4)
    for candidate in screen[:2]:
        session.tell(Judgement.rate(candidate, good=True))
    position = session.tell(Judgement.pair(screen[3], screen[2]))
    before = session.score(screen)[0]
    session.undo(position)
    assert session.rows == 2
    assert not np.allclose(session.score(screen)[0], before)
    session.undo()
    session.undo()
    assert np.isnan(session.score(screen)[0]).all()
    with pytest.raises(InputError, match="nothing to undo"):
        session.undo()


def test_images_shown_again_cost_no_decode_and_tell_of_the_person(session: Session) -> None:
    (first,) = session.ask(1)
    session.tell(Judgement.rate(first, good=True))
    cost, count = session.decoder.decode, 0

    def counted(latent: Any) -> Any:
        nonlocal count
        count += 1
        return cost(latent)

    session.decoder.decode = counted  # type: ignore[method-assign]
    (again,) = session.show(first)
    assert (again.id, again.screen, count) == (first.id, 2, 0)
    session.tell(Judgement.rate(again, good=False))
    (other,) = session.ask(1)
    session.tell(Judgement.tie(first, other))
    scores = session.scores()
    assert (scores.itself.hits, scores.itself.total) == (0, 1)
    assert "repeated ratings that agree: 0 of 1" in str(scores)


def test_scores_say_what_more_labels_would_add(session: Session) -> None:
    assert session.scores().advice is None
    judge(session, 6)
    scores = session.scores()
    assert scores.train is not None
    assert scores.left_out is not None
    assert scores.left_out.total == scores.train.total == 24
    assert scores.advice is not None
    assert scores.advice.gain > 0


def test_cross_validation_is_kept_until_something_changes(session: Session) -> None:
    judge(session, 2)
    first = session.cross_validate()
    assert session.cross_validate() is first
    session.tell(Judgement.rate(session.ask(1)[0], good=True))
    assert session.cross_validate().digest != first.digest


def test_nothing_is_known_before_something_was_said(session: Session) -> None:
    screen = session.ask(2)
    assert session.state.status == "untrained"
    assert np.isnan(session.score(screen)[0]).all()
    assert np.isnan(session.step_scores(2, 0.1)).all()
    with pytest.raises(InputError, match=r"no best image yet \(untrained\)"):
        session.best()


# Settings


def test_a_session_is_resumed_as_it_was(tmp_path: Path) -> None:
    with opened(tmp_path / "s", utility="ridge", proposal="around", seed=4) as session:
        judge(session, 1)
    with Session.open(tmp_path / "s", synchronous=True) as session:
        state = session.state
        assert (state.utility, state.proposal, session.frame.prompt, session.dimension) == (
            "ridge",
            "around",
            "a lake",
            D,
        )
        assert (session.rows, session.options.seed) == (4, 4)
    with Session.open(tmp_path / "s", utility="cosine", synchronous=True) as session:
        assert session.state.scorer == "cosine (ok, rows=4)"


def test_another_prompt_starts_anew_and_may_be_guided(tmp_path: Path) -> None:
    with opened(tmp_path / "s") as session:
        judge(session, 8)
        learned = session.fitted
    assert learned is not None
    with opened(tmp_path / "s", prompt="a hill") as session:
        session.ask(1)
        assert session.fitted is None
        assert "32 not used (other prompt)" in session.state.report
    with opened(tmp_path / "s", prompt="a wood", warm_start="a lake") as session:
        screen = session.ask(4)
        assert screen[0].provenance["warm_start"] == "a lake"
        assert np.mean([candidate.latent @ learned.direction() for candidate in screen]) > 3
        assert session.fitted is None
        judge(session, 1)
        assert "warm_start" not in session.ask(1)[0].provenance


def test_sessions_are_listed_the_last_one_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPO_DATA_ROOT", str(tmp_path))
    assert default_folder("a lake") == tmp_path / prompt_hash("a lake")
    assert sessions() == []
    for prompt in ("a lake", "a hill"):
        with opened(default_folder(prompt), prompt=prompt) as session:
            judge(session, 1, size=1)
    found = {one.prompt: one for one in sessions()}
    assert set(found) == {"a lake", "a hill"}
    assert (found["a hill"].rows, found["a hill"].decoder) == (1, "synthetic")


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        ({"utility": "magic"}, "utility model 'magic': is not known"),
        ({"proposal": "magic"}, "proposal 'magic': is not known"),
        ({"decoder": "magic"}, "decoder 'magic' is not known"),
        ({"batch": 0}, "batch = 0"),
        ({"width": 64}, "width"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_wrong_settings_are_named_and_nothing_is_kept(tmp_path: Path, options: dict[str, Any], phrase: str) -> None:
    with pytest.raises(InputError, match=phrase):
        opened(tmp_path / "s", **options)
    assert not (tmp_path / "s" / "session.json").exists()


def test_options_of_a_decoder_that_is_replaced_are_dropped(tmp_path: Path) -> None:
    with opened(tmp_path / "s", proposal="around", angle=0.5) as session:
        assert session.options.own("proposal").angle == 0.5
        assert session.options.own("decoder").dimension == D
    with Session.open(tmp_path / "s", proposal="line", synchronous=True) as session:
        assert (session.dimension, session.options.own("proposal").span) == (D, np.pi / 2)
    with pytest.raises(InputError, match=r"angle is not an option of .*; it belongs to proposal around"):
        opened(tmp_path / "s", angle=0.5)


def test_a_session_without_a_prompt_keeps_that_of_its_images(tmp_path: Path) -> None:
    with opened(tmp_path / "s", prompt="as it was") as session:
        judge(session, 1)
    path = tmp_path / "s" / "session.json"
    # Earlier versions had a default prompt, and did not store it.
    path.write_text('{"decoder": "synthetic", "dimension": 256}', encoding="utf-8")
    with Session.open(tmp_path / "s", synchronous=True) as session:
        assert session.frame.prompt == "as it was"
        assert session.state.report == "4 judgements used"
    assert [one.prompt for one in sessions(tmp_path)] == ["as it was"]
    with opened(tmp_path / "t", prompt=None) as session:
        assert session.frame.prompt == ""
    with pytest.raises(InputError, match=r"no prompt is given.*--prompt"):
        Session.open(tmp_path / "u", "diffusion")
    with pytest.raises(InputError, match="neither a folder nor a prompt"):
        default_folder(None)


def test_damaged_settings_are_named(tmp_path: Path) -> None:
    opened(tmp_path / "s").close()
    (tmp_path / "s" / "session.json").write_text("{")
    with pytest.raises(InputError, match=r"session\.json: cannot be read"):
        Session.open(tmp_path / "s")


def test_objects_serve_in_the_place_of_names(tmp_path: Path) -> None:
    with Session.open(tmp_path / "s", Synthetic(D, prompt="a bird"), utility=Ridge(), synchronous=True) as session:
        judge(session, 1)
        assert session.frame.prompt == session.options.prompt == "a bird"
        assert session.state.scorer == "ridge (ok, rows=4)"


def test_proposals_move_from_the_start_that_is_wished(tmp_path: Path) -> None:
    with opened(tmp_path / "s", proposal="around", start=5) as session:
        seeded = np.random.default_rng(5).standard_normal(D)
        (one,) = session.ask(1)
        assert angle_between(one.latent, seeded) == pytest.approx(0.8, abs=1e-3)
        assert one.provenance["start_seed"] == 5
        session.start_from(one)
        (two,) = session.ask(1)
        assert angle_between(two.latent, one.latent) == pytest.approx(0.8, abs=1e-3)
        assert two.provenance["start"] == one.id
        session.start_from(None)
        assert angle_between(session.ask(1)[0].latent, prompt_anchor("a lake", D)) == pytest.approx(0.8, abs=1e-3)
        with pytest.raises(InputError, match=r"start: has shape \(3,\)"):
            session.start_from(np.ones(3))


class Settings(BaseDecoder):
    """A cube of three numbers and a category of two; best at 0.7 and the second value."""

    def __init__(self) -> None:
        super().__init__("settings", "cube", 5, Frame("x", width=8, height=8))
        self.categories, self.flats = (slice(0, 2),), ()
        self.start = np.array([1, 0, 0.5, 0.5, 0.5], np.float32)

    def _decode(self, latent: np.ndarray) -> Decoded:
        return Decoded((np.resize(latent, (8, 8, 3)) * 255).astype(np.uint8))


def loss(candidate: Candidate) -> float:
    return float(((candidate.latent[2:] - 0.7) ** 2).sum() + 0.2 * candidate.latent[0])


def search(session: Session, screens: int) -> list[Candidate]:
    """Choose the best of every screen; rate the first bad and the last good, too."""
    seen: list[Candidate] = []
    for _ in range(screens):
        screen = sorted(session.ask(4), key=loss)
        session.tell(Judgement.choose(screen[0], screen))
        session.tell(Judgement.stars(screen[-1], 1))
        seen += screen
    return seen


class Uniform:
    name = "uniform"

    def propose(self, situation: Situation, count: int, rng: np.random.Generator) -> list[Proposed]:
        return [Proposed(rng.random(situation.dimension).astype(np.float32)) for _ in range(count)]


@pytest.mark.integration
def test_a_cube_begins_with_its_usual_settings_and_has_parts_of_its_own(tmp_path: Path) -> None:
    with Session.open(tmp_path / "s", Settings(), synchronous=True) as session:
        assert (session.state.utility, session.state.proposal, session.state.status) == (
            "surface",
            "thompson",
            "untrained",
        )
        with pytest.raises(InputError, match="no best image yet"):
            session.best()
        seen = search(session, 6)
        assert any(np.array_equal(one.latent, Settings().start) for one in seen[:4])
        assert len({one.latent.tobytes() for one in seen}) == 24
        assert all(one.latent[:2].tolist() in ([0, 1], [1, 0]) for one in seen)
        assert session.state.scorer == "surface (ok, rows=12)"
        best = session.best()
        assert best.id in {one.id for one in seen}, "nothing is extrapolated in a cube"
        assert best.id == session.best(seen=True).id
        assert loss(best) <= sorted(map(loss, seen))[5]
        assert session.best(safe=True).id in {one.id for one in seen}
        assert np.argmax(session.score(seen)[0]) == [one.id for one in seen].index(best.id)
        along = session.step_scores(3, 0.05)
        assert along.shape == (3,)
        assert np.isfinite(along).all()
        assert session.scores().left_out is not None
        assert session.cross_validate(4).agreement.total > 0
        assert loss(session.queue.take()) < 1
        session.undo()
        assert session.rows == 11


def test_a_session_on_a_cube_is_the_same_again_and_after_a_pause(tmp_path: Path) -> None:
    runs = []
    for name in ("a", "b"):
        with Session.open(tmp_path / name, Settings(), synchronous=True) as session:
            runs.append(search(session, 3))
            after = session.ask(4)
    assert all(np.array_equal(one.latent, other.latent) for one, other in zip(*runs, strict=True))
    with Session.open(tmp_path / "b", Settings(), synchronous=True) as session:
        assert session.state.rows == 6
        mean = session.score(after)[0]
        again = Session.open(tmp_path / "a", Settings(), synchronous=True)
        assert np.allclose(again.score(after)[0], mean, atol=1e-6)
        again.close()


def test_settings_that_an_earlier_run_showed_are_not_proposed_again_although_nobody_judged_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    propose = NoisyImprovement.propose

    def noted(self: NoisyImprovement, situation: Situation, *arguments: Any) -> list[Proposed]:
        given.append(situation.given)
        return propose(self, situation, *arguments)

    monkeypatch.setattr(NoisyImprovement, "propose", noted)
    with Session.open(tmp_path / "s", Settings(), synchronous=True) as session:
        seen = search(session, 2)
    with Session.open(tmp_path / "s", Settings(), synchronous=True) as session:
        new = session.ask(4)
    assert {point.tobytes() for point in given[-1]} == {one.latent.tobytes() for one in seen}
    assert not {one.latent.tobytes() for one in new} & {one.latent.tobytes() for one in seen}


def test_pictures_are_looked_at_ahead_and_none_is_made_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, decoded = Settings(), []
    monkeypatch.setattr(
        decoder, "_decode", lambda latent: decoded.append(latent.tobytes()) or Settings._decode(decoder, latent)
    )
    with Session.open(tmp_path / "s", decoder, synchronous=True) as session:
        seen = search(session, 3)
        assert len(decoded) == EARLY * len(seen), "evenly spread points come first"
        seen += search(session, 2)
        assert len(decoded) == len(set(decoded)) == 12 * EARLY + 2 * 4 * LOOKS
        assert {one.latent.tobytes() for one in seen} <= set(decoded)
        scores = session.score(seen)
    with Session.open(tmp_path / "s", decoder, synchronous=True) as session:
        assert np.allclose(session.score(seen), scores, atol=1e-9), "what was judged is read back from the ledger"
        assert len(decoded) == 12 * EARLY + 2 * 4 * LOOKS


def test_another_prompts_pictures_of_the_same_settings_are_not_taken_for_this_ones(tmp_path: Path) -> None:
    other = Settings()
    other._frame = Frame("y", width=8, height=8)
    with Session.open(tmp_path / "s", other, synchronous=True) as session:
        seen = search(session, 2)
    with Session.open(tmp_path / "s", Settings(), warm_start="y", synchronous=True) as session:
        session.ask(1)
        assert session._previews is not None
        known = session._previews._features
        assert not [one for one in seen if one.latent in known and not np.array_equal(one.latent, Settings().start)]


def noise_images(session: Session, count: int, seed: int = 0) -> None:
    """Decode images of random settings, and show none."""
    for latent in np.random.default_rng(seed).random((count, 5)):
        session.decode(latent)


def test_images_decoded_after_a_fit_do_not_change_it_and_a_resumed_session_has_the_same(tmp_path: Path) -> None:
    points = np.random.default_rng(1).random((20, 5)).astype(np.float32)
    plain = [Candidate(point, Settings().frame) for point in points]
    with Session.open(tmp_path / "s", Settings(), synchronous=True) as session:
        shown = search(session, 4)
        fitted = session.fitted
        assert fitted is not None
        before, scores, own = fitted.score(points), session.score(plain), session.score(shown)
        noise_images(session, 40)
        assert session.fitted is fitted
        assert np.array_equal(fitted.score(points), before)
        assert np.array_equal(session.score(plain), scores)
        assert np.array_equal(session.score(shown), own)
        assert [event.kind for event in session.ledger.events()].count("preview") > 40
        with Session.open(tmp_path / "s", Settings(), synchronous=True) as resumed:
            assert np.allclose(resumed.score(plain), scores, atol=1e-9)
            assert np.allclose(resumed.score(shown), own, atol=1e-9)
        session.tell(Judgement.rate(shown[0], good=True))
        after = session.score(plain)
    assert not np.allclose(after, scores, atol=1e-6), "the next fit uses them"
    with Session.open(tmp_path / "s", Settings(), synchronous=True) as resumed:
        assert np.allclose(resumed.score(plain), after, atol=1e-9)


def test_previews_of_another_process_are_used(tmp_path: Path) -> None:
    with Session.open(tmp_path / "s", Settings(), synchronous=True) as session:
        shown = search(session, 4)
        with Session.open(tmp_path / "s", Settings(), synchronous=True) as other:
            noise_images(other, 10, seed=3)
        session.tell(Judgement.rate(shown[0], good=True))
        mean = session.score(shown)[0]
        assert session._previews is not None
        assert np.random.default_rng(3).random((10, 5))[0] in session._previews._features
    with Session.open(tmp_path / "s", Settings(), synchronous=True) as resumed:
        assert np.allclose(resumed.score(shown)[0], mean, atol=1e-9)


def test_pictures_ahead_of_what_is_said_differ(tmp_path: Path) -> None:
    with Session.open(tmp_path / "s", Settings(), queue=4) as session:
        search(session, 3)
        session.wait()
        taken = [session.queue.take(timeout=10) for _ in range(6)]
        assert len({one.latent.tobytes() for one in taken}) == 6


def test_a_queue_shows_the_usual_settings_once(tmp_path: Path) -> None:
    with Session.open(tmp_path / "s", Settings(), queue=3) as session:
        taken = [session.queue.take(timeout=10) for _ in range(4)]
        assert [np.array_equal(one.latent, Settings().start) for one in taken] == [True, False, False, False]


def test_parts_for_the_other_space_are_refused_by_name(tmp_path: Path) -> None:
    sphere, cube = (
        "'surface': is for settings in a cube; .* the decoder synthetic",
        ": is for latents on a sphere; .* the decoder settings",
    )
    with pytest.raises(InputError, match=f"utility {sphere}.* Choose 'contrastive'"):
        opened(tmp_path / "a", utility="surface")
    with pytest.raises(InputError, match=r"proposal 'thompson': is for settings in a cube.* Choose 'tempered'"):
        opened(tmp_path / "a", proposal="thompson")
    with pytest.raises(InputError, match=f"utility 'ridge'{cube}.* Choose 'surface'"):
        Session.open(tmp_path / "a", Settings(), utility="ridge")
    with pytest.raises(InputError, match=f"utility 'ridge'{cube}"):
        Session.open(tmp_path / "a", Settings(), utility=Ridge())
    with pytest.raises(InputError, match=f"proposal 'tempered'{cube}.* Choose 'thompson'"):
        Session.open(tmp_path / "a", Settings(), proposal="tempered")
    with Session.open(tmp_path / "b", Settings(), proposal=Uniform(), synchronous=True) as session:
        first, second = session.ask(2)
        session.tell(Judgement.pair(second, first))
        assert session.best().id == second.id


def test_a_start_in_a_cube_lies_in_it(tmp_path: Path) -> None:
    with Session.open(tmp_path / "s", Settings(), start=3, synchronous=True) as session:
        first = session.ask(1)[0]
        assert first.provenance["start_seed"] == 3
        assert first.latent.min() >= 0
        assert first.latent.max() <= 1
        assert sorted(first.latent[:2].tolist()) == [0, 1]
        with pytest.raises(InputError, match="start: has values from 0 to 2; expected settings: values from 0 to 1"):
            session.start_from([0, 1, 2, 0, 0])


# Behind the caller's back


def test_neither_fits_nor_decodes_run_in_the_caller(tmp_path: Path) -> None:
    decoder, model = Slow(prompt="x"), SlowFit()
    decoder.go.set()
    model.go.set()
    with Session.open(tmp_path / "s", decoder, utility=model) as session:
        judge(session, 2)
        session.wait()
        session.best()
        session.queue.take()
        assert len(decoder.threads) == len(model.threads) == 1
        assert threading.get_ident() not in decoder.threads | model.threads
        assert decoder.threads != model.threads


def test_telling_waits_for_no_fit_and_no_fit_is_started_twice(tmp_path: Path) -> None:
    model = SlowFit()
    with opened(tmp_path / "s", synchronous=False, utility=model) as session:
        screen = session.ask(6)
        session.tell(Judgement.rate(screen[0], good=True))
        until(lambda: session.state.running == ("fit",))
        for candidate in screen[1:]:
            session.tell(Judgement.rate(candidate, good=False))
        assert session.state.status == "training"
        assert session.state.waiting == ()
        assert session.rows == 6
        with pytest.raises(UnavailableError, match="still running"):
            session.wait(0.01)
        model.go.set()
        session.wait()
        assert model.fits == 2
        assert session.state.scorer == "ridge (ok, rows=6)"
        assert session.state.report == "6 judgements used"


def test_prefetched_images_are_handed_over_while_a_fit_and_a_decode_run(tmp_path: Path) -> None:
    decoder, model = Slow(prompt="x"), SlowFit()
    decoder.go.set()
    with Session.open(tmp_path / "s", decoder, utility=model, queue=3) as session:
        first = session.queue.take()
        until(lambda: session.queue.ready == 3)
        decoder.go.clear()
        session.tell(Judgement.rate(first, good=True))
        taken = [session.queue.take(timeout=5) for _ in range(3)]
        until(lambda: set(session.state.running) == {"fit", "decode ahead"})
        assert [candidate.screen for candidate in taken] == [2, 3, 4]
        assert (session.queue.ready, session.queue.coming) == (0, 3)
        with pytest.raises(UnavailableError, match="no image is ready"):
            session.queue.take(timeout=0)
        decoder.go.set()
        model.go.set()
        until(lambda: session.queue.ready == 3)
        assert session.queue.coming == 0


def test_queued_images_are_proposed_when_their_decode_starts(behind: Session) -> None:
    judge(behind, 1)
    behind.wait()
    position = behind.ledger.position
    assert behind.queue.take().provenance["fit"] in range(1, position + 1)


def test_an_image_that_somebody_waits_for_comes_before_those_made_ahead(tmp_path: Path) -> None:
    decoder = Slow(prompt="x")
    with Session.open(tmp_path / "s", decoder) as session:
        session.queue.fill()
        until(lambda: session.state.running == ("decode ahead",))
        asker = threading.Thread(target=session.ask, args=(2,))
        asker.start()
        until(lambda: session.state.waiting[:1] == ("decode a screen of 2",))
        decoder.go.set()
        asker.join(10)
        assert session.ledger.position == 1


def test_what_a_decode_raises_reaches_the_person_and_the_session_goes_on(tmp_path: Path) -> None:
    decoder = Slow(prompt="x")
    decoder.go.set()
    decoder.fails = UnavailableError("no memory is left")
    with Session.open(tmp_path / "s", decoder) as session:
        with pytest.raises(UnavailableError, match="no memory"):
            session.ask(1)
        with pytest.raises(UnavailableError, match="no memory"):
            session.queue.take()
        until(lambda: session.queue.coming == 0)
        decoder.fails = None
        assert session.ask(1)[0].image is not None


def test_a_fit_that_fails_is_told_and_the_next_may_work(tmp_path: Path) -> None:
    model = SlowFit()
    model.go.set()
    model.fails = True
    with opened(tmp_path / "s", synchronous=False, utility=model) as session:
        screen = session.ask(2)
        session.tell(Judgement.rate(screen[0], good=True))
        with pytest.raises(UnavailableError, match=r"ValueError: no such luck"):
            session.wait()
        assert session.state.status == "unavailable: no such luck"
        model.fails = False
        session.tell(Judgement.rate(screen[1], good=False))
        session.wait()
        assert session.state.status == "ok"


def test_fits_keep_their_distance(tmp_path: Path) -> None:
    model = SlowFit()
    model.go.set()
    with opened(tmp_path / "s", synchronous=False, utility=model, fit_interval=60.0) as session:
        screen = session.ask(2)
        session.tell(Judgement.rate(screen[0], good=True))
        session.wait()
        session.tell(Judgement.rate(screen[1], good=False))
        until(lambda: session.state.delayed)
        assert model.fits == 1
    assert model.fits == 1


def test_a_resumed_session_proposes_by_what_was_said_before(tmp_path: Path) -> None:
    with opened(tmp_path / "s") as session:
        judge(session, 4)
    with opened(tmp_path / "s", synchronous=False) as session:
        assert session.ask(1)[0].provenance["fit"] > 0


def test_judgements_of_another_process_are_learned_from(behind: Session) -> None:
    screen = behind.ask(2)
    with opened(behind.ledger.folder, synchronous=False) as other:
        other.tell(Judgement.pair(screen[0], screen[1]))
    assert behind.rows == 1
    behind.ask(1)
    behind.wait()
    assert behind.state.report == "1 judgement used"


def test_changes_are_reported_until_the_callback_is_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found: list[tuple[str, int, int]] = []
    with opened(tmp_path / "s", synchronous=False) as session:

        def broken(change: Change) -> None:
            raise ValueError("not my day")

        session.on_change(broken)
        stop = session.on_change(lambda change: found.append((change.kind, change.position, threading.get_ident())))
        (one,) = session.ask(1)
        position = session.tell(Judgement.rate(one, good=True))
        session.wait()
        session.undo()
        session.wait()
        until(lambda: [kind for kind, *_ in found].count("fit") == 2)
        assert {kind for kind, *_ in found} == {"decode", "judgement", "fit", "undo"}
        assert ("judgement", position) in {each[:2] for each in found}
        assert threading.get_ident() not in {thread for *_, thread in found}
        assert "not my day" in caplog.text
        stop()
        count = len(found)
        session.ask(1)
        assert len(found) == count


def test_a_closed_session_says_so_and_closes_twice(behind: Session) -> None:
    behind.queue.take()
    behind.close()
    behind.close()
    for call in (behind.ask, behind.queue.take, lambda: behind.rows):
        with pytest.raises(InputError, match="closed"):
            call()


def test_what_was_loaded_for_a_session_alone_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Any] = []
    monkeypatch.setattr(Synthetic, "close", lambda decoder: closed.append(decoder), raising=False)
    own = Synthetic(D, prompt="x")
    Session.open(tmp_path / "s", own).close()
    assert closed == []
    with opened(tmp_path / "t") as session:
        decoder = session.decoder
    assert closed == [decoder]


def test_a_session_that_is_forgotten_ends_its_threads(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    session = opened(tmp_path / "s", synchronous=False)
    judge(session, 1)
    session.wait()
    assert set(threading.enumerate()) > before
    gone = weakref.ref(session)
    del session
    gc.collect()
    assert gone() is None
    until(lambda: set(threading.enumerate()) <= before)


ASK = """
import sys
from diptych.prefer import Session
folder, d, proposal = sys.argv[1], int(sys.argv[2]), sys.argv[3]
with Session.open(folder, "synthetic", dimension=d, prompt="a lake", synchronous=False, proposal=proposal) as session:
    session.wait()
    for candidate in (each for _ in range(3) for each in session.ask(2)):
        print(candidate.latent.tobytes().hex())
"""


@pytest.mark.parametrize("proposal", ["tempered", "line"])
def test_two_processes_never_propose_the_same_latent(tmp_path: Path, proposal: str) -> None:
    with opened(tmp_path / "s") as session:
        judge(session, 2)
    command = [sys.executable, "-c", ASK, str(tmp_path / "s"), str(D), proposal]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    found = [line for worker in workers for line in worker.communicate(timeout=120)[0].split()]
    assert len(set(found)) == len(found) == 12


def test_the_most_urgent_job_is_done_first_and_the_rest_cancelled() -> None:
    worker, go, order = BackgroundWorker("test"), threading.Event(), []
    first = worker.submit("first", lambda: go.wait(10))
    later = [
        worker.submit(str(urgency), lambda urgency=urgency: order.append(urgency), urgency) for urgency in (2, 1, 0)
    ]
    until(lambda: worker.running == "first")
    assert worker.waiting == ("0", "1", "2")
    go.set()
    for job in later:
        job.result(10)
    assert order == [0, 1, 2]
    assert first.done()
    go.clear()
    worker.submit("at hand", lambda: go.wait(10))
    until(lambda: worker.running == "at hand")
    rest = worker.submit("rest", order.clear)
    threading.Timer(0.05, go.set).start()
    worker.close()
    assert rest.cancelled()


def test_closing_does_not_wait_for_a_decode_that_cannot_be_stopped(tmp_path: Path) -> None:
    """What Ctrl-C does while an image is made: the decode is abandoned, and its decoder closed when it has ended."""
    slow, closed = Slow(), threading.Event()
    session = Session.open(tmp_path / "s", slow)
    job = session._decoding.submit("decode", lambda: slow.decode(np.ones(D, np.float32)))
    until(lambda: session._decoding.running == "decode")
    began = time.monotonic()
    session.close()
    assert time.monotonic() - began < 1.0
    assert not job.done()
    session._decoding.at_end(closed.set)
    assert not closed.is_set()
    slow.go.set()
    assert closed.wait(10)
    assert job.result(10).ndim == 3


# Pictures


def test_a_saved_picture_holds_what_makes_it_again(session: Session, tmp_path: Path) -> None:
    judge(session, 3)
    best = session.best()
    path = session.save_best(tmp_path / "best.png")
    back = load_picture(path)
    assert back.latent.tobytes() == best.latent.tobytes()
    assert back.frame == session.frame
    assert np.array_equal(back.image, session.decode(back.latent).image)
    assert back.provenance["proposal"] == "best"
    session.start_from(back)


def test_pictures_without_or_with_damaged_latents_are_refused(session: Session, tmp_path: Path) -> None:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    (candidate,) = session.ask(1)
    image = Image.fromarray(candidate.image)
    image.save(tmp_path / "plain.png")
    with pytest.raises(InputError, match="image without latent"):
        load_picture(tmp_path / "plain.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(InputError, match="not a readable PNG"):
        load_picture(tmp_path / "text.png")
    for text in ("{", "[]", '{"latent": "?", "frame": {}, "provenance": {}}', '{"latent": "AAA", "frame": {}}'):
        chunks = PngInfo()
        chunks.add_itxt("diptych", text)
        image.save(tmp_path / "bad.png", pnginfo=chunks)
        with pytest.raises(InputError, match="damaged"):
            load_picture(tmp_path / "bad.png")
    with pytest.raises(InputError, match=r"expected \.png"):
        save_picture(candidate, tmp_path / "best.jpg")
    with pytest.raises(InputError, match="no image to save"):
        save_picture(Candidate(candidate.latent, candidate.frame), tmp_path / "best.png")


def test_the_snippet_reads_the_latent_back(session: Session, tmp_path: Path) -> None:
    (candidate,) = session.ask(1)
    path = save_picture(candidate, tmp_path / "one.png")
    frame = Frame(
        "a 'lake'",
        model="some/turbo",
        width=128,
        height=64,
        steps=2,
        scheduler="EulerDiscreteScheduler",
        dtype="float32, sliced",
    )
    code = snippet(Candidate(candidate.latent, frame), path, "lake")
    compile(code, "snippet", "exec")
    reading = code.split("import diffusers")[0]
    names: dict[str, Any] = {}
    exec(reading, names)
    assert names["latent"].tobytes() == candidate.latent.tobytes()
    assert "torch.float32" in code
    assert "sliced" not in code
    compile(snippet(candidate, path, "lake"), "snippet", "exec")
