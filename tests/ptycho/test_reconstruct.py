"""The one door: every engine on small scans with known truth, and all that `reconstruct` promises about its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import diptych
from diptych.errors import InputError, UnavailableError
from diptych.ptycho.engines.pie import Pie
from diptych.ptycho.engines.stopping import WORSE
from diptych.ptycho.reconstruct import reconstruct
from diptych.ptycho.scan import Reconstruction, Scan
from diptych.runtime.device import ExecutionOptions
from diptych.runtime.progress import Progress
from small_runs import ENGINES, same, simulated, solve


def error(result: Reconstruction, scan: Scan) -> float:
    return float(diptych.evaluate(result, truth=scan.truth)["complex_error"])


def power(probe: NDArray[Any]) -> float:
    return float((np.abs(probe.astype(complex)) ** 2).sum())


# What each engine reaches, from a start of the probe that is wrong in defocus, shape and scale.


@pytest.mark.parametrize(
    ("engine", "bar"),
    [
        ("ml", 0.007),
        ("rpie", 0.022),
        pytest.param("epie", 0.022, marks=pytest.mark.integration),
        ("dm", 0.07),
        ("raar", 0.015),
    ],
)
def test_each_engine_recovers_the_object(engine: str, bar: float) -> None:
    scan = simulated(probe_error=1.0)
    result = solve(scan, engine=engine)
    assert error(result, scan) < bar
    assert result.provenance["engine"] == engine
    assert result.history["held_out_fit"][0] > 20 * result.provenance["held_out_fit"]


@pytest.mark.parametrize(
    ("dose", "bar"), [(1e3, 0.2), (1e4, 0.08), pytest.param(1e9, 5e-4, marks=pytest.mark.integration)]
)
def test_the_automatic_choice_at_other_doses(dose: float, bar: float) -> None:
    scan = simulated(probe_error=1.0, dose=dose)
    assert error(solve(scan), scan) < bar


def test_the_fit_says_shot_noise_limited_when_it_is() -> None:
    result = solve(simulated(probe_error=1.0))
    assert 0.7 < result.provenance["fit"] < 1.1
    assert result.flags == ()


@pytest.mark.parametrize(
    "engine", ["ml", *(pytest.param(name, marks=pytest.mark.integration) for name in ("rpie", "raar"))]
)
def test_sub_pixel_positions_by_fourier_beat_rounding(engine: str) -> None:
    scan = simulated(integer=False)
    by_rounding, by_fourier = (error(solve(scan, engine=engine, subpixel=how), scan) for how in ("round", "fourier"))
    assert by_fourier < 0.025
    assert by_fourier < 0.75 * by_rounding


@pytest.mark.integration
@pytest.mark.parametrize("engine", ["dm", "raar"])
def test_projections_bear_a_wrong_probe_start_on_sub_pixel_positions(engine: str) -> None:
    scan = simulated(integer=False, probe_error=1.0)
    assert error(solve(scan, engine=engine), scan) < 0.1


def test_automatic_positions_are_fourier_where_there_are_fractions() -> None:
    scan = simulated(integer=False)
    assert same(solve(scan, engine="rpie", epochs=3), solve(scan, engine="rpie", epochs=3, subpixel="fourier"))
    whole = simulated()
    assert same(solve(whole, engine="rpie", epochs=3), solve(whole, engine="rpie", epochs=3, subpixel="round"))


@pytest.mark.integration
@pytest.mark.parametrize("engine", ["ml", "rpie"])
def test_incoherent_modes_are_recovered_with_as_many_modes(engine: str) -> None:
    scan = replace(
        simulated(modes=2, mode_powers=(1.0, 0.3)), probe=simulated(modes=2, mode_powers=(1.0, 0.3)).true_probe[:1]
    )
    one, two = solve(scan, engine=engine, modes=1), solve(scan, engine=engine, modes=2)
    assert error(two, scan) < 0.5 * error(one, scan)
    assert two.provenance["fit"] < 0.5 * one.provenance["fit"]
    share = power(two.probe[1:]) / power(two.probe)
    assert share == pytest.approx(0.3 / 1.3, rel=0.1)


@pytest.mark.integration
def test_a_background_is_used_where_it_is_known_and_fitted_where_it_is_not() -> None:
    scan = simulated(background=5.0, dose=1e5)
    silent = replace(scan, background=None)
    known, fitted = solve(scan, modes=1), solve(silent, modes=1)
    left_out = solve(silent, modes=1, background="off")
    assert error(known, scan) < 0.6 * error(left_out, scan)
    assert error(fitted, scan) < 0.7 * error(left_out, scan)
    assert known.provenance["fit"] < 1.1 < left_out.provenance["fit"]


def test_double_precision() -> None:
    scan = simulated()
    single = solve(scan, engine="rpie", epochs=3)
    double = reconstruct(scan, engine="rpie", epochs=3, execution=ExecutionOptions(device="cpu", precision="double"))
    assert not np.array_equal(single.object.values, double.object.values)
    np.testing.assert_allclose(single.object.values, double.object.values, atol=2e-4)
    assert double.object.values.dtype == np.complex64


# The gauge, the probe and its modes.


def test_gauge_is_the_99th_percentile_of_the_totals_or_the_calibrated_power() -> None:
    scan = simulated()
    assert scan.probe_calibrated
    percentile = np.quantile(scan.counts.sum((1, 2), dtype=float), 0.99)
    for engine in ENGINES:
        epochs = 5 if engine == "epie" else 20
        assert power(solve(scan, engine=engine, epochs=epochs).probe) == pytest.approx(power(scan.probe), rel=1e-5)
        blind = replace(scan, probe=scan.probe * 17.0, probe_calibrated=False)
        assert power(solve(blind, engine=engine, epochs=epochs).probe) == pytest.approx(percentile, rel=1e-5)


def test_the_scale_of_an_uncalibrated_start_does_not_matter() -> None:
    scan = replace(simulated(), probe_calibrated=False)
    a, b = solve(scan, engine="rpie", epochs=5), solve(replace(scan, probe=scan.probe * 1024), engine="rpie", epochs=5)
    np.testing.assert_allclose(a.object.values, b.object.values, atol=1e-5)


def test_modes_come_back_orthogonal_strongest_first() -> None:
    result = solve(simulated(), engine="rpie", epochs=10, modes=4)
    flat = result.probe.reshape(4, -1).astype(complex)
    products = np.abs(flat.conj() @ flat.T)
    strength = np.diag(products)
    assert (np.diff(strength) <= 0).all()
    assert (products - np.diag(strength)).max() < 1e-4 * strength[0]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_fixed_probe_comes_back_as_it_went_in(engine: str) -> None:
    scan = simulated(modes=2)
    result = solve(scan, engine=engine, epochs=3, probe="fixed")
    np.testing.assert_allclose(result.probe, scan.probe, rtol=1e-5, atol=1e-5 * np.abs(scan.probe).max())
    assert not np.allclose(result.object.values, 1)


def test_a_scan_without_a_probe_says_what_to_do() -> None:
    with pytest.raises(
        InputError, match=r"no probe.*probe='FILE' \(--probe FILE\).*probe='estimate' \(--probe estimate\)"
    ):
        solve(replace(simulated(), probe=None))


def test_a_probe_from_a_file(tmp_path: Path) -> None:
    scan = simulated()
    np.save(tmp_path / "probe.npy", scan.probe[0])
    from_file = solve(
        replace(scan, probe=None, probe_calibrated=False), probe=str(tmp_path / "probe.npy"), engine="rpie", epochs=4
    )
    own = solve(replace(scan, probe_calibrated=False), engine="rpie", epochs=4)
    assert np.array_equal(from_file.object.values, own.object.values)
    with pytest.raises(InputError, match=r"missing\.npy"):
        solve(scan, probe=str(tmp_path / "missing.npy"))
    np.save(tmp_path / "small.npy", np.ones((8, 8), complex))
    with pytest.raises(InputError, match=r"small\.npy|\(8, 8\)|8"):
        solve(scan, probe=str(tmp_path / "small.npy"))


# Where to start from.


def test_start_from_a_result_file(tmp_path: Path) -> None:
    scan = simulated()
    first = solve(scan, engine="rpie", epochs=12)
    path = first.save(tmp_path / "first.npz")
    onward = solve(scan, engine="rpie", epochs=1, start=str(path))
    flat = solve(scan, engine="rpie", epochs=1)
    assert onward.history["fit"][0] < 0.05 * flat.history["fit"][0]


def test_a_start_is_placed_by_its_coordinates(tmp_path: Path) -> None:
    """The true object as start fits at once, though its canvas has another origin and size than the solver's."""
    scan = simulated()
    assert scan.truth is not None
    path = Reconstruction(scan.truth, scan.true_probe, scan.positions).save(tmp_path / "truth.h5")
    assert solve(scan, engine="rpie", epochs=1, start=str(path), probe="fixed", stop=False).history["fit"][0] < 2.0


def test_a_start_that_does_not_hold_the_scan_is_refused(tmp_path: Path) -> None:
    scan = simulated()
    path = solve(scan, engine="rpie", epochs=1).save(tmp_path / "r.npz")
    with pytest.raises(InputError, match=r"the initial object.*leave the object"):
        solve(replace(scan, positions=scan.positions + 50, truth=None), start=str(path))
    with pytest.raises(InputError, match=r"nowhere\.h5"):
        solve(scan, start=str(tmp_path / "nowhere.h5"))


# What must not matter, and what must.


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("fault", [{"dead": 0.05, "beam_stop": 1.5}, {"saturation": 40}], ids=["one mask", "one each"])
def test_masked_counts_never_influence_the_result(engine: str, fault: dict[str, float]) -> None:
    scan = simulated(dose=1e4, **fault)
    assert scan.mask is not None
    assert scan.mask.ndim == (3 if "saturation" in fault else 2)
    results = []
    for value in (0, 40000):
        filled = replace(scan, counts=np.where(scan.mask, scan.counts, value).astype(scan.counts.dtype))
        results.append(solve(filled, engine=engine, epochs=4))
    assert same(*results)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_seed_decides_every_bit(engine: str) -> None:
    scan = simulated()
    one, again, other = (solve(scan, engine=engine, epochs=4, seed=seed) for seed in (3, 3, 4))
    assert same(one, again)
    assert not np.array_equal(one.object.values, other.object.values)


def test_epie_is_rpie_one_at_a_time_with_full_regularisation() -> None:
    scan = simulated()
    rpie = solve(scan, engine="rpie", batch=1, alpha=1.0, momentum=0.0, likelihood="amplitude", epochs=3)
    assert same(rpie, solve(scan, engine="epie", epochs=3))


@pytest.mark.parametrize(
    ("engine", "change"),
    [
        ("rpie", {"batch": 3}),
        ("rpie", {"alpha": 0.7}),
        ("rpie", {"step": 0.5}),
        ("rpie", {"momentum": 0.3}),
        ("rpie", {"likelihood": "amplitude"}),
        ("rpie", {"held_out": 0.1}),
        ("rpie", {"modes": 2}),
        ("rpie", {"probe": "fixed"}),
        ("epie", {"likelihood": "poisson"}),
        ("epie", {"step": 0.5}),
        ("raar", {"step": 0.5}),
        ("ml", {"likelihood": "amplitude"}),
        ("ml", {"alpha": 0.7}),
        ("ml", {"step": 0.5}),
        ("ml", {"momentum": 0.3}),
    ],
)
def test_every_option_reaches_its_engine(engine: str, change: dict[str, Any]) -> None:
    scan = simulated()
    plain, changed = solve(scan, engine=engine, epochs=3), solve(scan, engine=engine, epochs=3, **change)
    assert not np.array_equal(plain.object.values, changed.object.values)


def test_epochs_and_stop_reach_the_runner() -> None:
    scan = simulated(dose=1e4)
    short, stopped, forced = (
        solve(scan, engine="rpie", **o) for o in ({"epochs": 3}, {"epochs": 40}, {"epochs": 40, "stop": False})
    )
    assert short.provenance["epochs"] == 3
    assert stopped.provenance["epochs"] < 40
    assert forced.provenance["epochs"] == 40
    assert len(forced.history["fit"]) == 40
    held = forced.history["held_out_fit"]
    assert held[: len(stopped.history["fit"])] == stopped.history["held_out_fit"], "the rule only ends the run"
    # Within what counts as chance, the state kept is the best seen.
    assert (
        held[forced.provenance["best_epoch"] - 1]
        <= WORSE * stopped.history["held_out_fit"][stopped.provenance["best_epoch"] - 1]
    )


def test_options_are_checked() -> None:
    scan = simulated()
    for wrong in ({"engine": "sorcery"}, {"epochs": 0}, {"modes": 0}, {"momentum": 1.0}, {"no_such_option": 1}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            solve(scan, **wrong)
    with pytest.raises(InputError, match="expected a Scan"):
        reconstruct(np.zeros((3, 8, 8)))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="model"):
        reconstruct(scan, model="bundle")  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ["auto", "rpie"])
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_the_ends_of_the_regularisation_are_usable(engine: str, alpha: float) -> None:
    assert np.isfinite(solve(simulated(), engine=engine, alpha=alpha, momentum=0.0, epochs=3).provenance["fit"])


# When to stop.


@pytest.mark.parametrize(
    ("engine", "seeds"), [pytest.param("rpie", (0, 1, 2), marks=pytest.mark.integration), ("auto", (1,))]
)
def test_low_dose_stops_by_itself_near_its_best(
    engine: str, seeds: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    images: list[torch.Tensor] = []
    epoch = Pie.epoch

    def recorded(self: Pie) -> dict[str, float]:
        report = epoch(self)
        images.append(self.image.clone())
        return report

    monkeypatch.setattr(Pie, "epoch", recorded)
    # The trials of readings that flags of faint scans rest on would be recorded too.
    monkeypatch.setattr("diptych.ptycho.engines.flags.result.result_flags", lambda *state, **rest: ())
    ends, best = [], []
    for seed in seeds:
        images.clear()
        scan = simulated(dose=3e3, probe_error=0.5, seed=seed)
        result = solve(scan, engine=engine)
        course = [error(replace(result, object=replace(result.object, values=each.numpy())), scan) for each in images]
        assert result.provenance["epochs"] < 200
        ends.append(error(result, scan))
        best.append(min(course))
    # States of rPIE differ by some 5 % from one epoch to the next: a mean over scans.
    assert np.mean(ends) < 1.1 * np.mean(best)


@pytest.mark.integration
def test_forced_on_at_low_dose_the_kept_state_is_still_good() -> None:
    scan = simulated(dose=3e3)
    assert error(solve(scan, stop=False, epochs=200), scan) < 1.1 * error(solve(scan), scan)


# What it says of itself.


def test_progress_is_reported_after_each_epoch() -> None:
    seen: list[Progress] = []
    solve(simulated(), engine="rpie", epochs=3, progress=seen.append)
    assert [(p.stage, p.done, p.total) for p in seen] == [("rpie", 1, 3), ("rpie", 2, 3), ("rpie", 3, 3)]
    assert all(np.isfinite(p.values["fit"]) for p in seen)


@pytest.mark.parametrize("engine", ["dm", "raar"])
def test_engines_that_keep_all_waves_announce_their_memory(engine: str) -> None:
    seen: list[Progress] = []
    solve(simulated(), engine=engine, epochs=1, modes=2, progress=seen.append)
    assert seen[0].done == 0
    assert f"{64 * 2 * 32 * 32 * 8 / 1e6:.0f} MB" in seen[0].stage


def test_the_result_lies_in_the_coordinates_of_the_positions() -> None:
    scan = simulated()
    moved = replace(scan, positions=scan.positions + np.array([-100, 37]), truth=None)
    here, there = solve(scan, engine="rpie", epochs=3), solve(moved, engine="rpie", epochs=3)
    assert np.array_equal(here.object.values, there.object.values)
    assert np.subtract(there.object.origin, here.object.origin).tolist() == [-100, 37]


def test_held_out_none_judges_by_the_fit() -> None:
    result = solve(simulated(), engine="rpie", epochs=5, held_out=0.0)
    assert np.isnan(result.history["held_out_fit"]).all()
    assert result.provenance["best_epoch"] == 5


@pytest.mark.parametrize(
    "change",
    [
        lambda s: replace(s, positions=s.positions[:, ::-1].copy(), truth=None),
        lambda s: replace(s, counts=s.counts.transpose(0, 2, 1).copy()),
    ],
    ids=["positions swapped", "patterns transposed"],
)
@pytest.mark.integration
def test_a_scan_read_the_wrong_way_round_is_flagged(change: Callable[[Scan], Scan]) -> None:
    result = solve(change(simulated(object="natural", patterns=100, dose=1e5)))
    assert result.provenance["fit"] > 3
    assert any("diptych check" in flag for flag in result.flags)


def test_hard_scans_end_in_a_result_or_one_clear_error() -> None:
    """A single pattern, two, a blank one among good ones, and very few photons."""
    scan = simulated()
    blank = scan.counts.copy()
    blank[3] = 0
    for hard in (
        replace(scan, counts=scan.counts[:1], positions=scan.positions[:1]),
        replace(scan, counts=scan.counts[:2], positions=scan.positions[:2]),
        replace(scan, counts=blank),
        simulated(dose=3.0),
    ):
        for engine in ("auto", "rpie", "dm"):
            assert np.isfinite(solve(hard, engine=engine, epochs=25).object.values).all()


def test_a_device_that_is_unknown_or_not_here_is_named() -> None:
    with pytest.raises(InputError, match="abacus"):
        reconstruct(simulated(), execution=ExecutionOptions(device="abacus"))
    with pytest.raises(UnavailableError, match="cuda:99"):
        reconstruct(simulated(), execution=ExecutionOptions(device="cuda:99"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("engine", ["ml", "rpie", "dm", "raar"])
def test_the_gpu_runs_the_same_code(engine: str) -> None:
    scan = simulated(integer=False, modes=2)
    on_gpu = reconstruct(scan, engine=engine, epochs=5, execution=ExecutionOptions(device="cuda", precision="double"))
    on_cpu = reconstruct(scan, engine=engine, epochs=5, execution=ExecutionOptions(device="cpu", precision="double"))
    assert on_gpu.provenance["device"].startswith("cuda")
    np.testing.assert_allclose(on_gpu.object.values, on_cpu.object.values, atol=1e-4)


# The standard problem, on which the engines are compared with others' (minutes).


@pytest.mark.slow
@pytest.mark.parametrize(("dose", "bar"), [(1e4, 0.12), (1e6, 0.02), (1e9, 0.008)])
def test_standard_problem(dose: float, bar: float) -> None:
    scan = diptych.simulate(object="natural", size=64, patterns=1024, integer=True, probe_error=1, dose=dose, seed=0)
    result = solve(scan)
    assert error(result, scan) <= bar
    forced = solve(scan, stop=False, epochs=200)
    assert error(forced, scan) <= 1.1 * error(result, scan)


@pytest.mark.slow
def test_standard_problem_off_the_pixel_grid() -> None:
    scan = diptych.simulate(object="natural", size=64, patterns=1024, probe_error=1, dose=1e6, seed=0)
    assert error(solve(scan), scan) <= 0.02


def test_options_of_another_kind_are_refused() -> None:
    with pytest.raises(diptych.InputError, match="options is a dict; expected ReconstructionOptions, or names"):
        diptych.reconstruct(simulated(), options={"epochs": 3})  # type: ignore[arg-type]


@pytest.mark.integration
@pytest.mark.parametrize(("kind", "dose", "seed"), [("natural", 1e8, 0), ("blocks", 1e8, 2), ("blocks", 1e9, 1)])
def test_blind_rasters_of_many_photons_end_at_the_photon_limit(kind: str, dose: float, seed: int) -> None:
    """Not at 2.7 to 31 times: positions that have nothing wrong stay, and the run goes on while the loss falls."""
    scan = diptych.simulate(
        object=kind,
        size=32,
        patterns=64,
        step=4.0,
        trajectory="raster",
        dose=dose,
        seed=seed,
        probe_error=0.5,
    )
    result = diptych.reconstruct(scan, probe="refine")
    assert result.provenance["held_out_fit"] < 1.5
    assert np.array_equal(result.positions, scan.positions)
    assert not any("not limited by photon noise" in flag for flag in result.flags)
