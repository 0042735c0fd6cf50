"""The diffusion decoder on the tiny pipeline: the same calls that a checkpoint of gigabytes would see."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from diptych.errors import InputError, UnavailableError
from diptych.prefer.decoders import open_decoder
from diptych.prefer.decoders.diffusion import Diffusion
from diptych.prefer.decoders.pipelines import Pipeline


@pytest.fixture(scope="module")
def pipeline(tiny: Path) -> Pipeline:
    return Pipeline(str(tiny), "cpu")


@pytest.fixture
def decoder(pipeline: Pipeline) -> Diffusion:
    return Diffusion("a cat", steps=2, pipeline=pipeline)


def noise(seed: int = 0, d: int = 1024) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(d, dtype=np.float32)


def test_it_opens_by_name_with_the_sizes_of_the_checkpoint(tiny):
    decoder = open_decoder("diffusion", model=str(tiny), prompt="a cat", steps=20)
    frame = decoder.frame
    assert (decoder.space, decoder.dimension, decoder.shape) == ("sphere", 1024, (4, 16, 16))
    assert (frame.width, frame.height, frame.steps, frame.guidance, frame.scheduler) == (
        128,
        128,
        20,
        7.5,
        "EulerDiscreteScheduler",
    )
    assert (frame.device, frame.dtype, frame.threads) == ("cpu", "float32", torch.get_num_threads())
    assert {name for name, _ in frame.versions} == {"diptych", "torch", "diffusers", "transformers"}
    assert Diffusion(model=str(tiny)).frame.steps == 6


@pytest.mark.parametrize(
    "scheduler", ["EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "DDIMScheduler", "LCMScheduler"]
)
def test_the_same_latent_gives_the_same_bytes_whatever_came_between(decoder, scheduler):
    changed = decoder.changed(scheduler=scheduler, steps=3)
    first = changed.decode(noise())
    torch.manual_seed(torch.seed())
    decoder.decode(noise(1))
    changed.decode(noise(2))
    assert changed.decode(noise()).tobytes() == first.tobytes()
    assert changed.decode(noise(1)).tobytes() != first.tobytes()


def test_the_seed_of_the_frame_decides_the_noise_of_noisy_samplers_alone(decoder):
    for scheduler in ("EulerAncestralDiscreteScheduler", "LCMScheduler"):
        noisy = decoder.changed(scheduler=scheduler, steps=3)
        assert not np.array_equal(noisy.decode(noise()), noisy.changed(seed=1).decode(noise()))
    assert np.array_equal(decoder.decode(noise()), decoder.changed(seed=1).decode(noise()))


@pytest.mark.parametrize(("scheduler", "sigma"), [("EulerDiscreteScheduler", 14.6146), ("DDIMScheduler", 1.0)])
def test_only_the_pipeline_scales_the_latent(decoder, monkeypatch, scheduler, sigma):
    import diffusers

    entering: list[torch.Tensor] = []
    kind = getattr(diffusers, scheduler)
    real = kind.scale_model_input

    def spy(self, sample, *arguments, **options):
        entering.append(sample.clone())
        return real(self, sample, *arguments, **options)

    monkeypatch.setattr(kind, "scale_model_input", spy)
    z = noise()
    z = z / z.std()
    decoder.changed(scheduler=scheduler, guidance=1.0).decode(z)
    assert float(entering[0].std(correction=0)) == pytest.approx(sigma, rel=1e-4)
    assert torch.allclose(entering[0][0].flatten(), sigma * torch.from_numpy(z), rtol=1e-4, atol=1e-4)


def test_prompts_and_guidance_reach_the_image(decoder):
    image = decoder.decode(noise())
    assert not np.array_equal(decoder.changed(prompt="a dog").decode(noise()), image)
    assert not np.array_equal(decoder.changed(negative_prompt="a dog").decode(noise()), image)
    assert not np.array_equal(decoder.changed(guidance=2.0).decode(noise()), image)
    unguided = decoder.changed(guidance=0.0)
    assert np.array_equal(unguided.changed(negative_prompt="a dog").decode(noise()), unguided.decode(noise()))


def test_kept_embeddings_are_used_and_change_nothing(tiny):
    pipeline = Pipeline(str(tiny), "cpu")
    asked: list[str] = []
    real = pipeline._pipe.encode_prompt

    def spy(*arguments, **options):
        asked.append(options.get("prompt") or arguments[0])
        return real(*arguments, **options)

    pipeline._pipe.encode_prompt = spy
    decoder = Diffusion("a cat", steps=1, pipeline=pipeline)
    first = decoder.decode(noise())
    assert len(pipeline._embeddings) == 1
    before = len(asked)
    assert np.array_equal(decoder.decode(noise()), first)
    # The pipeline asks for nothing new: the embeddings are passed in.
    assert [prompt for prompt in asked[before:] if prompt] == []
    decoder.changed(negative_prompt="a dog").decode(noise())
    decoder.changed(guidance=1.0).decode(noise())
    assert len(pipeline._embeddings) == 3
    decoder.changed(prompt="at guidance 0", guidance=0.0).decode(noise())
    assert len(pipeline._embeddings) == 3
    plain = pipeline._pipe(
        "a cat",
        latents=torch.from_numpy(noise().reshape(1, 4, 16, 16)),
        num_inference_steps=1,
        output_type="np",
    ).images[0]
    assert np.array_equal(np.rint(plain * 255).astype(np.uint8), first)


def test_another_model_frees_the_first_before_it_is_loaded(tiny, tmp_path):
    other = shutil.copytree(tiny, tmp_path / "other")
    first = Diffusion("a cat", model=str(tiny), steps=1)
    first.decode(noise())
    second = first.changed(model=str(other))
    assert (second.frame.prompt, second.frame.model, second.frame.steps) == ("a cat", str(other), 1)
    assert first.pipeline._pipe is None
    assert not first.pipeline._embeddings
    with pytest.raises(InputError, match="the pipeline is closed"):
        first.decode(noise())
    assert second.decode(noise()).shape == (128, 128, 3)


def test_turbo_models_take_no_guidance_and_say_so(tiny, tmp_path, caplog):
    turbo = shutil.copytree(tiny, tmp_path / "my-Turbo-model")
    with caplog.at_level("INFO", logger="diptych"):
        decoder = Diffusion("a cat", model=str(turbo), steps=1, guidance=3.5)
    assert decoder.frame.guidance == 0
    assert "guidance 3.5 requested, 0 in effect" in caplog.text
    assert decoder.changed(guidance=5.0).frame.guidance == 0
    decoder.decode(noise())
    assert not decoder.pipeline._embeddings
    below = shutil.copytree(tiny, tmp_path / "turbo-models" / "plain")
    assert Diffusion("a cat", model=str(below)).frame.guidance == 7.5


@pytest.mark.parametrize("shape", [(1023,), (4, 16, 17), (1, 1024), (4096,)])
def test_latents_of_another_shape_are_refused(decoder, shape):
    with pytest.raises(InputError, match=r"expected \(1024,\) or \(4, 16, 16\) for images of 128 x 128 px"):
        decoder.decode(np.zeros(shape))


def test_other_sizes_have_other_dimensions(decoder):
    wide = decoder.changed(width=192, height=64)
    assert wide.shape == (4, 8, 24)
    assert wide.decode(noise(d=768)).shape == (64, 192, 3)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"width": 100}, "width = 100 px; expected a multiple of 8"),
        ({"height": 0}, "height = 0 px; expected a multiple of 8"),
        ({"steps": 0}, "steps = 0; expected 1 to 1000"),
        ({"guidance": -1.0}, r"guidance = -1\.0; expected 0 or more"),
        ({"seed": -1}, "seed = -1; expected 0 or more"),
        ({"scheduler": "os"}, "the scheduler 'os' is not compatible; expected one of .*DDIMScheduler"),
        ({"device": "cpu"}, "has no device to change"),
    ],
)
def test_wrong_settings_are_refused(decoder, wrong, text):
    with pytest.raises(InputError, match=text):
        decoder.changed(**wrong)


def test_running_out_of_memory_is_retried_once_in_slices_and_recorded(tiny, monkeypatch):
    decoder = Diffusion("a cat", model=str(tiny), steps=1)
    usual = decoder.decode(noise())
    assert (decoder.last.retried, decoder.frame.dtype) == ("", "float32")
    failures = [torch.OutOfMemoryError("CUDA out of memory")]
    real = Pipeline._run

    def run(self, frame, latent):
        if failures:
            raise failures.pop()
        return real(self, frame, latent)

    monkeypatch.setattr(Pipeline, "_run", run)
    sliced = decoder.decode(noise())
    assert "out of memory; attention and autoencoder in slices" in decoder.last.retried
    assert decoder.frame.dtype == decoder.last.frame.dtype == "float32, sliced"
    assert np.abs(sliced.astype(int) - usual).max() <= 2
    assert decoder.decode(noise()).tobytes() == sliced.tobytes()
    failures += [RuntimeError("DefaultCPUAllocator: can't allocate memory")] * 2
    with pytest.raises(UnavailableError, match=r"128 x 128 px do not fit into the memory of cpu.*smaller width"):
        decoder.decode(noise())
    failures.append(RuntimeError("something else"))
    with pytest.raises(RuntimeError, match="something else"):
        decoder.decode(noise())


def test_images_that_are_black_flat_or_not_finite_are_told(decoder, monkeypatch, caplog):
    for value, flaw in ((0.0, "black"), (0.5, "flat"), (np.nan, "not finite")):
        monkeypatch.setattr(
            Pipeline, "_run", lambda self, frame, latent, value=value: np.full((128, 128, 3), value, np.float32)
        )
        decoder.decode(noise())
        assert decoder.last.flaw == flaw
        assert f"the image is {flaw}" in caplog.text


def test_the_last_decode_is_on_record(decoder):
    z = noise(3)
    image = decoder.decode(z)
    last = decoder.last
    assert last.frame == decoder.frame
    assert last.shape == (4, 16, 16)
    assert last.latent_std == pytest.approx(float(z.std()), rel=1e-5)
    assert last.init_sigma == pytest.approx(float(decoder.pipeline._opened().scheduler.init_noise_sigma))
    assert last.image_mean == pytest.approx(float(image.mean()))
    assert (last.image_min, last.image_max) == (int(image.min()), int(image.max()))
    assert last.seconds > 0


def test_an_image_becomes_a_latent_of_the_right_shape(decoder):
    image = decoder.decode(noise())
    code = decoder.encode(image)
    assert code.shape == (1024,)
    assert code.dtype == np.float32
    assert np.array_equal(code, decoder.encode(image))
    assert not np.array_equal(code, decoder.encode(255 - image))
    assert decoder.encode(image[:50, :70]).shape == (1024,)
    with pytest.raises(InputError, match=r"float64 of shape \(4, 4\); expected uint8 of shape"):
        decoder.encode(np.zeros((4, 4)))
