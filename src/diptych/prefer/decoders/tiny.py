"""A Stable Diffusion pipeline of 5 MB with random weights, for tests without downloads; it uses the same code path as a
trained one.
"""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.errors import InputError
from diptych.prefer.decoders.loading import need_diffusers, quiet

if TYPE_CHECKING:
    import torch

log = logging.getLogger("diptych")

SPREAD = 0.5
"""Standard deviation of the image before it is clipped to [-1, 1]: 64 grey levels."""

SAMPLES, STEPS = 8, 2
"""Number of images from which brightness and contrast of each colour are set, and their denoising steps."""


def make_tiny_pipeline(folder: str | Path, seed: int = 0) -> Path:
    """Write a pipeline of 128 px images (d = 1,024) that loads like any other checkpoint.

    It has a U-Net, an autoencoder, a text encoder, a tokeniser and an Euler scheduler with random weights. The last
    layer of the autoencoder is scaled so that images are not flat. Images look like noise.

    Parameters
    ----------
    folder : path
        New or empty. As with other checkpoints, a name that contains "turbo" makes it a turbo model.
    seed : int
        Seed of the weights.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        If the folder is not empty.
    UnavailableError
        If diffusers or transformers is not installed.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(folder, "exists and is not empty", "the name of a new folder")
    need_diffusers()
    import torch

    with quiet(), torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        pipeline = _pipeline()
        _set_brightness(pipeline)
        pipeline.save_pretrained(folder, safe_serialization=True)
    log.info("[pipe] wrote a tiny pipeline: %s", folder)
    return folder


def _pipeline() -> Any:
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionPipeline, UNet2DConditionModel

    tokenizer, encoder = _text_parts()
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=8,
        norm_num_groups=16,
    )
    # Four blocks, so that a latent pixel stands for 8 x 8 pixels, as in trained models.
    vae = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=(16, 32, 32, 32),
        layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=8,
        sample_size=128,
    )
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="trailing", steps_offset=1
    )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        image_encoder=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _text_parts() -> tuple[Any, Any]:
    """A tokeniser of single bytes, and a text encoder of two layers."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    symbols = _byte_symbols()
    words = [*symbols, *(symbol + "</w>" for symbol in symbols), "<|startoftext|>", "<|endoftext|>"]
    with tempfile.TemporaryDirectory() as scratch:
        vocabulary, merges = Path(scratch, "vocab.json"), Path(scratch, "merges.txt")
        vocabulary.write_text(json.dumps({word: index for index, word in enumerate(words)}), encoding="utf-8")
        merges.write_text("#version: 0.2\n", encoding="utf-8")
        tokenizer = CLIPTokenizer(str(vocabulary), str(merges), model_max_length=77)
    first, last = len(words) - 2, len(words) - 1
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_attention_heads=4,
        num_hidden_layers=2,
        max_position_embeddings=77,
        projection_dim=32,
        bos_token_id=first,
        eos_token_id=last,
        pad_token_id=last,
    )
    return tokenizer, CLIPTextModel(config).eval()


def _byte_symbols() -> list[str]:
    """The 256 characters that represent bytes in byte-pair tokenisers; printable Latin-1 characters represent
    themselves.
    """
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in plain] + [chr(256 + index) for index in range(256 - len(plain))]


def _set_brightness(pipeline: Any) -> None:
    """Scale and shift the last layer of the autoencoder so that each colour has mean 0 and standard deviation
    :data:`SPREAD` over sample images.
    """
    import torch

    size = pipeline.unet.config.sample_size
    made: list[torch.Tensor] = []
    for index in range(SAMPLES):
        latents = torch.randn(1, 4, size, size, generator=torch.Generator().manual_seed(index))
        code = pipeline(
            f"sample {index}", latents=latents, num_inference_steps=STEPS, guidance_scale=0.0, output_type="latent"
        ).images
        made.append(pipeline.vae.decode(code / pipeline.vae.config.scaling_factor).sample)
    values = torch.cat(made)
    mean, spread = values.mean((0, 2, 3)), values.std((0, 2, 3))
    last = pipeline.vae.decoder.conv_out
    last.weight.mul_((SPREAD / spread)[:, None, None, None])
    last.bias.sub_(mean).mul_(SPREAD / spread)
