"""Loading pipelines of diffusers: model families, placement of the weights on the device, and error messages."""

from __future__ import annotations

import json
import logging
import os
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
"""Pipelines whose latents are normal noise of shape (4, H / 8, W / 8)."""

PACKED = re.compile(r"flux|stable-diffusion-3|\bsd-?3", re.IGNORECASE)
"""Names of flow-matching models with packed latents, which are not supported."""


OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
"""Environment variables that forbid downloads."""

WAIT = 5.0
"""Longest time, s, for the first answer of the hub."""


def need_diffusers() -> None:
    """Raise UnavailableError unless diffusers and transformers are installed."""
    missing = [name for name in ("diffusers", "transformers") if find_spec(name) is None]
    if missing:
        raise UnavailableError(
            f"diffusion pipelines need packages that are not installed ({', '.join(missing)}): pip install "
            "'diptych[prefer]'. The decoder synthetic does not need them."
        )


def is_turbo(model: str, index: dict[str, Any], unet: Any = None) -> bool:
    """Whether "turbo" is part of the id, of the folder's name, or of the names in the files."""
    path = Path(model)
    names = [model]
    if path.is_dir():
        # Only in the cache of the hub is the name of the model that of a folder above.
        names = [path.resolve().name, *(part for part in path.resolve().parts if part.startswith("models--"))]
    names += [str(index.get("_name_or_path", "")), str(getattr(unet, "_name_or_path", "") or "").rpartition("/")[2]]
    return any("turbo" in name.lower() for name in names)


def read_index(model: str) -> dict[str, Any]:
    """Contents of ``model_index.json``. Raises InputError if the model is of a family that is not supported."""
    path = Path(model)
    if path.is_dir():
        try:
            index = json.loads((path / "model_index.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                model,
                f"model_index.json cannot be read ({error})",
                "the folder of a pipeline that save_pretrained or `diptych prefer make-tiny-pipeline` wrote",
            ) from None
    elif re.fullmatch(r"[\w.-]+/[\w.-]+", model) and not path.exists():
        if PACKED.search(model):
            raise _refusal(model, "a packed flow-matching model")
        index = _fetched_index(model)
    else:
        raise InputError(
            model, "is neither a folder nor an id of the hub", "a folder, or an id such as stabilityai/sd-turbo"
        )
    family = index.get("_class_name") if isinstance(index, dict) else None
    if family not in FAMILIES:
        packed = isinstance(family, str) and PACKED.search(family.replace("StableDiffusion3", "stable-diffusion-3"))
        raise _refusal(model, f"a {family}" + (", a packed flow-matching model" if packed else ""))
    return dict(index)


def _fetched_index(model: str) -> Any:
    with quiet():
        from diffusers import DiffusionPipeline

        try:
            return DiffusionPipeline.load_config(model, local_files_only=True)
        except Exception as error:
            # Not downloaded yet. The client of the hub repeats failed requests for half a minute, so that whether it
            # can be reached is found out before.
            log.info("[pipe] %s: not on this machine (%s)", model, type(error).__name__)
        refuse_unreachable(model)
        try:
            return DiffusionPipeline.load_config(model)
        except Exception as error:
            # The client of the hub raises many kinds of errors.
            raise UnavailableError(_unreachable(model, error)) from error


def refuse_unreachable(model: str) -> None:
    """Ask the hub for a model, once, for at most :data:`WAIT` seconds. Any answer will do: its client reports refusals.

    Raises
    ------
    UnavailableError
        If the hub cannot be reached, or may not be.
    """
    import urllib.error
    import urllib.request

    if any(os.environ.get(name, "").upper() in ("1", "TRUE", "YES", "ON") for name in OFFLINE):
        raise UnavailableError(_unreachable(model, f"{' or '.join(OFFLINE)} forbids it, and it is not on this machine"))
    host = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    try:
        with urllib.request.urlopen(f"{host}/api/models/{model}", timeout=WAIT):
            return
    except urllib.error.HTTPError:
        return
    except (OSError, ValueError) as error:
        raise UnavailableError(_unreachable(model, f"{host} cannot be reached: {error}")) from error


def _refusal(model: str, what: str) -> InputError:
    return InputError(
        model,
        f"is {what}, whose latents are of another kind",
        "Stable Diffusion 1.x, 2.x or XL, or a turbo version of one",
    )


def _unreachable(model: str, error: Exception | str) -> str:
    return (
        f"{model}: could not be downloaded ({' '.join(str(error).split())[:200]}). Give a local folder, or use the "
        "decoder synthetic, which needs no download."
    )


def load_pipeline(model: str, device: torch.device, dtype: torch.dtype, index: dict[str, Any]) -> Any:
    """The pipeline on its device. Checkpoints that cannot be loaded on the CPU and moved are placed by accelerate."""
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
                    log.warning("[pipe] loading failed (%s); trying another method", " ".join(str(error).split())[:120])
                    continue
                raise _failure(model, error) from error
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _placement(error: Exception) -> bool:
    """Whether loading failed because weights were not placed on a device yet."""
    return isinstance(error, NotImplementedError) or any(
        word in str(error) for word in ("meta tensor", "meta device", "device_map")
    )


def _failure(model: str, error: Exception) -> Exception:
    """The error to raise when a pipeline does not load."""
    text = " ".join(str(error).split())[:300]
    if out_of_memory(error):
        return UnavailableError(
            f"{model}: does not fit into memory ({text}). Choose another device or a smaller model."
        )
    if Path(model).is_dir():
        return InputError(
            model, f"its weights cannot be loaded ({text})", "every part that model_index.json names, as safetensors"
        )
    return UnavailableError(_unreachable(model, error))


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on any device."""
    import torch

    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error)


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the messages and progress bars of the two libraries; their settings are restored."""
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
