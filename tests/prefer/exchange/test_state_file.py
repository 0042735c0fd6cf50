"""State files of the older program: in, and out again with the same numbers."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diptych.errors import InputError
from diptych.prefer.exchange.state_file import export_state, import_state
from diptych.prefer.judgement import Candidate, Frame, Judgement
from diptych.prefer.ledger.ledger import Ledger

D, PROMPT = 64, "neon punk city"
HASH = hashlib.sha1(PROMPT.encode()).hexdigest()[:10]
FRAME = Frame(PROMPT, width=32, height=32)


def latents(count: int, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((count, D))
    return values * np.sqrt(D) / np.linalg.norm(values, axis=1, keepdims=True)


def write_state(path: Path, **changes: Any) -> Path:
    rated, pairs = latents(3), latents(4, 1).reshape(2, 2, D)
    arrays: dict[str, Any] = {
        "width": 32,
        "height": 32,
        "d": D,
        "mu": np.zeros(D),
        "sigma": 0.9,
        "w": np.zeros(D),
        "step": 5,
    }
    arrays |= {"X": np.vstack([rated, pairs[:, 0] - pairs[:, 1]]), "y": np.array([1.0, -1.0, -2.0, 1.0, -1.0])}
    arrays |= {
        "z_pairs": pairs,
        "choices": np.array([1.0, -1.0]),
        "mu_hist": np.zeros((0, D)),
        "prompt": PROMPT,
    } | changes
    np.savez_compressed(path, **{name: value for name, value in arrays.items() if value is not None})
    return path


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(tmp_path / "session")


def test_labels_and_pairs_come_in_once(ledger: Ledger, tmp_path: Path) -> None:
    path = write_state(tmp_path / f"latent_state_{HASH}.npz")
    moved = import_state(ledger, path, PROMPT)
    assert (moved.rows, moved.offsets) == (5, 0)
    assert dict(moved.skipped) == {"difference of a pair, which is imported itself": 2}
    assert import_state(ledger, path, PROMPT).already == 5
    found = ledger.observations(FRAME, D, use_legacy=True)
    assert [term.kind for term in found.terms] == ["rate"] * 3 + ["pair"] * 2
    assert [(term.value, term.weight) for term in found.terms[:3]] == [(1, 1.0), (0, 1.0), (0, 2.0)]
    pairs = latents(4, 1).reshape(2, 2, D)
    for term, (winner, loser) in zip(found.terms[3:], (pairs[0], pairs[1][::-1]), strict=True):
        assert np.allclose(found.latents[list(term.rows)], np.stack([winner, loser]), atol=1e-6)
    assert not ledger.observations(FRAME, D).terms
    # A later save of the same session brings only what is new.
    grown = write_state(tmp_path / "latent_state.npz", X=latents(5, 0)[:4], y=np.ones(4), z_pairs=None, choices=None)
    assert import_state(ledger, grown, PROMPT).rows == 1


def test_a_state_goes_out_with_the_numbers_that_came_in(ledger: Ledger, tmp_path: Path) -> None:
    import_state(ledger, write_state(tmp_path / f"latent_state_{HASH}.npz"), PROMPT)
    (tmp_path / "out").mkdir()
    path, moved = export_state(ledger, tmp_path / "out", FRAME, D, mean=np.arange(D))
    assert moved.rows == 5
    assert path.name == f"latent_state_{HASH}.npz"
    with np.load(path, allow_pickle=False) as state:
        assert np.array_equal(state["X"], latents(3))  # float64, bit for bit
        assert state["y"].tolist() == [1, -1, -2]
        pairs = latents(4, 1).reshape(2, 2, D)
        assert np.array_equal(state["z_pairs"], np.stack([pairs[0], pairs[1][::-1]]))
        assert state["choices"].tolist() == [1, 1]
        assert state["mu"].tolist() == list(range(D))
        assert (int(state["width"]), int(state["d"]), str(state["prompt"])) == (32, D, PROMPT)
        assert set(state.files) >= {"height", "sigma", "w", "step", "mu_hist", "created_at", "app_version"}


def test_own_judgements_go_out_and_what_has_no_place_is_counted(ledger: Ledger, tmp_path: Path) -> None:
    a, b, c = ledger.show([Candidate(values, FRAME) for values in latents(3)])
    for said in (
        Judgement.rate(a, False, 3.0),
        Judgement.choose(b, [a]),
        Judgement.choose(a, [b, c]),
        Judgement.stars(c, 5),
    ):
        ledger.judge(said)
    ledger.judge(Judgement.rate(ledger.show([Candidate(np.ones(5), FRAME)])[0], True))
    path, moved = export_state(ledger, tmp_path, FRAME, D)
    assert moved.rows == 2
    assert moved.skipped == {
        "best cannot be represented in this file": 1,
        "stars cannot be represented in this file": 1,
        "other prompt or dimension": 1,
    }
    with np.load(path) as state:
        assert state["y"].tolist() == [-3.0]
        assert np.array_equal(state["z_pairs"][0], np.stack([b.latent, a.latent]).astype(float))
    with Ledger.open(tmp_path / "empty") as empty, np.load(export_state(empty, tmp_path, FRAME, D)[0]) as state:
        assert state["X"].shape == (0, D)
        assert state["z_pairs"].shape == (0, 2, D)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            f"latent_state_{HASH}.npz",
            {"prompt": "other"},
            "is the state of 'other'; expected the state of 'neon punk city'",
        ),
        ("latent_state_0123456789.npz", {"prompt": None}, "hash 0123456789"),
        ("latent_state.npz", {"d": None}, "expected an array 'd'"),
        ("latent_state.npz", {"d": 32}, r"X is float64 of shape \(5, 64\); expected numbers of shape \(5, 32\)"),
        ("latent_state.npz", {"y": np.ones(4)}, r"expected numbers of shape \(4, 64\)"),
        ("latent_state.npz", {"choices": np.ones(1)}, "z_pairs"),
        ("latent_state.npz", {"width": "wide"}, "are not integers"),
        ("latent_state.npz", {"y": np.array([None] * 5)}, "expected an NPZ file of plain numbers"),
    ],
)
def test_a_file_that_is_no_state_of_the_prompt_is_refused(
    ledger: Ledger, tmp_path: Path, name: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        import_state(ledger, write_state(tmp_path / name, **changes), PROMPT)
    assert ledger.position == 0


def test_rows_that_say_nothing_are_counted(ledger: Ledger, tmp_path: Path) -> None:
    x = latents(3)
    x[1, 0] = np.nan
    pairs = latents(4, 1).reshape(2, 2, D)
    pairs[1, 1] = pairs[1, 0]
    path = write_state(
        tmp_path / "latent_state.npz", X=x, y=np.array([1.0, 1.0, 0.0]), z_pairs=pairs, choices=np.array([0.0, 1.0])
    )
    moved = import_state(ledger, path, PROMPT)
    assert moved.rows == 1
    assert sum(moved.skipped.values()) == 4
