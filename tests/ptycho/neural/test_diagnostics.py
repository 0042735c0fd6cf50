"""Diagnostics of patches: statistics, detection of collapse, and the files written."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from matplotlib.image import imread

import diptych
from diptych.errors import InputError
from diptych.ptycho.figures import network as figures
from diptych.ptycho.neural.diagnostics import PatchStatistics, collapsed, parity_dump, patch_statistics
from diptych.ptycho.physics.groups import Layout
from diptych.ptycho.physics.illumination import lit
from diptych.ptycho.physics.patches import canvas_box, cut

N = 32


def noise(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, N, N)) + 1j * rng.standard_normal((count, N, N))


def scanned(**changes: object) -> tuple[diptych.Scan, np.ndarray]:
    """A scan and the true patches of its patterns."""
    made = diptych.simulate(
        **{"object": "natural", "size": N, "patterns": 16, "step": 4.0, "dose": 1e5, "seed": 3, **changes}
    )
    truth = cut(torch.from_numpy(made.truth.values), made.positions, N, origin=made.truth.origin)
    return made, truth.numpy()


# --- statistics


def test_statistics_of_known_patches():
    """Two flat halves a +- d have the variance d^2 about their mean; phases of +- f the circular deviation of cos f."""
    half = np.where(np.arange(N) < N // 2, 1.0, -1.0)[:, None] * np.ones(N)
    patches = np.stack([(2 + 0.5 * half) * np.exp(0.3j * half), (4 + 0.5 * half) * np.exp(0.3j * half + 2j)])
    info = patch_statistics(patches)
    assert info["patches"] == 2
    assert info["amplitude_mean"] == pytest.approx(3)
    assert (info["amplitude_min"], info["amplitude_max"]) == pytest.approx((1.5, 4.5))
    assert info["amplitude_std"] == pytest.approx(np.sqrt(1 + 0.25))
    assert info["var_zero_mean"] == pytest.approx(0.25)
    assert info["relative_variance"] == pytest.approx(0.25 / 9)
    # The global phase of the second patch, 2 rad, does not change the spread.
    assert info["phase_std_rad"] == pytest.approx(np.sqrt(-2 * np.log(np.cos(0.3))))
    assert [each["patch"] for each in info["per_patch"]] == [0, 1]
    assert info["per_patch"][1]["relative_variance"] == pytest.approx(0.25 / 16)
    assert info["per_patch"][1]["amplitude_mean"] == pytest.approx(4)


def test_scale_and_global_phase_change_no_relative_measure():
    patches = 1 + 0.1 * noise(3)
    plain, scaled = patch_statistics(patches), patch_statistics(1e6 * np.exp(2j) * patches)
    assert scaled["relative_variance"] == pytest.approx(plain["relative_variance"])
    assert scaled["phase_std_rad"] == pytest.approx(plain["phase_std_rad"])
    assert scaled["var_zero_mean"] == pytest.approx(1e12 * plain["var_zero_mean"])


def test_tensors_with_gradients_and_groups_are_accepted():
    patches = torch.from_numpy(noise(6).astype(np.complex64)).reshape(2, 3, N, N).requires_grad_()
    info = patch_statistics(patches.conj())
    assert info["patches"] == 6
    assert len(info["per_patch"]) == 4
    assert info["amplitude_mean"] == pytest.approx(patch_statistics(noise(6))["amplitude_mean"], rel=1e-5)


# --- records


def test_the_limit_holds_per_epoch_and_phase(tmp_path):
    statistics = PatchStatistics(2)
    for epoch in range(3):
        for phase in ("train", "validation"):
            for batch in range(5):
                statistics.add(phase, epoch, batch, noise(2))
    statistics.write(tmp_path)
    records = json.loads((tmp_path / "analysis" / "patch_stats.json").read_text())
    found = [(each["phase"], each["epoch"], each["batch"]) for each in records]
    assert found == [
        (phase, epoch, batch) for epoch in range(3) for phase in ("train", "validation") for batch in range(2)
    ]


def test_the_grid_shows_the_last_patches_and_no_placeholder(tmp_path):
    """Its image changes with the patches, and with theirs alone; files are whole, and no temporary one stays."""
    made = []
    for name, seed in (("a", 1), ("b", 2), ("c", 1)):
        statistics = PatchStatistics(1)
        statistics.add("train", 0, 0, noise(8, seed=9 + len(made)))
        statistics.add("train", 1, 0, noise(8, seed=seed))
        stats, grid = statistics.write(tmp_path / name)
        assert sorted(path.name for path in grid.parent.iterdir()) == [grid.name, stats.name]
        made.append(imread(grid))
    assert not np.array_equal(made[0], made[1])
    assert np.array_equal(made[0], made[2])


def test_small_batches_share_the_grid(monkeypatch, tmp_path):
    shown = []
    draw = figures.patch_grid
    monkeypatch.setattr(
        figures,
        "patch_grid",
        lambda patches, titles: shown.append((np.stack(patches), titles)) or draw(patches, titles),
    )
    statistics = PatchStatistics(100)
    for batch in range(12):
        statistics.add("inference", 0, batch, np.full((1, N, N), batch + 1j))
    statistics.write(tmp_path)
    [(patches, titles)] = shown
    assert patches[:, 0, 0].real.tolist() == list(range(4, 12))
    assert "batch 11" in titles[-1]


def test_undefined_numbers_are_written_as_null(tmp_path):
    statistics = PatchStatistics(1)
    statistics.add("train", 0, 0, np.zeros((4, N, N), np.complex64))
    statistics.add("train", 1, 0, np.full((4, N, N), np.nan, np.complex64))
    statistics.write(tmp_path)
    dark, broken = json.loads((tmp_path / "analysis" / "patch_stats.json").read_text())
    assert dark["amplitude_mean"] == 0
    assert dark["relative_variance"] is None
    assert broken["amplitude_mean"] is None


def test_nothing_recorded_is_an_empty_list_and_no_picture(tmp_path):
    [path] = PatchStatistics(0).write(tmp_path)
    assert json.loads(path.read_text()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "analysis").write_text("")
    with pytest.raises(InputError, match=r"analysis: diagnostics cannot be written .*another folder"):
        PatchStatistics(1).write(tmp_path)


# --- collapse


@pytest.mark.parametrize("dose", [1e3, 1e6])
def test_true_patches_have_not_collapsed(dose):
    made, truth = scanned(dose=dose)
    assert collapsed(truth, made.counts) is None
    assert collapsed(truth) is None


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_a_weak_phase_object_has_not_collapsed_at_any_scale(scale):
    """0.02 rad rms is a contrast, not a collapse."""
    _, truth = scanned()
    weak = np.angle(truth)
    weak = 0.02 * (weak - weak.mean()) / weak.std()
    assert collapsed(scale * np.exp(1j * (weak + 1.0))) is None


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_flat_patches_have_collapsed_though_each_has_its_own_transmission(scale):
    made, _ = scanned()
    flat = np.linspace(0.5, 1, 16)[:, None, None] * (1 + 1e-4 * noise(16))
    said = collapsed(scale * flat, made.counts)
    assert said is not None
    # Complex noise of 1e-4 in both parts.
    assert "no patch varies by more than 0.00014" in said
    assert "learning_rate" in said
    assert "clip" in said
    assert "epochs" in said


def test_identical_patches_of_different_patterns_have_collapsed_whatever_its_global_phase():
    made, truth = scanned()
    same = truth[:1] * np.exp(1j * np.arange(16))[:, None, None]
    said = collapsed(same, made.counts)
    assert said is not None
    assert "mean correlation of 1.000000" in said
    assert collapsed(truth[:1], made.counts[:1]) is None


@pytest.mark.parametrize("dose", [1.0, 1e3, 1e7])
def test_identical_patches_are_right_where_the_patterns_differ_by_shot_noise_alone(dose):
    made, truth = scanned(dose=1e6)
    mean = made.counts[0] * (dose / made.counts[0].sum(dtype=float))
    repeats = np.random.default_rng(0).poisson(mean, (16, N, N))
    same = np.broadcast_to(truth[0], (16, N, N))
    assert collapsed(same, repeats) is None
    assert collapsed(same) is not None


def test_dark_and_broken_patches_have_collapsed():
    dark = collapsed(1e-6 * noise(4))
    assert dark is not None
    assert "rms amplitude above 1.4e-06" in dark
    spoilt = noise(4)
    spoilt[0, : N // 2] = np.nan
    broken = collapsed(spoilt)
    assert broken is not None
    assert "0.125 of the patches' pixels are not finite" in broken


# --- one group for other programs


def test_the_parity_dump_can_be_put_together_again(tmp_path):
    """Members can be placed on the canvas from offsets, sizes and origin."""
    positions = np.array([[10.25, 20.5], [14.0, 18.75], [12.5, 25.0], [9.0, 22.0]])
    origin, shape = canvas_box(positions, N)
    canvas = noise(4).ravel()[: shape[0] * shape[1]].reshape(shape).astype(np.complex64)
    patches = cut(torch.from_numpy(canvas), positions, N, origin=origin)
    merged = Layout.of(positions[None], N).merge(patches[None], torch.ones(1, 4, N, N))
    written = parity_dump(tmp_path / "parity", patches.requires_grad_(), positions, merged, origin, figures.Figures())
    assert sorted(path.name for path in written) == [
        "canvas.json",
        "offsets.json",
        "parity.npz",
        "patches.png",
        "stats.json",
    ]
    assert sorted(path.name for path in (tmp_path / "parity").iterdir()) == sorted(path.name for path in written)

    with np.load(tmp_path / "parity" / "parity.npz", allow_pickle=False) as held:
        arrays = dict(held)
    again = cut(torch.from_numpy(arrays["canvas"]), arrays["positions"], N, origin=tuple(arrays["origin"].tolist()))
    np.testing.assert_allclose(again.numpy(), arrays["patches"], rtol=1e-5, atol=1e-6)

    info = {
        name: json.loads((tmp_path / "parity" / f"{name}.json").read_text()) for name in ("stats", "offsets", "canvas")
    }
    offsets = np.array(info["offsets"]["offsets"])
    np.testing.assert_array_equal(offsets, arrays["offsets"])
    # Our sign and order: the member that lies furthest down has the largest y.
    assert offsets[:, 0].argmax() == 1
    assert offsets[:, 1].argmax() == 2
    np.testing.assert_allclose(offsets - offsets[0], positions - positions[0])
    assert info["offsets"]["count"] == 4
    assert info["offsets"]["mean"] == pytest.approx([0, 0], abs=1e-12)
    assert info["offsets"]["std"] == pytest.approx(positions.std(0))
    assert info["canvas"] == {
        "patch_size": N,
        "canvas_size": list(merged.shape),
        "origin": list(origin),
        "members": 4,
        "max_abs_dy": pytest.approx(np.abs(offsets[:, 0]).max()),
        "max_abs_dx": pytest.approx(np.abs(offsets[:, 1]).max()),
    }
    amplitude = np.abs(patches.detach().numpy())
    assert info["stats"]["patch_amplitude"]["mean"] == pytest.approx(amplitude.mean(), rel=1e-5)
    assert info["stats"]["patch_amplitude"]["max"] == pytest.approx(amplitude.max(), rel=1e-5)
    assert info["stats"]["canvas_amplitude"]["std"] == pytest.approx(np.abs(arrays["canvas"]).std(), rel=1e-5)


def test_a_batch_of_groups_is_no_group(tmp_path):
    with pytest.raises(InputError, match=r"patches \(2, 4, 32, 32\).*of one group"):
        parity_dump(tmp_path, noise(8).reshape(2, 4, N, N), np.zeros((4, 2)), noise(1)[0], (0, 0))
    assert not list(tmp_path.iterdir())


# --- figures


def images(figure, row: int) -> list:
    columns = max(each.get_subplotspec().colspan.stop for each in figure.axes if each.get_subplotspec())
    return [ax.images[0] for ax in figure.axes if ax.get_subplotspec()][row * columns : (row + 1) * columns]


def test_the_group_figure_compares_in_one_range_with_zero_frequency_in_the_middle():
    made, truth = scanned(dead=0.02)
    counts = np.fft.ifftshift(made.counts[:9].astype(np.float32), axes=(-2, -1))
    before = torch.from_numpy(truth[:9] * np.exp(0.1j)).requires_grad_()
    figure = figures.plot_group(counts, torch.from_numpy(0.5 * counts), before, truth[:9], np.fft.ifftshift(made.mask))
    measured, predicted, amplitude, phase, apart = (images(figure, row) for row in range(5))
    assert len(measured) == 4
    assert "5 more members" in figure.get_supxlabel()
    assert {image.get_clim() for image in measured} == {image.get_clim() for image in predicted}
    drawn, valid = measured[1].get_array(), made.mask
    assert np.array_equal(np.ma.getmaskarray(drawn), ~valid)
    np.testing.assert_allclose(drawn[valid], np.maximum(made.counts[1], 1)[valid])
    np.testing.assert_allclose(amplitude[2].get_array(), np.abs(truth[2]), rtol=1e-5)
    # One phase for the whole group: the members keep theirs relative to each other.
    turn = np.exp(1j * phase[0].get_array()) / np.exp(1j * np.angle(truth[0]))
    np.testing.assert_allclose(turn, turn[0, 0], atol=1e-5)
    np.testing.assert_allclose(np.exp(1j * phase[3].get_array()) / np.exp(1j * np.angle(truth[3])), turn, atol=1e-5)
    assert abs(np.angle(np.sum(truth[:9] * turn[0, 0]))) < 1e-5
    np.testing.assert_allclose(apart[0].get_array(), np.abs(truth[0]) * 2 * np.sin(0.05), rtol=1e-4)
    for row in (amplitude, phase, apart):
        assert len({image.get_clim() for image in row}) == 1


def test_figures_of_empty_or_non_finite_data(tmp_path):
    """Patterns without photons and values that are not finite do not stop training, nor its figures."""
    dark, flat = np.zeros((1, N, N)), np.ones((1, N, N), complex)
    figures.plot_group(dark, dark, flat, flat).savefig(tmp_path / "dark.png")
    figures.plot_group(dark, np.full_like(dark, np.nan), flat * np.nan, flat * np.nan).savefig(tmp_path / "nan.png")


def test_the_grid_has_one_range_per_row():
    figure = figures.patch_grid(noise(5) * np.arange(1, 6)[:, None, None], [str(i) for i in range(5)])
    for row in range(2):
        shown = images(figure, row)
        assert len(shown) == 5
        assert len({image.get_clim() for image in shown}) == 1


def test_the_group_figure_is_coloured_by_lit_pixels():
    made, truth = scanned()
    counts, light = made.counts[:4].astype(np.float32), np.abs(made.probe[0]) ** 2
    dark = ~lit(light)
    patches = np.where(dark, 50 * np.exp(3j), truth[:4])
    figure = figures.plot_group(counts, counts, patches, patches, None, light)
    amplitude, phase = images(figure, 2), images(figure, 3)
    assert amplitude[0].get_clim()[1] < 2
    for image in (*amplitude, *phase):
        assert np.array_equal(np.ma.getmaskarray(image.get_array()), dark)
    # The level is that of the lit pixels.
    levelled = np.exp(1j * phase[0].get_array().filled(0)) * np.abs(patches[0])
    whole = np.concatenate([np.exp(1j * each.get_array().filled(0)) * ~dark for each in phase])
    assert levelled.shape == patches[0].shape
    assert abs(np.angle((whole * np.concatenate(np.abs(patches))).sum())) < 1e-5
    assert "not lit" in figure.get_supxlabel()
