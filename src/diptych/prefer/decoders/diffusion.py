"""Images from Stable Diffusion: the latent is the initial noise of the pipeline."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from diptych.errors import InputError
from diptych.prefer.decoders.base import BaseDecoder, Decoded, as_bytes, versions
from diptych.prefer.decoders.pipelines import Pipeline
from diptych.prefer.decoders.registry import DecoderKind
from diptych.prefer.judgement import Frame
from diptych.runtime.options import LocalPath, Options, absolute_path

log = logging.getLogger("diptych")

MODEL = "stabilityai/sd-turbo"
"""Default checkpoint."""

STEPS, UNSAID_STEPS = 6, 20
"""Denoising steps by default, and for ``steps=None``."""

MOST_STEPS = 1000

PACKAGES = ("diptych", "torch", "diffusers", "transformers")


class DiffusionOptions(Options):
    """Options of the decoder diffusion."""

    model: LocalPath = Field(None, description=f"Name or folder of the diffusion model; {MODEL} when not given")
    width: int | None = Field(None, ge=8, description="Width of the image, pixels")
    height: int | None = Field(None, ge=8, description="Height of the image, pixels")
    steps: int | None = Field(None, ge=1, le=MOST_STEPS, description=f"Denoising steps; {STEPS} when not given")
    guidance: float | None = Field(None, ge=0, description="Guidance scale; turbo models always use 0")
    scheduler: str | None = Field(None, description="Scheduler class of diffusers, such as DDIMScheduler")
    decoder_seed: int = Field(0, ge=0, description="Seed of the noise that ancestral and LCM schedulers add")


class Diffusion(BaseDecoder):
    """Decoder for a checkpoint of Stable Diffusion 1.x, 2.x, XL or turbo.

    Parameters
    ----------
    prompt, negative_prompt : str
        The negative prompt has an effect only for guidance above 1.
    model : str
        A folder, or an id of the Hugging Face hub, which is downloaded on first use.
    width, height : int, optional
        Pixels; multiples of 8. By default the size that the model was trained for.
    steps : int or None
        1 to 1000; None is 20.
    guidance : float, optional
        By default the default of the pipeline. Turbo models always use 0; ``frame.guidance`` is the value in effect.
    scheduler : str, optional
        A scheduler class of diffusers, such as ``DDIMScheduler``; by default that of the checkpoint.
    seed : int
        Seed of the noise that ancestral and consistency schedulers add; the generator is reset for each image.
    device : str
        auto, cpu, cuda or cuda:N.
    pipeline : Pipeline, optional
        A loaded pipeline, instead of ``model`` and ``device``.

    Raises
    ------
    InputError
        If the model is of another family or incomplete, or a setting is out of range.
    UnavailableError
        If diffusers is not installed, the device does not exist, or the hub cannot be reached.
    """

    def __init__(
        self,
        prompt: str = "",
        negative_prompt: str = "",
        model: str = MODEL,
        width: int | None = None,
        height: int | None = None,
        steps: int | None = STEPS,
        guidance: float | None = None,
        scheduler: str | None = None,
        seed: int = 0,
        device: str = "auto",
        pipeline: Pipeline | None = None,
    ) -> None:
        steps = UNSAID_STEPS if steps is None else steps
        if not 1 <= steps <= MOST_STEPS:
            raise InputError("diffusion decoder", f"steps = {steps}", f"1 to {MOST_STEPS}")
        if guidance is not None and not 0 <= guidance < np.inf:
            raise InputError("diffusion decoder", f"guidance = {guidance}", "0 or more")
        if not 0 <= seed < 2**63:
            raise InputError("diffusion decoder", f"seed = {seed}", "0 or more, below 2^63")
        self.pipeline = Pipeline(absolute_path(str(model)), device) if pipeline is None else pipeline
        loaded = self.pipeline
        width, height = (loaded.usual_side if side is None else side for side in (width, height))
        for name, side in (("width", width), ("height", height)):
            if side < loaded.factor or side % loaded.factor:
                raise InputError("diffusion decoder", f"{name} = {side} px", f"a multiple of {loaded.factor}")
        effective = loaded.usual_guidance if guidance is None or loaded.turbo else float(guidance)
        if guidance is not None and guidance != effective:
            log.info(
                "[pipe] guidance %g requested, %g in effect: %s is a turbo model", guidance, effective, loaded.model
            )
        frame = Frame(
            prompt,
            negative_prompt,
            loaded.model,
            width,
            height,
            steps,
            effective,
            loaded.scheduler_name(scheduler),
            seed,
            versions(*PACKAGES),
            str(loaded.device),
            loaded.arithmetic,
            _threads(),
        )
        shape = (4, height // loaded.factor, width // loaded.factor)
        super().__init__("diffusion", "sphere", shape[0] * shape[1] * shape[2], frame, shape)

    def changed(self, **fields: Any) -> Diffusion:
        """A decoder with other values of prompt, negative_prompt, model, width, height, steps, guidance, scheduler or
        seed.

        It shares the loaded pipeline. For another model, this decoder is closed and its memory freed before that model
        is loaded.
        """
        frame, device = self.frame, str(self.pipeline.device)
        names = ("prompt", "negative_prompt", "model", "width", "height", "steps", "guidance", "scheduler", "seed")
        unknown = sorted(set(fields) - set(names))
        if unknown:
            raise InputError(
                "diffusion decoder", f"has no {', '.join(unknown)} to change", f"some of {', '.join(names)}"
            )
        if fields.get("model", frame.model) == frame.model:
            kept = {name: getattr(frame, name) for name in names}
            return Diffusion(**{**kept, **fields}, pipeline=self.pipeline)
        self.close()
        # Size, guidance and scheduler depend on the model.
        kept = {name: getattr(frame, name) for name in ("prompt", "negative_prompt", "steps", "seed")}
        return Diffusion(**{**kept, **fields}, device=device)

    def encode(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The code of an image (H, W, 3) uint8 by the autoencoder: (d,), with about unit standard deviation, but not
        noise.

        Raises
        ------
        InputError
            If the image has another shape or type.
        """
        image = np.asarray(image)
        if image.ndim != 3 or image.shape[2] != 3 or image.size == 0 or image.dtype != np.uint8:
            raise InputError("image to encode", f"is {image.dtype} of shape {image.shape}", "uint8 of shape (H, W, 3)")
        return self.pipeline.encode(image, self.frame.width, self.frame.height).reshape(self.dimension)

    def close(self) -> None:
        """Free the weights, for all decoders that share them."""
        self.pipeline.close()

    def _decode(self, latent: NDArray[np.float32]) -> Decoded:
        self._frame = replace(self._frame, threads=_threads(), dtype=self.pipeline.arithmetic)
        pixels = self.pipeline(self._frame, latent.reshape(self.shape or latent.shape))
        # After a retry in slices, rounding differs from now on.
        self._frame = replace(self._frame, dtype=self.pipeline.arithmetic)
        decoded = as_bytes(pixels.values)
        return Decoded(decoded.image, decoded.finite, pixels.retried, pixels.init_sigma)


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _open(options: DiffusionOptions, prompt: str | None, negative_prompt: str | None) -> Diffusion:
    return Diffusion(
        prompt or "",
        negative_prompt or "",
        options.model or MODEL,
        options.width,
        options.height,
        STEPS if options.steps is None else options.steps,
        options.guidance,
        options.scheduler,
        options.decoder_seed,
    )


DECODER = DecoderKind(
    "diffusion", "Images from Stable Diffusion (1.x, 2.x, XL, turbo).", DiffusionOptions, "sphere", "required", _open
)
