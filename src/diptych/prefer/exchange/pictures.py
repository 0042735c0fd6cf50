"""PNG files with the frame and the latent in a text chunk, from which the image can be decoded again."""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path
from typing import Any

import numpy as np

from diptych.errors import InputError
from diptych.prefer.judgement import Candidate, Frame
from diptych.prefer.ledger.files import storing
from diptych.runtime.files import replacing

KEYWORD = "diptych"
"""Name of the iTXt chunk: JSON with the keys ``frame``, ``latent`` (base64 of little-endian float32) and
``provenance``."""


def save_picture(candidate: Candidate, path: str | Path) -> Path:
    """Write the image of a candidate as PNG with its frame, latent and provenance.

    Raises
    ------
    InputError
        If the candidate has no image, or the name does not end in .png.
    UnavailableError
        If the file cannot be written.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    target = Path(path)
    if candidate.image is None:
        raise InputError(target, "the candidate has no image to save", remedy="Decode it first.")
    if target.suffix.lower() != ".png":
        raise InputError(target, f"the suffix is {target.suffix!r}", ".png, which can store the latent")
    latent = base64.b64encode(candidate.latent.astype("<f4").tobytes()).decode()
    about = {"frame": json.loads(candidate.frame.to_json()), "latent": latent, "provenance": dict(candidate.provenance)}
    chunks = PngInfo()
    chunks.add_itxt(KEYWORD, json.dumps(about), zip=True)
    with storing(target), replacing(target) as temporary:
        Image.fromarray(candidate.image).save(temporary, "PNG", pnginfo=chunks)
    return target


def load_picture(path: str | Path) -> Candidate:
    """The candidate that :func:`save_picture` wrote, without id.

    Raises
    ------
    InputError
        If the file is not a PNG file, or has no latent.
    """
    from PIL import Image

    source = Path(path)
    try:
        with Image.open(source, formats=["PNG"]) as picture:
            image = np.asarray(picture.convert("RGB"), dtype=np.uint8)
            text = getattr(picture, "text", {}).get(KEYWORD)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(source, f"is not a readable PNG image ({error})") from None
    if text is None:
        raise InputError(source, "is an image without latent", "one that `diptych prefer best` saved")
    try:
        about = json.loads(text)
        latent = np.frombuffer(base64.b64decode(about["latent"], validate=True), dtype="<f4")
        return Candidate(latent, Frame.from_json(json.dumps(about["frame"])), image, provenance=about["provenance"])
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise InputError(source, f"its latent is damaged ({error})", remedy="Save the image again.") from None


def load_image(path: str | Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The pixels (H, W, 3) of a PNG, JPEG or WebP file.

    Raises
    ------
    InputError
        If the file is none of these, or excessively large.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path, formats=["PNG", "JPEG", "WEBP"]) as picture:
            return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"), dtype=np.uint8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(path, f"is not a readable PNG, JPEG or WebP image ({error})") from None


def snippet(candidate: Candidate, path: str | Path, folder: str | Path) -> str:
    """Python code that decodes a saved image again: with diffusers for a diffusion model, otherwise with diptych and
    the session in a folder.
    """
    frame = candidate.frame
    reading = [
        "import base64, json",
        "import numpy",
        "from PIL import Image",
        f"about = json.loads(Image.open({str(path)!r}).text[{KEYWORD!r}])",
        'latent = numpy.frombuffer(base64.b64decode(about["latent"]), "<f4").copy()',
    ]
    if not frame.scheduler:
        return "\n".join(
            [
                "from diptych.prefer import Session",
                "from diptych.prefer.exchange.pictures import load_picture",
                f"candidate = load_picture({str(path)!r})",
                f"with Session.open({str(folder)!r}) as session:",
                "    image = session.decode(candidate.latent).image",
            ]
        )
    # "float32", or "float32, attention and autoencoder in slices".
    dtype = frame.dtype.split(",")[0] or "float32"
    device = frame.device.split(" ")[0] or "cpu"
    return "\n".join(
        [
            *reading,
            "import diffusers, torch",
            f"torch.set_num_threads({max(frame.threads, 1)})",
            f"pipe = diffusers.AutoPipelineForText2Image.from_pretrained({frame.model!r}, "
            f"torch_dtype=torch.{dtype}).to({device!r})",
            f"pipe.scheduler = diffusers.{frame.scheduler}.from_config(pipe.scheduler.config)",
            f"shape = (1, pipe.unet.config.in_channels, {frame.height} // pipe.vae_scale_factor, {frame.width} // "
            f"pipe.vae_scale_factor)",
            f"noise = torch.from_numpy(latent).reshape(shape).to({device!r}, torch.{dtype})",
            f"image = pipe(prompt={frame.prompt!r}, negative_prompt={frame.negative_prompt!r}, width={frame.width}, "
            f"height={frame.height},",
            f"             num_inference_steps={frame.steps}, guidance_scale={frame.guidance}, latents=noise,",
            f"             generator=torch.Generator({device!r}).manual_seed({frame.seed})).images[0]",
        ]
    )
