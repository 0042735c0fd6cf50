"""Running pipelines of diffusers: one code path for Stable Diffusion 1.x, 2.x, XL and their turbo versions."""

from __future__ import annotations

import gc
import inspect
import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError, UnavailableError
from diptych.prefer.decoders.loading import is_turbo, load_pipeline, need_diffusers, out_of_memory, read_index
from diptych.prefer.judgement import Frame
from diptych.runtime.device import choose_device

if TYPE_CHECKING:
    import torch

log = logging.getLogger("diptych")

KEPT = 32
"""Size of the cache of prompt embeddings."""

SLICED = "attention and autoencoder in slices"


@dataclass(frozen=True, eq=False)
class Pixels:
    """Output of a pipeline: (H, W, 3) from 0 to 1, what a retry changed (empty without retry), and the initial noise
    level of the scheduler.
    """

    values: NDArray[np.float32]
    retried: str = ""
    init_sigma: float | None = None


class Pipeline:
    """A loaded checkpoint. Calls are serialised by a lock.

    Parameters
    ----------
    model : str
        A folder with ``model_index.json``, or an id of the Hugging Face hub. Only safetensors weights are read.
    device : str
        auto, cpu, cuda or cuda:N. GPUs use half precision.

    Raises
    ------
    InputError
        If the folder has no pipeline, its weights are missing, or the model is of another family.
    UnavailableError
        If diffusers is not installed, the device does not exist, or the hub cannot be reached.
    """

    def __init__(self, model: str, device: str = "auto") -> None:
        need_diffusers()
        import torch

        self.model = model
        self.device, why = choose_device(device)
        self.dtype = torch.float16 if self.device.type == "cuda" else torch.float32
        index = read_index(model)
        self._lock = threading.RLock()
        self._embeddings: OrderedDict[tuple[str, str, str, bool], dict[str, torch.Tensor]] = OrderedDict()
        self.sliced = False
        log.info("[pipe] loading %s on %s (%s)", model, self.device, why)
        self._pipe: Any = load_pipeline(model, self.device, self.dtype, index)
        self.device = self._pipe.device
        self._scheduler = self._pipe.scheduler
        self.turbo = is_turbo(model, index, self._pipe.unet.config)
        log.info("[pipe] loaded %s: %s%s", model, type(self._pipe).__name__, ", turbo" if self.turbo else "")

    @property
    def factor(self) -> int:
        """Pixels of the image per pixel of the latent, along one axis."""
        return int(self._opened().vae_scale_factor)

    @property
    def usual_side(self) -> int:
        """Side of the images that the model was trained for, px."""
        size = self._opened().unet.config.sample_size
        return int(max(size) if isinstance(size, list | tuple) else size) * self.factor

    @property
    def usual_guidance(self) -> float:
        """Default guidance scale of the pipeline; 0 for a turbo model."""
        return (
            0.0
            if self.turbo
            else float(inspect.signature(type(self._opened()).__call__).parameters["guidance_scale"].default)
        )

    @property
    def arithmetic(self) -> str:
        """Data type, and whether attention and autoencoder run in slices."""
        return str(self.dtype).removeprefix("torch.") + (", sliced" if self.sliced else "")

    def scheduler_name(self, wanted: str | None) -> str:
        """Name of the scheduler class: ``wanted``, or that of the checkpoint.

        Raises
        ------
        InputError
            If the settings of the checkpoint are not compatible with that class.
        """
        return type(self._scheduler).__name__ if wanted is None else self._scheduler_class(wanted).__name__

    def __call__(self, frame: Frame, latent: NDArray[np.float32]) -> Pixels:
        """The image of a latent (4, h, w). It is passed on unscaled: the pipeline multiplies it by its initial noise
        level.

        Raises
        ------
        UnavailableError
            If memory runs out, even in slices.
        """
        import torch

        with self._lock, torch.no_grad():
            try:
                return Pixels(self._run(frame, latent), init_sigma=self._noise_level())
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
            log.warning("[pipe] out of memory at %d x %d px; retrying with %s", frame.width, frame.height, SLICED)
            self._free()
            self._slice()
            try:
                return Pixels(self._run(frame, latent), f"out of memory; {SLICED}", self._noise_level())
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                raise UnavailableError(
                    f"{self.model}: {frame.width} x {frame.height} px do not fit into the memory of {self.device}, "
                    f"even with {SLICED}. Choose a smaller width and height."
                ) from error

    def encode(self, image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.float32]:
        """Code (4, height / 8, width / 8) of a resized image (H, W, 3) by the autoencoder, scaled to about unit
        variance.
        """
        import torch
        from PIL import Image

        resized = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
        pixels = torch.from_numpy(np.asarray(resized, dtype=np.float32).transpose(2, 0, 1)[None] / 127.5 - 1)
        with self._lock, torch.no_grad():
            vae = self._opened().vae
            # Some autoencoders overflow in half precision and declare it.
            wide = vae.dtype == torch.float16 and bool(getattr(vae.config, "force_upcast", False))
            if wide:
                vae.to(torch.float32)
            try:
                code = vae.encode(pixels.to(self.device, vae.dtype)).latent_dist.mean * vae.config.scaling_factor
            finally:
                if wide:
                    vae.to(torch.float16)
        found: NDArray[np.float32] = code[0].float().cpu().numpy()
        return found

    def close(self) -> None:
        """Free the weights and the cached embeddings."""
        with self._lock:
            self._pipe = None
            self._embeddings.clear()
            self._free()
            log.info("[pipe] freed %s", self.model)

    def _opened(self) -> Any:
        if self._pipe is None:
            raise InputError(self.model, "the pipeline is closed", remedy="Open the decoder again.")
        return self._pipe

    def _run(self, frame: Frame, latent: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        pipe = self._opened()
        # A scheduler keeps state, such as its step counter; a new one makes the decode independent of the one before.
        pipe.scheduler = self._scheduler_class(frame.scheduler).from_config(self._scheduler.config)
        made = pipe(
            **self._prompt(frame),
            # A copy in torch's own memory: the alignment of NumPy's memory, which differs between processes, has no
            # effect.
            latents=torch.tensor(latent[None], dtype=self.dtype, device=self.device),
            width=frame.width,
            height=frame.height,
            num_inference_steps=frame.steps,
            guidance_scale=frame.guidance,
            # Ancestral and consistency schedulers draw noise; a CPU generator gives the same noise for every device.
            generator=torch.Generator("cpu").manual_seed(frame.seed),
            output_type="np",
        )
        log.info(
            "[pipe] call model=%s size=%dx%d steps=%d guidance=%g latents_std=%.4f init_sigma=%.4f",
            self.model,
            frame.width,
            frame.height,
            frame.steps,
            frame.guidance,
            float(latent.std()),
            self._noise_level(),
        )
        return np.asarray(made.images[0], dtype=np.float32)

    def _noise_level(self) -> float:
        """Initial noise level of the scheduler of the last decode."""
        return float(self._opened().scheduler.init_noise_sigma)

    def _prompt(self, frame: Frame) -> dict[str, Any]:
        """The prompt as arguments of the pipeline: text at guidance 0, otherwise cached embeddings."""
        if frame.guidance == 0:
            return {"prompt": frame.prompt}
        pipe, both = self._opened(), frame.guidance > 1
        key = (self.model, frame.prompt, frame.negative_prompt, both)
        if key in self._embeddings:
            log.info("[pipe] prompt embeds cache hit")
            self._embeddings.move_to_end(key)
            return dict(self._embeddings[key])
        log.info("[pipe] prompt embeds cache miss")
        made = pipe.encode_prompt(
            prompt=frame.prompt,
            device=self.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=both,
            negative_prompt=frame.negative_prompt if both else None,
        )
        names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
        found = {name: value for name, value in zip(names, made, strict=False) if value is not None}
        self._embeddings[key] = found
        while len(self._embeddings) > KEPT:
            self._embeddings.popitem(last=False)
        return dict(found)

    def _scheduler_class(self, name: str) -> Any:
        from diffusers import LCMScheduler

        # LCM takes the same settings, but diffusers does not list it as compatible.
        known = {kind.__name__: kind for kind in (type(self._scheduler), *self._scheduler.compatibles, LCMScheduler)}
        if name not in known:
            raise InputError(
                self.model, f"the scheduler {name!r} is not compatible", f"one of {', '.join(sorted(known))}"
            )
        return known[name]

    def _slice(self) -> None:
        pipe = self._opened()
        pipe.enable_attention_slicing()
        pipe.vae.enable_slicing()
        self.sliced = True

    def _free(self) -> None:
        import torch

        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
