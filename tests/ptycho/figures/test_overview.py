"""Figures: content, labels, no global state."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from diptych.errors import InputError
from diptych.ptycho.evaluate import evaluate, fourier_ring_correlation
from diptych.ptycho.figures import colours, panels
from diptych.ptycho.figures.overview import plot_comparison, plot_frc, plot_reconstruction, plot_scan, save_figure
from diptych.ptycho.physics import measured
from diptych.ptycho.scan import Canvas, Geometry


def texts(figure):
    return [t.get_text() for t in figure.findobj(matplotlib.text.Text) if t.get_text()]


def overlapping_titles(figure):
    """Pairs of titles whose bounding boxes overlap."""
    figure.draw_without_rendering()
    boxes = [ax.title.get_window_extent() for ax in figure.axes if ax.title.get_text()]
    return [(i, j) for i in range(len(boxes)) for j in range(i) if boxes[i].overlaps(boxes[j])]


def test_hue_is_phase_and_brightness_amplitude():
    rgb = colours.complex_to_rgb(
        np.array([[1, np.exp(2j * np.pi / 3), np.exp(-2j * np.pi / 3), 0.5, 0, 7]]), limit=1.0
    )[0]
    expected = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.5, 0, 0), (0, 0, 0), (1, 0, 0)]
    assert rgb == pytest.approx(np.array(expected, float), abs=1e-9)


def test_wheel_matches_the_colours():
    wheel = colours.colour_wheel(65)
    assert wheel[32, 64] == pytest.approx([1, 0, 0, 1])
    assert wheel[0, 32, 3] == 1
    assert wheel[0, 0, 3] == 0
    assert wheel[0, 32] == pytest.approx([*colours.complex_to_rgb(np.array([[1j]]), 1.0)[0, 0], 1])


def test_robust_range_ignores_outliers_and_is_never_empty():
    values = np.linspace(0, 1, 10001)
    values[:20] = 1e6
    assert colours.robust_range(values)[1] < 1.01
    low, high = colours.robust_range(np.full(10, 3.0))
    assert low < 3 < high
    assert colours.robust_range(np.array([np.nan])) == (0, 1)


def test_level_phase_removes_ramp_and_offset(field, displace):
    ramped = displace(field, (0, 0), (0.3, -0.2), np.exp(2j))
    levelled, plain = colours.level_phase(ramped, ramp=True), colours.level_phase(field, ramp=True)
    assert np.angle(levelled * plain.conj()) == pytest.approx(0, abs=0.05)
    kept = colours.level_phase(ramped, ramp=False)
    assert np.abs(np.angle(kept * plain.conj())).max() > 1


def test_phase_map_turns_cyclic_when_the_phase_wraps():
    assert colours.phase_display(np.linspace(-1, 1, 100))[0] == "gray"
    assert colours.phase_display(np.linspace(-3.1, 3.1, 100)) == ("twilight", (-np.pi, np.pi))


@given(st.floats(1e-12, 1e9))
def test_nice_length_is_round_and_fits(limit):
    length = panels.nice_length(limit)
    assert limit / 2.5 <= length * (1 + 1e-9) <= limit * (1 + 1e-6)
    assert f"{length:e}"[0] in "125"
    assert float(f"{length:.0e}") == pytest.approx(length)


@pytest.mark.parametrize(
    ("metres", "text"),
    [(5e-7, "500 nm"), (1e-6, "1 µm"), (2e-5, "20 µm"), (5e-3, "5 mm"), (2e-10, "0.2 nm"), (2.0, "2 m")],
)
def test_length_text(metres, text):
    assert panels.length_text(metres) == text


def test_scale_bar_has_the_labelled_length():
    ax = Figure().subplots()
    ax.imshow(np.zeros((100, 200)))
    assert panels.scale_bar(ax, 200, 100) == "50 px"
    assert panels.scale_bar(ax, 200, 100, (1e-8, 2e-8)) == "1 µm"
    drawn = [p.get_width() for p in ax.findobj(matplotlib.patches.Rectangle) if p.get_width() == 50]
    assert len(drawn) == 2


@pytest.fixture(scope="module")
def result(truth, as_result):
    known = Canvas(truth.values.astype(np.complex64), truth.origin, pixel_m=(1e-8, 1e-8))
    return as_result(
        known, history={"epoch": [1, 2, 3], "fit": [9.0, 2.0, 1.1], "held_out_fit": [9.5, 2.5, 1.3]}, name="little star"
    )


def test_plot_reconstruction(result):
    figure = plot_reconstruction(result)
    shown = texts(figure)
    for expected in (
        "Amplitude",
        "Phase, ramp removed",
        "Probe",
        "History",
        "amplitude",
        "phase (rad)",
        "epoch",
        "shot noise",
        "200 nm",
    ):
        assert expected in shown, expected
    assert any("little star" in text and "fit 1.1" in text for text in shown)
    assert not overlapping_titles(figure)
    image = next(ax for ax in figure.axes if ax.get_title() == "Amplitude").images[0].get_array()
    assert image.shape == (88, 88)


def test_plot_reconstruction_unknown_geometry_modes_and_flags(truth, as_result, probe):
    modes = np.stack([probe, 0.1 * probe[::-1] * 1j, *(0.01 * probe for _ in range(4))])
    plain = as_result(truth, "fixed", flags=("the fit stayed far above shot noise",))
    figure = plot_reconstruction(replace(plain, probe=modes))
    shown = texts(figure)
    assert "Phase" in shown
    assert any(text.endswith(" px") for text in shown)
    assert any(text.startswith("Probe mode 1\n") for text in shown)
    assert any("2 weaker modes not shown" in text for text in shown)
    assert any("far above shot noise" in text for text in shown)
    assert "not recorded" in shown
    assert not overlapping_titles(figure)


def test_plot_reconstruction_of_a_line_scan(truth, as_result, positions):
    line = replace(as_result(truth), positions=positions[:9])
    figure = plot_reconstruction(line)
    image = next(ax for ax in figure.axes if ax.get_title() == "Amplitude").images[0].get_array()
    # A line bounds no area: its height is that of the lit pixels.
    lit = measured.light_of(line).lit
    assert image.shape == (int(lit.any(axis=1).sum()), 88)


def test_history_falls_back_on_the_loss():
    ax = Figure().subplots()
    panels.show_history(ax, {"loss": [3.0, 2.0, np.nan]})
    assert ax.get_ylabel() == "loss"
    assert ax.get_yscale() == "log"
    assert list(ax.lines[0].get_ydata()) == [3.0, 2.0]


def test_plot_scan(scan):
    mask = np.ones((16, 16), bool)
    mask[2] = False
    figure = plot_scan(replace(scan, mask=mask, geometry=Geometry(8000.0, 1.0, 75e-6)))
    shown = texts(figure)
    for expected in (
        "Mean pattern",
        "Positions",
        "Initial probe",
        "photons per pixel",
        "photons per pattern",
        "y (object px)",
    ):
        assert expected in shown, expected
    assert any("nm" in text or "µm" in text for text in shown)
    assert not overlapping_titles(figure)
    axes = {ax.get_title(): ax for ax in figure.axes}
    totals = axes["Positions"].collections[0].get_array()
    assert np.asarray(totals) == pytest.approx(scan.counts[:, mask].sum(axis=1))
    assert np.ma.getmaskarray(axes["Mean pattern"].images[0].get_array())[2].all()
    low, high = sorted(axes["Positions"].get_ylim())
    assert axes["Positions"].get_ylim()[0] == high
    assert low < scan.positions[:, 0].min()


def test_plot_scan_without_probe(scan):
    assert "none given" in texts(plot_scan(replace(scan, probe=None)))


def test_plot_frc_marks_the_crossing(field):
    rng = np.random.default_rng(0)
    curve = fourier_ring_correlation(field, field + 0.02 * rng.normal(size=field.shape), pixel_m=1e-8, label="mine")
    figure = plot_frc([curve], (0.5, 1 / 7, "half-bit"))
    shown = texts(figure)
    assert {"mine", "threshold 0.5", "threshold 1/7", "threshold half-bit", "half-period resolution"} <= set(shown)
    assert panels.length_text(1e-8 / curve.crossing(0.5)) in shown
    pixels = texts(plot_frc(replace(curve, pixel_m=None), (0.5,)))
    assert f"{1 / curve.crossing(0.5):.3g} px" in pixels


def test_plot_frc_of_metrics_and_of_nothing_resolved(truth, as_result):
    noise = np.random.default_rng(0).normal(size=(64, 64))
    found = evaluate(as_result(truth), truth)
    assert len(plot_frc(found).axes[0].lines) >= 3
    plot_frc(fourier_ring_correlation(noise, np.random.default_rng(1).normal(size=(64, 64))))


def test_plot_comparison(result, truth):
    found = evaluate(result, truth)
    for figure in (
        plot_comparison(result, truth),
        plot_comparison(found.alignment),
        plot_comparison(result.object, truth),
    ):
        shown = texts(figure)
        assert {"True amplitude", "Reconstructed phase"} <= set(shown)
        assert any(text.startswith("Relative complex error 0.0000") for text in shown)
        assert not overlapping_titles(figure)
    with pytest.raises(InputError, match="no truth"):
        plot_comparison(result)


def test_save_figure(tmp_path):
    figure = Figure(figsize=(2, 1))
    path = save_figure(figure, tmp_path / "new" / "a.png", dpi=50)
    assert path.read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(InputError, match=r"a\.txt: the suffix is .*; expected one of \.png"):
        save_figure(figure, tmp_path / "a.txt")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        save_figure(figure, tmp_path / "file" / "a.png")


def test_no_global_state():
    code = "import sys, diptych.ptycho.figures.overview; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_plot_methods_of_the_data_types(scan, result):
    assert isinstance(scan.plot(), Figure)
    assert isinstance(result.plot(), Figure)
