"""What a session is about: the options of :meth:`diptych.prefer.session.session.Session.open` and of ``diptych
prefer``.
"""

from __future__ import annotations

from pydantic import Field

from diptych.runtime.options import Options

PROMPT = "neon punk city, women with short hair, standing in the rain"


class SessionOptions(Options):
    """What is generated, and how it is learned and proposed. A session keeps these, and :class:`Session` goes by them
    when it resumes.
    """

    prompt: str = Field(PROMPT, description="What the images show; judgements of one prompt are learned from together")
    negative_prompt: str = Field("", description="What the images shall not show; without effect at guidance 0")
    decoder: str = Field(
        "synthetic", description="synthetic, diffusion, remote, reconstruction, or an installed entry point"
    )
    dimension: int | None = Field(
        None, ge=1, description="Length of the latent, for the synthetic decoder; it chooses when not given"
    )
    model: str | None = Field(None, description="Name or folder of the diffusion model")
    scan: str | None = Field(None, description="File of the scan whose reconstruction is judged")
    url: str | None = Field(None, description="Address of a remote decoder")
    width: int | None = Field(None, ge=8, description="Width of the image, pixels")
    height: int | None = Field(None, ge=8, description="Height of the image, pixels")
    steps: int | None = Field(None, ge=1, description="Denoising steps of a diffusion model; 6 when not given")
    guidance: float | None = Field(
        None, ge=0, description="Guidance scale of a diffusion model; turbo models always use 0"
    )
    utility: str | None = Field(
        None,
        description="contrastive (the default for images), ridge, logistic, xgboost, distance, cosine, surface (for "
        "settings), "
        "or an installed entry point",
    )
    proposal: str | None = Field(
        None,
        description="tempered (the default for images), around, random-anchor, line, hill, pair, breed, legacy, "
        "thompson (for settings), "
        "or an installed entry point",
    )
    batch: int = Field(4, ge=1, le=64, description="Images on a screen")
    queue: int = Field(6, ge=1, le=64, description="Images decoded ahead in a queue")
    fit_interval: float = Field(0.0, ge=0, description="Least time between the starts of two fits, s")
    use_legacy: bool = Field(False, description="Let imported rows into the fits")
    warm_start: str | None = Field(
        None, description="Another prompt of this session, whose taste guides until this one's is learned"
    )
    start: int | None = Field(
        None, ge=0, description="Seed of the latent to start from; that of the prompt when not given"
    )
    seed: int = Field(0, ge=0, description="Seed of the proposals")
