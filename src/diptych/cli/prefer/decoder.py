"""``prefer sanity``, ``serve-decoder`` and ``make-tiny-pipeline``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from diptych.cli.generate import verb
from diptych.cli.output import Report, table
from diptych.cli.prefer import logged
from diptych.cli.scans import Overwrite
from diptych.errors import InputError
from diptych.prefer.options import SessionOptions
from diptych.runtime.files import check_output
from diptych.runtime.logging import LOGGER
from diptych.runtime.option_fields import Choices

SANITY = {"MODEL": "model", "PROMPT": "prompt", "W": "width", "H": "height", "STEPS": "steps"}
"""Environment variables SANITY_* and the options that they set, below the flags."""

LEAST = 30.0
"""Spread of the pixels, grey levels, below which an image is called flat; $SANITY_MIN_STD changes it."""


@verb(SessionOptions)
@logged
def sanity(
    *,
    out: Annotated[Path | None, Parameter(help="Also write the image to this .png file.")] = None,
    overwrite: Overwrite = False,
    choices: Choices,
) -> Report:
    """Decode one random latent and tell its statistics; exit code 1 when the image is flat."""
    import numpy as np

    from diptych.prefer.exchange.pictures import save_picture
    from diptych.prefer.judgement import Candidate
    from diptych.prefer.session.factory import open_decoder

    if out is not None:
        check_output(out, (".png",), overwrite=overwrite)
    options, least = from_environment(choices), _number("SANITY_MIN_STD", LEAST)
    decoder = open_decoder(options)
    latent = np.random.default_rng(options.seed).standard_normal(decoder.dimension).astype(np.float32)
    image = decoder.decode(latent)
    if out is not None:
        save_picture(Candidate(latent, decoder.frame, image), out)
    spread = float(image.std())
    fine = spread >= least
    LOGGER.info("[sanity] std=%.1f min_std=%.1f %s", spread, least, "ok" if fine else "flat")
    data = {
        "decoder": decoder.name,
        "model": decoder.frame.model,
        "mean": float(image.mean()),
        "std": spread,
        "min_std": least,
    }
    data |= {"min": int(image.min()), "max": int(image.max()), "seconds": decoder.cost, "ok": fine}
    note = (
        ""
        if fine
        else f"error: the image is flat: its pixels spread by {spread:.1f} grey levels; expected {least:g} or more."
    )
    return Report(data, [table(data)], code=0 if fine else 1, note=note)


@verb(SessionOptions)
@logged
def serve_decoder(
    *,
    host: Annotated[
        str, Parameter(help="Address to listen on; other than this machine's own needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, Parameter(help="Port to listen on; 0: any that is free.")] = 8000,
    token: Annotated[
        str | None, Parameter(help="What clients must know; read from $DIPTYCH_TOKEN when not given.")
    ] = None,
    choices: Choices,
) -> Report:
    """Serve the decoder until Ctrl-C."""
    from diptych.prefer.decoders.serve import DecoderServer
    from diptych.prefer.session.factory import TOKEN, open_decoder

    decoder = open_decoder(with_local_model(choices[SessionOptions]))
    with DecoderServer(decoder, host, port, token or os.environ.get(TOKEN)) as server:
        print(f"serving {decoder.name} at {server.url}; end with Ctrl-C.", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"interrupted; {server.url} is no longer served.") from None
    return Report({"served": server.url})


@verb()
@logged
def make_tiny_pipeline(
    folder: Annotated[Path, Parameter(help="Folder to be made.")],
    /,
    *,
    choices: Choices,
) -> Report:
    """Write a real, tiny Stable Diffusion pipeline, about 5 MB, whose images look like noise."""
    from diptych.prefer.decoders.tiny import make_tiny_pipeline as write

    made = write(folder)
    size = sum(file.stat().st_size for file in made.rglob("*") if file.is_file())
    return Report({"folder": str(made), "bytes": size}, [f"wrote {made} ({size / 1e6:.1f} MB)"])


def from_environment(choices: Choices) -> SessionOptions:
    """The options given, laid over those of the variables SANITY_*; a diffusion model where no decoder is named."""
    found: dict[str, Any] = {
        option: value
        for name, option in SANITY.items()
        if (value := os.environ.get(f"SANITY_{name}")) not in (None, "")
    }
    given = choices[SessionOptions].model_dump(exclude_unset=True)
    if given.get("decoder", "diffusion") != "diffusion":
        found = {name: value for name, value in found.items() if name == "prompt"}
    return with_local_model(
        SessionOptions.build({"decoder": "diffusion", **found, **given}, origin="SANITY_* and command line")
    )


def with_local_model(options: SessionOptions) -> SessionOptions:
    """The model in ``$FLUX_LOCAL_MODEL``, where a diffusion model is meant and none is named."""
    local = os.environ.get("FLUX_LOCAL_MODEL")
    if options.decoder != "diffusion" or options.model is not None or not local:
        return options
    return options.with_changes(model=local)


def _number(variable: str, usual: float) -> float:
    text = os.environ.get(variable, "")
    try:
        return float(text) if text else usual
    except ValueError:
        raise InputError(f"{variable}={text}: expected a number.") from None
