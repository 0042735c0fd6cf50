"""Loading the pipelines of diffusers: what a model is, how its weights get to the device, and what a person is told
when they do not.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.errors import InputError, UnavailableError

if TYPE_CHECKING:
    import torch

log = logging.getLogger("diptych")

FAMILIES = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
"""Pipelines whose latents are images of normal noise, (4, H / 8, W / 8)."""

PACKED = re.compile(r"flux|stable-diffusion-3|\bsd-?3", re.IGNORECASE)
"""Names of models whose latents are packed and whose noise flows straight: not of these families."""


def need_diffusers() -> None:
    """Raise UnavailableError, with the remedy, unless diffusers and transformers are installed."""
    missing = [name for name in ("diffusers", "transformers") if find_spec(name) is None]
    if missing:
        raise UnavailableError(
            f"diffusion pipelines need packages that are not installed ({', '.join(missing)}): pip install "
            f"'diptych[prefer]'. "
            "The decoder synthetic needs none of them."
        )


def is_turbo(model: str, index: dict[str, Any], unet: Any = None) -> bool:
    """Whether "turbo" is in the id, in the folder's name, or in the names that the files carry."""
    path = Path(model)
    names = [model]
    if path.is_dir():
        # The folders above are not the model's name, but for the hub's cache, where the name is two levels up.
        names = [path.resolve().name, *(part for part in path.resolve().parts if part.startswith("models--"))]
    names += [str(index.get("_name_or_path", "")), str(getattr(unet, "_name_or_path", "") or "").rpartition("/")[2]]
    return any("turbo" in name.lower() for name in names)


def read_index(model: str) -> dict[str, Any]:
    """What ``model_index.json`` says, having made sure that the model is of a family that we decode."""
    path = Path(model)
    if path.is_dir():
        try:
            index = json.loads((path / "model_index.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                f"{model}: model_index.json cannot be read ({error}); expected the folder of a diffusers pipeline, "
                "as save_pretrained or `diptych prefer make-tiny-pipeline` writes it."
            ) from None
    elif re.fullmatch(r"[\w.-]+/[\w.-]+", model) and not path.exists():
        if PACKED.search(model):
            raise InputError(_refusal(model, "a packed flow-matching model"))
        index = _fetched_index(model)
    else:
        raise InputError(f"{model}: is neither a folder nor an id such as stabilityai/sd-turbo; give one of these.")
    family = index.get("_class_name") if isinstance(index, dict) else None
    if family not in FAMILIES:
        packed = isinstance(family, str) and PACKED.search(family.replace("StableDiffusion3", "stable-diffusion-3"))
        raise InputError(_refusal(model, f"a {family}" + (", a packed flow-matching model" if packed else "")))
    return dict(index)


def _fetched_index(model: str) -> Any:
    with quiet():
        from diffusers import DiffusionPipeline

        try:
            return DiffusionPipeline.load_config(model)
        except Exception as error:
            # The hub's client has many kinds of failures; none of them is ours.
            raise UnavailableError(_unreachable(model, error)) from error


def _refusal(model: str, what: str) -> str:
    return f"{model}: is {what}, whose latents are of another kind; expected Stable Diffusion 1.x, 2.x or XL, or a turbo version of one."


def _unreachable(model: str, error: Exception) -> str:
    return (
        f"{model}: cannot be obtained ({' '.join(str(error).split())[:200]}); give a local folder, or take the "
        f"decoder synthetic, "
        "which needs no download."
    )


def load_pipeline(model: str, device: torch.device, dtype: torch.dtype, index: dict[str, Any]) -> Any:
    """The pipeline on its device. Some checkpoints cannot be filled on the CPU and moved: then accelerate places
    them.
    """
    more: dict[str, Any] = (
        {"safety_checker": None, "requires_safety_checker": False} if "safety_checker" in index else {}
    )
    ways: tuple[dict[str, Any], ...] = (
        {"low_cpu_mem_usage": False},
        {"low_cpu_mem_usage": True, "device_map": device.type},
        {"low_cpu_mem_usage": True},
    )
    with quiet():
        from diffusers import AutoPipelineForText2Image

        for number, way in enumerate(ways, 1):
            try:
                pipe = AutoPipelineForText2Image.from_pretrained(
                    model, dtype=dtype, use_safetensors=True, **more, **way
                )
                if "device_map" not in way:
                    pipe = pipe.to(device)
                break
            except Exception as error:
                if _placement(error) and number < len(ways):
                    log.warning("[pipe] loading failed (%s); another way", " ".join(str(error).split())[:120])
                    continue
                raise _failure(model, error) from error
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _placement(error: Exception) -> bool:
    """Whether loading failed because weights had no place yet."""
    return isinstance(error, NotImplementedError) or any(
        word in str(error) for word in ("meta tensor", "meta device", "device_map")
    )


def _failure(model: str, error: Exception) -> Exception:
    """The error to raise when a pipeline does not load."""
    text = " ".join(str(error).split())[:300]
    if out_of_memory(error):
        return UnavailableError(
            f"{model}: does not fit into memory ({text}); choose another device or a smaller model."
        )
    if Path(model).is_dir():
        return InputError(
            f"{model}: its weights cannot be loaded ({text}); expected every part that model_index.json names, as "
            f"safetensors."
        )
    return UnavailableError(_unreachable(model, error))


def out_of_memory(error: BaseException) -> bool:
    """Whether an error tells that memory ran out, on whichever device."""
    import torch

    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the notices and bars that the two libraries print while they load; their settings are put back."""
    import transformers

    before, bars = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        import diffusers

        level, shown = diffusers.logging.get_verbosity(), diffusers.logging.is_progress_bar_enabled()
        diffusers.logging.set_verbosity_error()
        diffusers.logging.disable_progress_bar()
        try:
            yield
        finally:
            diffusers.logging.set_verbosity(level)
            if shown:
                diffusers.logging.enable_progress_bar()
    finally:
        transformers.logging.set_verbosity(before)
        if bars:
            transformers.logging.enable_progress_bar()
