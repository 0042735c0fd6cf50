"""``prefer sanity``, ``serve-decoder`` and ``make-tiny-pipeline``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from diptych.cli.generate import verb
from diptych.cli.output import Report, table
from diptych.cli.prefer import given_options, logged
from diptych.cli.scans import Overwrite
from diptych.prefer.exchange import environment
from diptych.prefer.options import SessionOptions, without_effect
from diptych.runtime.files import check_output
from diptych.runtime.logging import LOGGER
from diptych.runtime.option_fields import Choices

LEAST = 30.0
"""Standard deviation of the pixels, grey levels, of a flat image; $SANITY_MIN_STD overrides it."""


@verb(SessionOptions, without=without_effect("decoder", "prompt", "negative_prompt", "seed"))
@logged
def sanity(
    *,
    out: Annotated[Path | None, Parameter(help="Also write the image to this .png file.")] = None,
    overwrite: Overwrite = False,
    choices: Choices,
) -> Report:
    """Decode one random latent and report statistics of the image; exit code 1 if it is flat."""
    import numpy as np

    from diptych.prefer.exchange.pictures import save_picture
    from diptych.prefer.judgement import Candidate
    from diptych.prefer.session.factory import open_decoder

    if out is not None:
        check_output(out, (".png",), overwrite=overwrite)
    options, least = from_environment(choices), environment.sanity_threshold(LEAST)
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
        else f"error: the image is flat: its standard deviation is {spread:.1f} grey levels; expected {least:g} "
        "or more."
    )
    return Report(data, [table(data)], code=0 if fine else 1, note=note)


@verb(SessionOptions, without=without_effect("decoder", "prompt", "negative_prompt"))
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
    from diptych.prefer.decoders.remote import TOKEN
    from diptych.prefer.decoders.serve import DecoderServer
    from diptych.prefer.session.factory import open_decoder

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
    """The options given, over those of the variables SANITY_*; the default decoder is diffusion."""
    given = given_options(choices)
    found = environment.sanity_options(given.get("decoder", "diffusion"))
    return with_local_model(
        SessionOptions.build({"decoder": "diffusion", **found, **given}, origin="SANITY_* and command line")
    )


def with_local_model(options: SessionOptions) -> SessionOptions:
    """The model in ``$FLUX_LOCAL_MODEL``, if the decoder is diffusion and no model is named."""
    local = environment.local_model()
    if options.decoder != "diffusion" or options.own("decoder").model is not None or local is None:
        return options
    return options.with_changes(model=local)
