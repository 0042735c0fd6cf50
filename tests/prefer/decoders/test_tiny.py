from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from diptych.errors import InputError, UnavailableError
from diptych.prefer.decoders import loading
from diptych.prefer.decoders.diffusion import Diffusion
from diptych.prefer.decoders.tiny import make_tiny_pipeline


def test_it_is_small_and_whole_and_holds_no_pickle(tiny):
    files = [path for path in tiny.rglob("*") if path.is_file()]
    assert 3e6 < sum(path.stat().st_size for path in files) < 8e6
    assert {path.parent.name for path in files} >= {"unet", "vae", "text_encoder", "tokenizer", "scheduler"}
    assert not [path for path in files if path.suffix in {".bin", ".pt", ".ckpt", ".pkl"}]


def test_images_are_far_from_flat_for_any_steps_and_sampler(tiny):
    decoder = Diffusion(model=str(tiny), prompt="a house")
    for steps, scheduler in ((1, "EulerDiscreteScheduler"), (6, "EulerDiscreteScheduler"), (4, "DDIMScheduler")):
        changed = decoder.changed(steps=steps, scheduler=scheduler)
        for seed in range(3):
            changed.decode(np.random.default_rng(seed).standard_normal(decoder.dimension))
            assert changed.last.image_std > 35
            assert 60 < changed.last.image_mean < 195


def test_a_seed_makes_the_same_weights_and_leaves_the_random_state_alone(tiny, tmp_path):
    before = torch.random.get_rng_state()
    again = make_tiny_pipeline(tmp_path / "again")
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = "unet/diffusion_pytorch_model.safetensors"
    assert (again / weights).read_bytes() == (tiny / weights).read_bytes()


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "precious.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="exists and is not empty"):
        make_tiny_pipeline(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_a_missing_extra_is_named_with_the_remedy(tmp_path, monkeypatch):
    real = loading.find_spec
    monkeypatch.setattr(loading, "find_spec", lambda name: None if name == "diffusers" else real(name))
    monkeypatch.setitem(sys.modules, "transformers", sys)
    with pytest.raises(UnavailableError, match=r"not installed \(diffusers\): pip install 'diptych\[prefer\]'"):
        make_tiny_pipeline(tmp_path / "new")
    with pytest.raises(UnavailableError, match=r"pip install 'diptych\[prefer\]'"):
        Diffusion(model="any/thing")
    assert not (tmp_path / "new").exists()
