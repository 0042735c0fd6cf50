"""The PIE family: the textbook update, well-separated batches, and what must not matter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import diptych
from diptych.ptycho.engines import pie
from diptych.ptycho.engines.fit_monitor import full_fit
from diptych.ptycho.engines.pie import Pie, PieSettings, spatial_order, spread_batches, tiles_of
from diptych.ptycho.engines.problem import make_problem
from diptych.ptycho.physics.modes import scaled_to


def test_epie_is_the_update_of_the_paper(make_case: Any) -> None:
    """Maiden and Rodenburg (2009), equations 3 and 4, written out for one pattern after the other in double
    precision."""
    case = make_case(held_out=0.0)
    problem, n = case.problem, case.problem.size
    engine = Pie(
        problem,
        torch.ones_like(case.image),
        case.probe,
        PieSettings(1, 1.0, 1.0, 0.0, poisson=False),
        np.random.default_rng(0),
    )
    engine.epoch()
    order = [int(b[0]) for b in spread_batches(spatial_order(problem.forward.corners, 1), 1, np.random.default_rng(0))]
    image, probe = np.ones(problem.shape, complex), case.probe[0].numpy().copy()
    for i in order:
        y, x = problem.forward.corners[i]
        patch = image[y : y + n, x : x + n].copy()
        field = np.fft.fft2(probe * patch, norm="ortho")
        measured = np.sqrt(np.fft.ifftshift(problem.counts[i].numpy()))
        change = np.fft.ifft2(measured * np.exp(1j * np.angle(field)), norm="ortho") - probe * patch
        image[y : y + n, x : x + n] += probe.conj() * change / (np.abs(probe) ** 2).max()
        probe = probe + patch.conj() * change / (np.abs(patch) ** 2).max()
    np.testing.assert_allclose(engine.image.numpy(), image, rtol=0, atol=1e-8)
    np.testing.assert_allclose(engine.probe[0].numpy(), probe, rtol=0, atol=1e-8 * np.abs(probe).max())


@torch.no_grad()
@pytest.mark.parametrize("kind", ["blocks", "lines"])
def test_a_right_probe_stays_where_the_windows_of_a_batch_cover_each_other(kind: str) -> None:
    """The object's updates are whole ones at most there, too: where they are longer, the fit grows above 50."""
    places = np.random.default_rng(0).uniform(0, 16, (300, 2))
    scan = diptych.simulate(object=kind, size=32, positions=places, dose=1e5, seed=1, probe_error=0.0)
    problem = make_problem(scan, device=torch.device("cpu"), double=False, subpixel=True, held_out=0.02, seed=0)
    assert scan.probe is not None
    probe = scaled_to(torch.from_numpy(scan.probe.copy()), problem.power)
    engine = Pie(problem, problem.flat_object(), probe, PieSettings(batch=64), np.random.default_rng(0))
    for _ in range(10):
        found = engine.epoch()
    assert found["held_out_fit"] < 2


@given(patterns=st.integers(1, 90), batch=st.integers(1, 70), seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_batches_hold_every_pattern_once(patterns: int, batch: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 50, (patterns, 2))
    order = spatial_order(corners, batch)
    assert sorted(order.tolist()) == list(range(patterns))
    batches = spread_batches(order, batch, rng)
    assert sorted(np.concatenate(batches).tolist()) == list(range(patterns))
    assert max(len(b) for b in batches) <= batch


@given(patterns=st.integers(1, 90), most=st.integers(1, 95), seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_tiles_hold_every_pattern_once_and_share_the_canvas(patterns: int, most: int, seed: int) -> None:
    centres, shape = np.random.default_rng(seed).integers(0, 50, (patterns, 2)), (50, 60)
    tiles = tiles_of(centres, shape, most)
    assert sorted(np.concatenate([tile for tile, _ in tiles]).tolist()) == list(range(patterns))
    assert max(len(tile) for tile, _ in tiles) <= most
    covered = np.zeros(shape, int)
    for tile, box in tiles:
        covered[box] += 1
        for axis in (0, 1):
            assert (centres[tile, axis] >= box[axis].start).all()
            assert (centres[tile, axis] <= box[axis].stop).all()
    assert (covered == 1).all()


def test_a_scan_in_tiles_comes_down_to_the_noise_and_stays_there(
    make_case: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With momentum of the whole canvas after each tile the object diverges (a fit of 217)."""
    monkeypatch.setattr(pie, "TILE", 4)
    case = make_case(double=False)
    settings = PieSettings(batch=2)
    engine = Pie(case.problem, torch.ones_like(case.image), case.probe, settings, np.random.default_rng(0))
    for _ in range(80):
        engine.epoch()
    assert full_fit(case.problem, engine.image, engine.probe)["fit"] < 2.5


def test_momentum_is_due_in_the_box_of_a_tile_and_in_the_probe(make_case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pie, "TILE", 9)
    case = make_case(double=False)
    engine = Pie(case.problem, torch.ones_like(case.image), case.probe, PieSettings(4), np.random.default_rng(0))
    assert len(engine._tiles) == 3
    engine._updates[:] = (15, 16, 4)
    engine.image, engine.probe = engine.image + 1, engine.probe + 1
    for tile, expected in ((0, 0.0), (1, 0.8)):  # Of 15 and of 16 updates; 35 in all.
        before = engine.image.clone()
        engine._apply_momentum(engine._tiles[tile][1], int(engine._updates[tile]))
        change = engine.image - before
        inside = torch.zeros(change.shape, dtype=torch.bool)
        inside[engine._tiles[tile][1]] = True
        assert torch.allclose(change[inside], torch.full_like(change[inside], expected))
        assert not change[~inside].any()
    assert torch.equal(engine.probe, case.probe + 1)


def test_a_state_of_other_tiles_is_refused(make_case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_case(double=False)
    given = (case.problem, case.image, case.probe, PieSettings(4), np.random.default_rng(0))
    state = Pie(*given).state()
    Pie(*given).restore({**state, "updates": torch.tensor(3)})  # As states of one tile once were.
    monkeypatch.setattr(pie, "TILE", 9)
    with pytest.raises(ValueError, match="updates of 1 tiles, and not of 3"):
        Pie(*given).restore(state)


@pytest.mark.parametrize("batch", [4, 8, 16])
def test_patterns_of_a_batch_lie_farther_apart_than_chance(batch: int) -> None:
    rng = np.random.default_rng(1)
    grid = np.stack(np.meshgrid(np.arange(16), np.arange(16), indexing="ij"), -1).reshape(-1, 2)
    corners = 5 * grid + rng.integers(-1, 2, grid.shape)

    def nearest(members: np.ndarray) -> float:
        distance = np.linalg.norm(corners[members, None] - corners[None, members], axis=-1)
        np.fill_diagonal(distance, np.inf)
        return float(distance.min(1).mean())

    spread = np.mean([nearest(b) for b in spread_batches(spatial_order(corners, batch), batch, rng)])
    chance = np.mean([nearest(b) for b in np.array_split(rng.permutation(256), 256 // batch)])
    assert spread > 1.15 * chance


def test_batches_differ_from_epoch_to_epoch_and_repeat_with_the_seed() -> None:
    order = np.arange(40)

    def draw(rng: np.random.Generator) -> list[list[int]]:
        return [b.tolist() for b in spread_batches(order, 8, rng)]

    rng = np.random.default_rng(2)
    first, second = draw(rng), draw(rng)
    assert first != second
    assert draw(np.random.default_rng(2)) == first


@pytest.mark.parametrize("kind", [{}, {"modes": 2}, {"subpixel": True, "background": 3.0}, {"masked": 0.15}])
@pytest.mark.parametrize("poisson", [True, False], ids=["poisson", "amplitude"])
def test_rpie_comes_down_to_the_noise(make_case: Any, kind: dict[str, Any], poisson: bool) -> None:
    case = make_case(double=False, **kind)
    engine = Pie(
        case.problem,
        torch.ones_like(case.image),
        case.probe,
        PieSettings(batch=4, poisson=poisson),
        np.random.default_rng(0),
    )
    before = full_fit(case.problem, engine.image, engine.probe)["fit"]
    for _ in range(40):
        engine.epoch()
    after = full_fit(case.problem, engine.image, engine.probe)["fit"]
    assert before > 30
    assert after < 3


@pytest.mark.parametrize("poisson", [True, False], ids=["poisson", "amplitude"])
def test_masked_and_held_out_counts_never_reach_object_or_probe(make_case: Any, poisson: bool) -> None:
    case = make_case(masked=0.1)
    problem = case.problem
    spoiled = problem.counts.clone()
    spoiled.view(25, -1).scatter_(1, problem.held, 1e7)
    spoiled.masked_fill_(problem.invalid, 12345.0)
    results = []
    for counts in (problem.counts, spoiled):
        engine = Pie(
            replace(problem, counts=counts),
            torch.ones_like(case.image),
            case.probe,
            PieSettings(4, poisson=poisson),
            np.random.default_rng(0),
        )
        for _ in range(4):
            engine.epoch()
        results.append((engine.image, engine.probe))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("alpha", [0.0, 1e-3, 1.0])
def test_every_allowed_regularisation_gives_numbers(make_case: Any, alpha: float) -> None:
    case = make_case(double=False)
    engine = Pie(
        case.problem,
        torch.ones_like(case.image),
        case.probe,
        PieSettings(4, alpha, momentum=0.0),
        np.random.default_rng(0),
    )
    for _ in range(3):
        engine.epoch()
    assert bool(torch.isfinite(engine.image.abs()).all())
    assert bool(torch.isfinite(engine.probe.abs()).all())


def test_a_fixed_probe_stays_and_the_start_is_not_written_to(make_case: Any) -> None:
    case = make_case(double=False)
    image, probe = torch.ones_like(case.image), case.probe.clone()
    engine = Pie(case.problem, image, probe, PieSettings(4, refine_probe=False), np.random.default_rng(0))
    for _ in range(20):
        engine.epoch()
    assert torch.equal(engine.probe, case.probe)
    assert torch.equal(image, torch.ones_like(image))
    assert not torch.equal(engine.image, image)
