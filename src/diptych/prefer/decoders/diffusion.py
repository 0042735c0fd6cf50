"""Images from Stable Diffusion: the latent is the noise that the pipeline starts from."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.prefer.decoders.base import BaseDecoder, Decoded, as_bytes, versions
from diptych.prefer.decoders.pipelines import Pipeline
from diptych.prefer.judgement import Frame

log = logging.getLogger("diptych")

MODEL = "stabilityai/sd-turbo"
"""The usual checkpoint."""

STEPS, UNSAID_STEPS = 6, 20
"""Steps by default, and when None is given."""

MOST_STEPS = 1000

PACKAGES = ("diptych", "torch", "diffusers", "transformers")


class Diffusion(BaseDecoder):
    """Decoder over a checkpoint of Stable Diffusion 1.x, 2.x, XL or turbo.

    Parameters
    ----------
    prompt, negative_prompt : str
        The negative one needs guidance above 1.
    model : str
        A folder, or an id of the Hugging Face hub, which is downloaded once.
    width, height : int, optional
        Pixels; by default what the model was made for. Multiples of 8.
    steps : int or None
        1 to 1000; None is 20.
    guidance : float, optional
        By default what the pipeline takes. Turbo models always take 0; ``frame.guidance`` is what is in effect.
    scheduler : str, optional
        A class of diffusers, such as ``DDIMScheduler``; by default that of the checkpoint.
    seed : int
        Of the noise that ancestral and consistency schedulers add; each image starts from it anew.
    device : str
        auto, cpu, cuda or cuda:N.
    pipeline : Pipeline, optional
        One that is loaded already, in place of ``model`` and ``device``.

    Raises
    ------
    InputError
        The model is of another family or incomplete, or a setting is out of range.
    UnavailableError
        diffusers is not installed, the device is absent, or the hub cannot be reached.
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
            raise InputError(f"the diffusion decoder has steps = {steps}; expected 1 to {MOST_STEPS}.")
        if guidance is not None and not 0 <= guidance < np.inf:
            raise InputError(f"the diffusion decoder has guidance = {guidance}; expected 0 or more.")
        if not 0 <= seed < 2**63:
            raise InputError(f"the diffusion decoder has seed = {seed}; expected 0 or more, below 2^63.")
        self.pipeline = Pipeline(str(model), device) if pipeline is None else pipeline
        loaded = self.pipeline
        width, height = (loaded.usual_side if side is None else side for side in (width, height))
        for name, side in (("width", width), ("height", height)):
            if side < loaded.factor or side % loaded.factor:
                raise InputError(
                    f"the diffusion decoder has {name} = {side} px; expected a multiple of {loaded.factor}."
                )
        effective = loaded.usual_guidance if guidance is None or loaded.turbo else float(guidance)
        if guidance is not None and guidance != effective:
            log.info(
                "[pipe] guidance %g asked for, %g in effect: %s is a turbo model", guidance, effective, loaded.model
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
        """A decoder of another frame: any of prompt, negative_prompt, model, width, height, steps, guidance, scheduler,
        seed.

        It shares the loaded pipeline. With another model, this decoder is closed, and its memory freed, before that one
        is loaded.
        """
        frame, device = self.frame, str(self.pipeline.device)
        names = ("prompt", "negative_prompt", "model", "width", "height", "steps", "guidance", "scheduler", "seed")
        unknown = sorted(set(fields) - set(names))
        if unknown:
            raise InputError(f"the diffusion decoder has no {', '.join(unknown)} to change; it has {', '.join(names)}.")
        if fields.get("model", frame.model) == frame.model:
            kept = {name: getattr(frame, name) for name in names}
            return Diffusion(**{**kept, **fields}, pipeline=self.pipeline)
        self.close()
        # Size, guidance and scheduler belong to a model.
        kept = {name: getattr(frame, name) for name in ("prompt", "negative_prompt", "steps", "seed")}
        return Diffusion(**{**kept, **fields}, device=device)

    def encode(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the autoencoder makes of an image (H, W, 3) uint8: (d,), about unit spread, but no noise.

        Raises
        ------
        InputError
            The image has another shape or type.
        """
        image = np.asarray(image)
        if image.ndim != 3 or image.shape[2] != 3 or image.size == 0 or image.dtype != np.uint8:
            raise InputError(
                f"the image to encode is {image.dtype} of shape {image.shape}; expected uint8 of shape (H, W, 3)."
            )
        return self.pipeline.encode(image, self.frame.width, self.frame.height).reshape(self.dimension)

    def close(self) -> None:
        """Free the weights, for all decoders that share them."""
        self.pipeline.close()

    def _decode(self, latent: NDArray[np.float32]) -> Decoded:
        self._frame = replace(self._frame, threads=_threads(), dtype=self.pipeline.arithmetic)
        pixels = self.pipeline(self._frame, latent.reshape(self.shape or latent.shape))
        # A retry in slices rounds otherwise, from now on.
        self._frame = replace(self._frame, dtype=self.pipeline.arithmetic)
        decoded = as_bytes(pixels.values)
        return Decoded(decoded.image, decoded.finite, pixels.retried)


def _threads() -> int:
    import torch

    return torch.get_num_threads()
