"""The ledger: what was shown and said is there afterwards, whatever happens in between."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from diptych.errors import InputError
from diptych.prefer.judgement import Candidate, Frame, Judgement, Observations, image_hash
from diptych.prefer.ledger.ledger import Ledger

D = 32
FRAME = Frame("a lake", model="tiny", width=8, height=8, steps=4)


def latents(count: int, seed: int = 0, dimension: int = D) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype=np.uint8)


def show(ledger: Ledger, values: np.ndarray, frame: Frame = FRAME) -> tuple[Candidate, ...]:
    return ledger.show([Candidate(value, frame) for value in values])


def same(one: Observations, two: Observations) -> bool:
    arrays = np.array_equal(one.latents, two.latents) and np.array_equal(one.screen, two.screen)
    return arrays and one.terms == two.terms and one.ids == two.ids


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(tmp_path / "session")


def test_what_was_shown_comes_back_after_reopening(ledger: Ledger) -> None:
    values = latents(3)
    provenance = {"proposal": "tempered", "fit": 2, "key": [1, 2]}
    shown = ledger.show([Candidate(value, FRAME, picture(i), provenance=provenance) for i, value in enumerate(values)])
    assert [candidate.id for candidate in shown] == ["000001-0", "000001-1", "000001-2"]
    assert [(candidate.screen, candidate.slot) for candidate in shown] == [(1, 0), (1, 1), (1, 2)]
    ledger.close()
    with Ledger.open(ledger.folder, create=False) as again:
        for i, candidate in enumerate(shown):
            back = again.candidate(candidate.id)
            assert back.latent.tobytes() == values[i].tobytes()
            assert back.image is not None
            assert np.array_equal(back.image, picture(i))
            assert (back.frame, back.screen, back.slot, back.provenance) == (FRAME, 1, i, provenance)
            file = again.image_file(candidate.id)
            assert file is not None
            assert file.is_file()


def test_judgements_become_terms_in_the_order_in_which_they_were_made(ledger: Ledger) -> None:
    a, b, c, d = show(ledger, latents(4))
    (e,) = show(ledger, latents(1, seed=1))
    positions = [
        ledger.judge(said)
        for said in (Judgement.choose(c, [a, b, c]), Judgement.skip(e), Judgement.pair(e, a), Judgement.tie(d, e))
    ]
    ledger.judge(Judgement.stars(d, 4, weight=0.5))
    found = ledger.observations(FRAME, D)
    assert found.ids == (a.id, b.id, c.id, e.id, d.id)
    assert found.screen.tolist() == [1, 1, 1, 2, 1]
    assert np.array_equal(found.latents, np.stack([x.latent for x in (a, b, c, e, d)]))
    assert [term.rows for term in found.terms] == [(2, 0, 1), (3,), (3, 0), (4, 3), (4,)]
    assert [term.kind for term in found.terms] == ["best", "skip", "pair", "tie", "stars"]
    assert [term.screen for term in found.terms] == [1, 2, 2, 2, 1]
    assert [term.position for term in found.terms][:4] == positions
    assert (found.terms[4].value, found.terms[4].weight) == (4, 0.5)
    assert (found.report.used, found.report.skips, found.position) == (4, 1, ledger.position)
    assert str(found.report) == "4 judgements used; 1 skip"
    assert (ledger.rows, ledger.skips) == (5, 1)


def test_later_judgements_only_add_rows_at_the_end(ledger: Ledger) -> None:
    shown = [candidate for seed in range(5) for candidate in show(ledger, latents(4, seed))]
    order = np.random.default_rng(3).permutation(len(shown))
    before = ledger.observations(FRAME, D)
    kept = []
    for index in order:
        ledger.judge(Judgement.rate(shown[index], True))
        now = ledger.observations(FRAME, D)
        assert now.ids[:-1] == before.ids
        kept.append((now.latents, now.latents.copy()))
        before = now
    # Arrays given out earlier stay what they were, though later ones share their memory.
    assert all(np.array_equal(given, copy) for given, copy in kept)
    assert np.array_equal(before.latents, np.stack([shown[index].latent for index in order]))


def test_latents_of_a_fit_are_read_only_and_undo_removes_rows(ledger: Ledger) -> None:
    for seed in range(20):
        candidate = show(ledger, latents(1, seed))[0]
        ledger.judge(Judgement.rate(candidate, bool(seed % 2)))
    found = ledger.observations(FRAME, D).latents
    assert found.flags.c_contiguous
    assert not found.flags.writeable
    ledger.undo(ledger.observations(FRAME, D).terms[7].position)
    gap = ledger.observations(FRAME, D)
    assert len(gap.latents) == 19
    assert np.array_equal(gap.latents, np.delete(np.asarray(found), 7, axis=0))
    with pytest.raises(ValueError, match="read-only"):
        gap.latents[0, 0] = 1


def test_undo_goes_back_step_by_step_and_rows_are_one_number(ledger: Ledger) -> None:
    candidates = show(ledger, latents(4))
    positions = [ledger.judge(Judgement.rate(candidate, True)) for candidate in candidates]
    other = Ledger.open(ledger.folder)
    assert ledger.rows == other.rows == 4
    assert ledger.undo() == positions[3]
    assert other.undo() == positions[2]
    assert ledger.undo(positions[0]) == positions[0]
    assert ledger.rows == other.rows == 1
    assert [term.position for term in other.observations(FRAME, D).terms] == [positions[1]]
    with pytest.raises(InputError, match=rf"undo\({positions[0]}\): no judgement that counts"):
        ledger.undo(positions[0])
    with pytest.raises(InputError, match=r"undo\(1\): no judgement"):
        ledger.undo(1)  # a screen
    ledger.undo()
    with pytest.raises(InputError, match="nothing to undo"):
        ledger.undo()
    kinds = Counter(event.kind for event in ledger.events())
    assert kinds == {"screen": 1, "judgement": 4, "undo": 4}
    other.close()


def test_a_replay_sees_what_was_known_at_each_position(ledger: Ledger) -> None:
    rng = np.random.default_rng(0)
    seen = {}
    pool: list[Candidate] = []
    for step in range(40):
        if step % 3 == 0:
            pool += show(ledger, latents(2, step))
        ledger.judge(Judgement.rate(pool[rng.integers(len(pool))], bool(rng.integers(2))))
        if step % 7 == 6:
            ledger.undo()
        seen[ledger.position] = ledger.observations(FRAME, D)
    with Ledger.open(ledger.folder) as again:
        for position, then in seen.items():
            assert same(again.observations(FRAME, D, until=position), then)
        assert [event.position for event in again.events()] == list(range(1, again.position + 1))
        assert [event.position for event in again.events(after=10)] == list(range(11, again.position + 1))


def test_a_candidate_shown_again_is_stored_once_and_counts_for_its_latest_screen(ledger: Ledger) -> None:
    first = ledger.show([Candidate(latents(1)[0], FRAME, picture(0))])[0]
    ledger.judge(Judgement.rate(first, True))
    again = ledger.show([first, Candidate(latents(1, 1)[0], FRAME)])
    ledger.judge(Judgement.rate(again[0], False))
    found = ledger.observations(FRAME, D)
    assert again[0].id == first.id
    assert found.latents.shape == (1, D)
    assert [(term.screen, term.value) for term in found.terms] == [(1, 1), (2, 0)]
    assert found.screen.tolist() == [1]
    screens = [event.candidates for event in ledger.events() if event.kind == "screen"]
    assert screens == [(first.id,), (first.id, again[1].id)]
    for latent, image in ((latents(1, 2)[0], None), (first.latent, picture(1))):
        with pytest.raises(InputError, match="belongs to another latent or image"):
            ledger.show([Candidate(latent, FRAME, image, id=first.id)])
    with pytest.raises(InputError, match="shows a candidate twice"):
        ledger.show([first, first])
    with pytest.raises(InputError, match="has no candidates"):
        ledger.show([])


def test_only_what_was_shown_can_be_judged(ledger: Ledger) -> None:
    shown = show(ledger, latents(1))[0]
    for said in (Judgement.rate("nobody", True), Judgement.pair(shown, "nobody")):
        with pytest.raises(InputError, match="'nobody', which was never shown"):
            ledger.judge(said)
    with pytest.raises(InputError, match="has no candidate 'nobody'"):
        ledger.candidate("nobody")
    assert ledger.rows == 0


def test_rows_of_another_kind_are_counted_and_never_used(ledger: Ledger) -> None:
    others = {
        "other prompt": Frame("a hill", model="tiny", width=8, height=8, steps=4),
        "other negative prompt": Frame("a lake", "fog", "tiny", 8, 8, 4),
        "other model": Frame("a lake", model="big", width=8, height=8, steps=4),
        "other size": Frame("a lake", model="tiny", width=8, height=16, steps=4),
    }
    mine = show(ledger, latents(1))[0]
    for frame in others.values():
        other = show(ledger, latents(1, 1), frame)[0]
        ledger.judge(Judgement.rate(other, True))
    ledger.judge(Judgement.pair(mine, other))
    ledger.judge(Judgement.rate(show(ledger, latents(1, dimension=16))[0], True))
    ledger.judge(
        Judgement.rate(
            show(ledger, latents(1, 2), Frame("a lake", model="tiny", width=8, height=8, steps=9, guidance=2.0))[0],
            True,
        )
    )
    ledger.judge(Judgement.rate(mine, True))
    found = ledger.observations(FRAME, D)
    assert len(found.terms) == found.report.used == 2
    assert found.report.unused == {**dict.fromkeys(others, 1), "other size": 2, "other dimension": 1}
    assert found.report.flagged == {"steps": 1, "guidance": 1}
    assert ledger.rows == found.report.used + sum(found.report.unused.values())
    assert ledger.observations(FRAME, 16).report.used == 1
    assert ledger.observations(Frame("nothing"), D).latents.shape == (0, D)


def fuzz(folder: Path, count: int) -> None:
    """Random judgements of random screens, undone at random: every judged image is the one that was shown under that
    id."""
    rng = np.random.default_rng(7)
    ledger = Ledger.open(folder)
    told: dict[str, str] = {}
    expected: list[tuple[str, ...]] = []
    screen: tuple[Candidate, ...] = ()
    for step in range(count):
        if step % 25 == 0:
            images = [picture(int(rng.integers(40))) for _ in range(4)]
            entries = [Candidate(rng.standard_normal(D), FRAME, image) for image in images]
            screen = ledger.show(entries)
            told |= {candidate.id: image_hash(image) for candidate, image in zip(screen, images, strict=True)}
        a, b, *rest = (
            rng.permutation(np.array(sorted(told)))[:4].tolist()
            if step % 5 == 0
            else [screen[i].id for i in rng.permutation(4)]
        )
        made = [
            Judgement.rate(a, bool(rng.integers(2))),
            Judgement.pair(a, b),
            Judgement.choose(a, [b, *rest]),
            Judgement.tie(a, b),
        ]
        said = [*made, Judgement.stars(a, int(rng.integers(1, 6))), Judgement.skip(a)][rng.integers(6)]
        ledger.judge(said)
        expected.append(said.ids)
        if rng.random() < 0.1:
            ledger.undo()
            expected.pop()
        if step % 97 == 96:
            ledger.close()
            ledger = Ledger.open(folder)
    assert [said.judgement.ids for said in ledger.judgements()] == expected
    for name, pixels in told.items():
        image = ledger.candidate(name).image
        assert image is not None
        assert image_hash(image) == pixels
    ledger.close()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting for the disk, where durability is not what is tested."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.mark.usefixtures("hurried")
def test_fuzzed_judgements_keep_the_image_that_was_shown(tmp_path: Path) -> None:
    fuzz(tmp_path, 300)


@pytest.mark.slow
def test_ten_thousand_fuzzed_judgements(tmp_path: Path) -> None:
    fuzz(tmp_path, 10_000)


def fill(folder: Path, rows: int, dimension: int) -> None:
    rng = np.random.default_rng(0)
    with Ledger.open(folder) as ledger:
        for start in range(0, rows, 250):
            screens = []
            for row in range(start, min(start + 250, rows)):
                candidate = Candidate(rng.standard_normal(dimension, dtype=np.float32), FRAME, id=f"c{row}")
                screens.append(((candidate,), Judgement.rate(candidate, bool(row % 2))))
            ledger.record(screens)


@pytest.mark.parametrize(("rows", "dimension"), [(500, 256), pytest.param(10_000, 16_384, marks=pytest.mark.slow)])
def test_many_rows_are_read(tmp_path: Path, rows: int, dimension: int) -> None:
    fill(tmp_path, rows, dimension)
    with Ledger.open(tmp_path) as ledger:
        found = ledger.observations(FRAME, dimension)
    assert found.latents.shape == (rows, dimension)
    assert len(found.terms) == rows
    assert not found.report.damaged


def test_provenance_is_stored_as_json(ledger: Ledger) -> None:
    shown = ledger.show([Candidate(latents(1)[0], FRAME, provenance={"angle": 0.5, "key": [1, "x"], "none": None})])[0]
    assert (
        json.dumps(dict(ledger.candidate(shown.id).provenance), sort_keys=True)
        == '{"angle": 0.5, "key": [1, "x"], "none": null}'
    )


def test_previews_are_events_that_change_no_judgement(ledger: Ledger) -> None:
    shown = show(ledger, latents(1))[0]
    said = ledger.judge(Judgement.rate(shown, True))
    before = ledger.observations(FRAME, D)
    points = [np.random.default_rng(seed).random(D, dtype=np.float32) for seed in range(3)]
    features = [np.random.default_rng(seed).random(12, dtype=np.float32) for seed in range(3)]
    ledger.preview(FRAME, points[:2], features[:2])
    position = ledger.position
    Ledger.open(ledger.folder).preview(FRAME, points[2:], features[2:])
    found = ledger.previews(D)
    assert all(np.array_equal(one.latent, point) for one, point in zip(found, points, strict=True))
    assert all(np.array_equal(one.features, each) for one, each in zip(found, features, strict=True))
    assert {one.frame for one in found} == {FRAME}
    assert [one.position for one in ledger.previews(D, after=position)] == [position + 1]
    assert ledger.previews(D + 1) == []
    assert [event.kind for event in ledger.events(said)] == ["preview"] * 3
    assert (ledger.rows, ledger.last_change(ledger.position)) == (1, said)
    assert ledger.observations(FRAME, D).ids == before.ids
