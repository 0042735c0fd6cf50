"""Loading: the fall-backs, what is refused, and what a person is told."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from diptych.errors import InputError, UnavailableError
from diptych.prefer.decoders.diffusion import Diffusion
from diptych.prefer.decoders.loading import OFFLINE, is_turbo, read_index
from diptych.prefer.decoders.pipelines import Pipeline


@pytest.fixture
def loads(tiny, monkeypatch):
    """Calls of from_pretrained, and what the next ones raise."""
    from diffusers import AutoPipelineForText2Image

    real = AutoPipelineForText2Image.from_pretrained
    calls, failures = [], []

    def spy(model, **options):
        calls.append({name: options[name] for name in ("low_cpu_mem_usage", "device_map") if name in options})
        assert options["use_safetensors"] is True
        if failures:
            raise failures.pop(0)
        return real(model, **options)

    monkeypatch.setattr(AutoPipelineForText2Image, "from_pretrained", spy)
    return calls, failures


PLAIN = {"low_cpu_mem_usage": False}
MAPPED = {"low_cpu_mem_usage": True, "device_map": "cpu"}
LAST = {"low_cpu_mem_usage": True}


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        ([], [PLAIN]),
        ([NotImplementedError("Cannot copy out of meta tensor; no data!")], [PLAIN, MAPPED]),
        ([NotImplementedError("no data"), ValueError("device_map is not supported")], [PLAIN, MAPPED, LAST]),
    ],
)
def test_weights_without_a_place_are_loaded_another_way(tiny, loads, failures, expected):
    calls, coming = loads
    coming += failures
    pipeline = Pipeline(str(tiny), "cpu")
    assert calls == expected
    assert pipeline.device.type == "cpu"
    assert pipeline.usual_side == 128


def test_the_third_failure_and_any_other_are_told(tiny, loads):
    calls, coming = loads
    coming += [NotImplementedError("no data")] * 3
    with pytest.raises(InputError, match=r"its weights cannot be loaded \(no data\)"):
        Pipeline(str(tiny), "cpu")
    assert len(calls) == 3
    coming.append(OSError("disk error"))
    with pytest.raises(InputError, match="disk error"):
        Pipeline(str(tiny), "cpu")
    assert len(calls) == 4
    coming.append(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"))
    with pytest.raises(UnavailableError, match="does not fit into memory"):
        Pipeline(str(tiny), "cpu")


def test_missing_weights_are_told(tiny, tmp_path):
    broken = shutil.copytree(tiny, tmp_path / "broken")
    (broken / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(
        InputError, match=r"broken: its weights cannot be loaded .*expected every part that model_index\.json names"
    ):
        Pipeline(str(broken), "cpu")


def test_pickled_weights_are_not_read(tiny, tmp_path):
    import torch
    from safetensors.torch import load_file

    pickled = shutil.copytree(tiny, tmp_path / "pickled")
    weights = pickled / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(InputError, match="its weights cannot be loaded"):
        Pipeline(str(pickled), "cpu")


def test_what_is_no_pipeline_is_refused(tiny, tmp_path):
    with pytest.raises(InputError, match=r"model_index\.json cannot be read .*expected the folder of a pipeline"):
        Pipeline(str(tmp_path), "cpu")
    with pytest.raises(InputError, match="is neither a folder nor an id of the hub"):
        Pipeline(str(tmp_path / "absent" / "folder"), "cpu")


@pytest.mark.parametrize(
    "model", ["black-forest-labs/FLUX.1-schnell", "stabilityai/stable-diffusion-3-medium-diffusers", "someone/sd3.5-x"]
)
def test_packed_models_are_refused_by_name(tiny, model):
    with pytest.raises(
        InputError, match=rf"{model}: is a packed flow-matching model.*expected Stable Diffusion 1\.x, 2\.x or XL"
    ):
        Pipeline(model, "cpu")


@pytest.mark.parametrize(
    ("family", "text"),
    [
        ("FluxPipeline", "is a FluxPipeline, a packed flow-matching model"),
        ("StableDiffusion3Pipeline", "is a StableDiffusion3Pipeline, a packed flow-matching model"),
        ("WuerstchenCombinedPipeline", "is a WuerstchenCombinedPipeline, whose latents"),
    ],
)
def test_folders_of_other_families_are_refused(tiny, tmp_path, family, text):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": family}), encoding="utf-8")
    with pytest.raises(InputError, match=text):
        Pipeline(str(tmp_path), "cpu")


def test_a_hub_that_cannot_be_reached_is_told(tiny, monkeypatch, tmp_path):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        UnavailableError,
        match=r"nobody/nothing: could not be downloaded .*Give a local folder, or use the decoder synthetic",
    ):
        Pipeline("nobody/nothing", "cpu")


def test_a_hub_that_does_not_answer_is_asked_once_and_not_by_its_client(monkeypatch):
    """The client repeats failed requests for half a minute, and then tells of a missing file."""
    from diffusers import DiffusionPipeline

    calls = []

    def load_config(model, **options):
        calls.append(options)
        raise OSError("no model_index.json")

    monkeypatch.setattr(DiffusionPipeline, "load_config", staticmethod(load_config))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for name in (*OFFLINE, "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UnavailableError, match=r"nobody/nothing: .*127\.0\.0\.1:9 cannot be reached"):
        read_index("nobody/nothing")
    assert calls == [{"local_files_only": True}]


def test_turbo_is_looked_for_in_names_not_in_folders_above(tmp_path):
    plain = tmp_path / "turbo" / "plain"
    plain.mkdir(parents=True)
    cached = tmp_path / "models--stabilityai--sdxl-turbo" / "snapshots" / "0123"
    cached.mkdir(parents=True)
    assert is_turbo("stabilityai/sd-turbo", {})
    assert is_turbo(str(tmp_path / "turbo"), {})
    assert is_turbo(str(cached), {})
    assert is_turbo(str(plain), {"_name_or_path": "stabilityai/SD-Turbo"})
    assert not is_turbo(str(plain), {})
    assert not is_turbo("runwayml/stable-diffusion-v1-5", {})


def test_a_larger_family_goes_the_same_way(tiny, tmp_path):
    """SDXL: two text encoders, pooled embeddings, sizes as conditions."""
    from diffusers import StableDiffusionXLPipeline

    folder = _tiny_xl(StableDiffusionXLPipeline, tiny, tmp_path / "xl")
    decoder = Diffusion("a cat", model=str(folder), steps=1)
    z = np.random.default_rng(0).standard_normal(decoder.dimension)
    assert decoder.frame.guidance == 5.0
    image = decoder.decode(z)
    assert image.shape == (128, 128, 3)
    assert np.array_equal(decoder.decode(z), image)
    embeddings = next(iter(decoder.pipeline._embeddings.values()))
    assert set(embeddings) == {
        "prompt_embeds",
        "negative_prompt_embeds",
        "pooled_prompt_embeds",
        "negative_pooled_prompt_embeds",
    }
    assert not np.array_equal(decoder.changed(prompt="a dog").decode(z), image)


def _tiny_xl(kind, tiny, folder):
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(tiny / "tokenizer")
    config = CLIPTextConfig.from_pretrained(tiny / "text_encoder")
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=64,
        attention_head_dim=8,
        norm_num_groups=16,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 32,
    )
    kind(
        vae=AutoencoderKL.from_pretrained(tiny / "vae"),
        text_encoder=CLIPTextModel(config),
        text_encoder_2=CLIPTextModelWithProjection(config),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=EulerDiscreteScheduler.from_pretrained(tiny / "scheduler"),
    ).save_pretrained(folder)
    return folder
