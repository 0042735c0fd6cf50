from __future__ import annotations

import dataclasses
from dataclasses import replace

import numpy as np
import pytest

import diptych
from diptych.errors import InputError, UnavailableError
from diptych.prefer.decoders import cube_of
from diptych.prefer.decoders.reconstruction import SETTINGS, ReconstructionDecoder, picture
from diptych.prefer.decoders.settings import Choice, Number
from diptych.prefer.spaces.cube import settled
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.ptycho.figures.area import shown_box, striped
from diptych.ptycho.physics.illumination import illumination, lit
from diptych.ptycho.physics.measured import light_of
from diptych.runtime.interrupts import Cancel

FEW = (Choice("likelihood", ("poisson", "amplitude")), Number("epochs", 1, 4, 8, log=True, whole=True))


@pytest.fixture(scope="module")
def scan():
    return diptych.simulate(object="blocks", size=16, patterns=25, step=3.0, dose=1e4, seed=0)


@pytest.fixture
def decoder(scan):
    return ReconstructionDecoder(scan, settings=FEW, threads=1)


def test_five_settings_of_which_one_is_a_category(scan):
    decoder = ReconstructionDecoder(scan, threads=1)
    assert len(SETTINGS) == 5
    assert (decoder.space, decoder.dimension) == ("cube", 6)
    assert decoder.categories == (slice(0, 2),)


@pytest.mark.integration
def test_the_defaults_are_those_of_reconstruct_and_lie_at_the_centre(scan):
    decoder = ReconstructionDecoder(scan, threads=1)
    centre = decoder.values(np.full(6, 0.5))
    assert centre == {"likelihood": "poisson", "epochs": 100, "alpha": 0.3, "step": 1.0, "momentum": 0.8}
    assert decoder.values(decoder.start) == centre
    assert decoder.start.tolist() == [1, 0, 0.5, 0.5, 0.5, 0.5]
    chosen = diptych.reconstruct(scan, **centre)
    plain = diptych.reconstruct(scan)
    assert diptych.evaluate(chosen, truth=scan.truth)["complex_error"] == pytest.approx(
        diptych.evaluate(plain, truth=scan.truth)["complex_error"], rel=0.05
    )


def test_points_that_mean_the_same_settings_are_brought_to_one(scan):
    for decoder in (ReconstructionDecoder(scan, threads=1), ReconstructionDecoder(scan, settings=FEW, threads=1)):
        rng = np.random.default_rng(0)
        for point in rng.random((200, decoder.dimension), dtype=np.float32):
            place = settled(point, cube_of(decoder)).astype(np.float32)
            values = decoder.values(place)
            assert values == decoder.values(point)
            assert np.array_equal(place, decoder.latent(**values)) or not values.keys() <= {"likelihood", "epochs"}
        assert np.array_equal(settled(decoder.start, cube_of(decoder)), decoder.start)
    epochs = {float(settled([1, 0, u], cube_of(decoder))[2]) for u in np.linspace(0, 1, 500)}
    assert len(epochs) == 8, "one quantile for each number of epochs"


def test_the_largest_number_chooses_and_the_first_of_equals(decoder):
    assert decoder.values([0.2, 0.3, 0.5])["likelihood"] == "amplitude"
    assert decoder.values([0.3, 0.3, 0.5])["likelihood"] == "poisson"
    found = decoder.latent(likelihood="amplitude", epochs=8)
    assert found.tolist() == [0, 1, 1]
    assert decoder.values(found) == {"likelihood": "amplitude", "epochs": 8}
    with pytest.raises(InputError, match="has no colour; expected some of likelihood, epochs"):
        decoder.latent(colour=1)
    with pytest.raises(InputError, match="likelihood = 'other' is outside; expected one of poisson, amplitude"):
        decoder.latent(likelihood="other")


def test_the_picture_is_that_of_the_reconstruction_with_those_settings(scan, decoder):
    latent = decoder.latent(likelihood="amplitude", epochs=3)
    image = decoder.decode(latent)
    assert image.shape == (decoder.frame.height, decoder.frame.width, 3)
    assert image.dtype == np.uint8
    assert decoder.last.flaw == ""
    result = decoder.result(latent)
    assert result.provenance["options"]["likelihood"] == "amplitude"
    assert result.provenance["epochs"] == 3
    # The same settings, from another latent, are the same reconstruction.
    assert decoder.result([0.1, 0.4, decoder.latent(epochs=3)[2]]) is result
    direct = diptych.reconstruct(
        scan,
        likelihood="amplitude",
        epochs=3,
        execution=diptych.runtime.device.ExecutionOptions(device="cpu", threads=1),
    )
    assert np.array_equal(direct.object.values, result.object.values)


def test_the_same_latent_gives_the_same_bytes(scan, decoder):
    image = decoder.decode(decoder.start)
    assert decoder.decode(decoder.start).tobytes() == image.tobytes()
    assert ReconstructionDecoder(scan, settings=FEW, threads=1).decode(decoder.start).tobytes() == image.tobytes()
    assert decoder.decode(decoder.latent(epochs=1)).tobytes() != image.tobytes()


def test_phase_and_amplitude_stand_side_by_side():
    """A sample that only absorbs shows its squares on the left alone; one that only shifts the phase, on the right
    alone."""
    spread = {}
    for kind, ranges in (
        ("absorbs", {"amplitude": (0.5, 1.0), "phase": (0.0, 0.0)}),
        ("shifts", {"amplitude": (1.0, 1.0), "phase": (0.0, 1.0)}),
    ):
        scan = diptych.simulate(object="blocks", size=16, patterns=49, step=3.0, dose=1e7, seed=0, **ranges)
        decoder = ReconstructionDecoder(scan, threads=1)
        result = decoder.result(decoder.start)
        image = decoder.decode(decoder.start).astype(float)[..., 0]
        middle = image.shape[1] // 2
        y0, y1, x0, x1 = decoder._box
        truth = scan.truth.crop(y0, y1, x0, x1).values
        shown = np.abs(truth) if kind == "absorbs" else np.angle(truth)
        side = image[:, : middle - 2] if kind == "absorbs" else image[:, middle + 2 :]
        small = side[:: decoder._scale, :: decoder._scale]
        spread[kind] = np.corrcoef(small.ravel(), shown.ravel())[0, 1]
        assert result.name == scan.name
    assert spread["absorbs"] > 0.9
    assert spread["shifts"] > 0.9


def test_settings_that_reconstruct_nothing_are_black_but_bad_defaults_are_an_error(decoder, monkeypatch):
    def diverged(*_, **options):
        raise InputError("canvas: 9 of 9 values are not finite")

    monkeypatch.setattr("diptych.ptycho.reconstruct.reconstruct", diverged)
    image = decoder.decode(decoder.latent(epochs=2))
    assert image.shape == (decoder.frame.height, decoder.frame.width, 3)
    assert not image.any()
    assert decoder.last.flaw == "not finite"
    with pytest.raises(InputError, match="not finite"):
        decoder.decode(decoder.start)


def test_results_are_kept_but_not_without_end(decoder, monkeypatch):
    from diptych.prefer.decoders import reconstruction

    monkeypatch.setattr(reconstruction, "KEPT", 2)
    results = [decoder.result(decoder.latent(epochs=epochs)) for epochs in (1, 2, 3)]
    assert len(decoder._results) == 2
    assert decoder.result(decoder.latent(epochs=3)) is results[2]
    again = decoder.result(decoder.latent(epochs=1))
    assert again is not results[0]
    assert np.array_equal(again.object.values, results[0].object.values)


def test_a_scan_along_a_line_has_a_picture():
    counts = np.random.default_rng(0).poisson(5.0, (6, 16, 16)).astype(np.uint16)
    positions = np.stack([np.full(6, 20.0), 10 + 3.0 * np.arange(6)], axis=1)
    scan = diptych.Scan(counts, positions, np.ones((16, 16), np.complex64))
    decoder = ReconstructionDecoder(scan, settings=FEW, threads=1)
    assert decoder.decode(decoder.latent(epochs=1)).shape == (decoder.frame.height, decoder.frame.width, 3)


def test_wrong_spaces_and_scans_are_refused(scan, tmp_path):
    with pytest.raises(
        InputError, match="settings: colour cannot be searched; expected different options of reconstruct"
    ):
        ReconstructionDecoder(scan, settings=(Number("colour", 0, 1, 2),))
    with pytest.raises(InputError, match="settings: epochs cannot be searched"):
        ReconstructionDecoder(scan, settings=(FEW[1], FEW[1]))
    with pytest.raises(InputError, match=r"got a dict; expected a Scan"):
        ReconstructionDecoder({})
    with pytest.raises(InputError, match=r"values from 0 to 1"):
        ReconstructionDecoder(scan, settings=FEW).decode([0, 1, 2])
    diptych.save(scan, tmp_path / "scan.npz")
    loaded = ReconstructionDecoder(
        tmp_path / "scan.npz", settings=FEW, options=ReconstructionOptions(engine="rpie"), threads=1
    )
    assert loaded.result(loaded.latent(epochs=1)).provenance["engine"] == "rpie"


def test_the_frame_tells_scans_of_one_name_apart_by_their_data(scan, tmp_path):
    def model(found, **options):
        return ReconstructionDecoder(found, **{"settings": FEW, "threads": 1, **options}).frame.model

    own = model(scan)
    assert own.startswith(f"reconstruct {scan.name} ")
    counts, positions = scan.counts.copy(), scan.positions.copy()
    counts[7, 3, 5] += 1
    positions[2, 1] += 1e-6
    mask = np.ones(scan.counts.shape[1:], bool)
    others = [
        diptych.simulate(object="blocks", size=16, patterns=25, step=3.0, dose=1e4, seed=1),
        dataclasses.replace(scan, counts=counts),
        dataclasses.replace(scan, positions=positions),
        dataclasses.replace(scan, probe=scan.probe * 1.001),
        dataclasses.replace(scan, background=np.full(mask.shape, 0.1, np.float32)),
        dataclasses.replace(scan, mask=mask & (np.arange(16) > 0)),
        dataclasses.replace(scan, probe_calibrated=not scan.probe_calibrated),
    ]
    models = [model(other) for other in others]
    models += [model(scan, options=ReconstructionOptions(modes=2)), model(scan, settings=FEW[1:] + FEW[:1])]
    assert len({own, *models}) == len(models) + 1
    # The same data in another form, or with another name of the file, are the same scan.
    diptych.save(scan, tmp_path / "other.npz")
    path = tmp_path / "folder" / ".." / "other.npz"
    (tmp_path / "folder").mkdir()
    same = dataclasses.replace(
        scan, mask=mask, truth=None, true_probe=None, metadata={}, counts=scan.counts.astype("f4")
    )
    assert model(same) == own
    assert model(tmp_path / "other.npz").split()[-1] == model(str(path)).split()[-1] == own.split()[-1]


def test_a_reconstruction_tells_its_epochs_and_stops_when_asked(decoder):
    seen, cancel = [], Cancel()
    decoder.attend(seen.append, cancel)
    decoder.decode(decoder.start)
    assert seen[-1].done == decoder.values(decoder.start)["epochs"]
    cancel.request()
    with pytest.raises(UnavailableError, match="was stopped"):
        decoder.decode(decoder.latent(epochs=8))


def test_pixels_that_light_did_not_reach_are_striped_and_change_nothing_else():
    scan = diptych.simulate(
        object="natural", size=16, patterns=60, step=3.0, dose=1e5, trajectory="fermat-spiral", seed=1
    )
    truth = scan.truth
    light = illumination(scan.true_probe, scan.positions, truth.origin, truth.shape)
    y, x = np.indices(truth.shape)
    calm = np.where(lit(light), truth.values, 1)
    wild = np.where(lit(light), truth.values, 40 * np.exp(1j * (0.3 * y - 0.2 * x)))
    options = {"options": {"probe": "refine"}}
    results = [
        diptych.Reconstruction(
            replace(truth, values=values), scan.true_probe, scan.positions, provenance=options, illumination=light
        )
        for values in (calm, wild)
    ]
    box = shown_box(scan.positions, light_of(results[0]))
    first, second = (picture(result, box, 1).image for result in results)
    assert np.abs(first.astype(int) - second).max() <= 1
    seen = light_of(results[0]).mask(box)
    assert 0 < seen.mean() < 1
    stripes = 255 * striped(np.zeros((*seen.shape, 3)), seen)
    for half in (second[:, : seen.shape[1]], second[:, -seen.shape[1] :]):
        assert np.abs(half[~seen] - stripes[~seen]).max() <= 1
        # The range of the lit pixels fills the colour map.
        assert np.ptp(half[seen].astype(int)) > 200
