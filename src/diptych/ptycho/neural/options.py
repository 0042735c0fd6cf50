"""Options of training (the science), of the trainer (the execution), and of inference with a trained network."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from diptych.ptycho.networks.registry import NETWORKS, NetworkOptions
from diptych.ptycho.prepare.options import AutoMask, Frames, Saturated
from diptych.runtime.options import Options

LossName = Literal["poisson", "mae", "gaussian"]


class TrainingOptions(NetworkOptions):
    """Network, data, loss and optimisation. The defaults train a physics-informed network on groups of 4 patterns."""

    supervision: Literal["physics", "labels"] = Field(
        "physics",
        description="physics: from counts alone, through the forward model; labels: on the true object (PtychoNN).",
    )
    gridsize: int = Field(2, ge=1, le=3, description="g: groups of g x g neighbouring patterns share one object.")
    n_groups: int | None = Field(None, ge=1, description="Groups per scan; by default as many as patterns.")
    n_subsample: int | None = Field(
        None, ge=1, description="Use only this many patterns of each scan, chosen at random."
    )
    neighbours: int | None = Field(None, ge=1, description="Nearest neighbours from which a group's members are drawn.")
    pool: int | None = Field(
        None, ge=1, description="oversample: nearest neighbours that enter combinations; by default as neighbours."
    )
    oversample: bool = Field(
        False, description="Allow more groups than patterns, by several combinations of neighbours around a pattern."
    )
    sequential: bool = Field(
        False, description="Use the first n_groups patterns and their nearest neighbours instead of random ones."
    )

    loss: LossName = Field(
        "poisson",
        description="poisson (likelihood of the counts), mae (of amplitudes) or gaussian (least squares on "
        "amplitudes).",
    )
    withheld: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="Share of each pattern's photons that is held out from the input and used only in the loss, so "
        "that the network does not learn to fit noise; drawn anew each epoch. With 0, or counts that are not "
        "integers, input and loss use the same counts.",
    )
    tv: float = Field(0.0, ge=0, description="Weight of the total variation of the group's object, per pixel.")
    consistency: float = Field(
        0.0, ge=0, description="Weight of the difference between the patches of a group and their average."
    )
    placement: Literal["probe", "uniform"] = Field(
        "probe", description="Weights of the average of overlapping patches: |probe|^2, or uniform."
    )
    probe: Literal["fixed", "refine"] = Field(
        "fixed", description="Keep each scan's probe, or optimise it together with the network."
    )
    jitter: float = Field(
        0.0, ge=0, le=10, description="Standard deviation of random position errors added in training, px."
    )

    epochs: int = Field(30, ge=1, description="Passes over the groups.")
    batch: int = Field(32, ge=1, description="Patterns per update, over all devices; a group of C counts as C.")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="Peak learning rate of AdamW.")
    schedule: Literal["cosine", "constant", "exponential", "plateau"] = Field(
        "cosine",
        description="Learning rate after the warm-up: cosine (down to 1 %), constant, exponential (0.95 per epoch), "
        "plateau (halved).",
    )
    warmup: int = Field(50, ge=0, description="Updates over which the learning rate rises from 0.")
    clip: float = Field(
        1.0,
        ge=0,
        description="Gradient clipping threshold: norm, value, or ratio to the weights (agc); 0 disables.",
    )
    clip_mode: Literal["norm", "value", "agc"] = Field(
        "norm", description="Clip the norm of the gradient, its values, or adaptively (agc)."
    )
    accumulate: int = Field(1, ge=1, description="Batches whose gradients are averaged for one update.")
    validation: float = Field(
        0.1,
        ge=0,
        lt=0.5,
        description="Fraction of each scan's patterns used for validation: a block at least one probe diameter away "
        "from the training patterns.",
    )
    patience: int | None = Field(
        None,
        ge=1,
        description="Epochs without improvement of the validation loss before stopping; by default no early stopping.",
    )
    seed: int = Field(0, ge=0, description="Seed of weights, groups, split, batch order and jitter.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.network in NETWORKS and self.gridsize not in (known := NETWORKS[self.network].gridsizes):
            raise ValueError(
                f"gridsize = {self.gridsize}: the network {self.network} works with {', '.join(map(str, known))}"
            )
        if self.supervision == "labels":
            defaults = type(self).model_fields
            physics = [
                name
                for name in ("loss", "withheld", "tv", "consistency", "probe")
                if getattr(self, name) != defaults[name].default
            ]
            if physics:
                raise ValueError(f"{', '.join(physics)}: used with supervision=physics only; leave them out for labels")
        if self.patience is not None and self.validation == 0:
            raise ValueError(
                "patience needs a validation loss, and validation = 0 leaves no patterns for it; set validation above 0"
            )
        if self.pool is not None and not self.oversample:
            raise ValueError("pool is used with oversample only; set oversample, or leave pool out")
        return self


class InferenceOptions(Options):
    """How a trained network is applied to a scan."""

    network_batch: int = Field(64, ge=1, description="Patterns per batch of the network.")
    network_weights: Literal["probe", "uniform"] = Field(
        "probe", description="Weights of the average of the network's patches: |probe|^2, or uniform."
    )
    canvas_passes: int = Field(
        32,
        ge=0,
        le=1000,
        description="Most likelihood steps on the whole stitched image under the given probe, each a pass over the "
        "patterns; they end early where held-out pixels fit no better. Where an engine continues, only for an image "
        "that network_result keeps.",
    )
    network_result: Literal["auto", "start"] = Field(
        "auto",
        description="Where an engine continues: auto (the network's image is the result where held-out pixels confirm "
        "that it is better than the engine's) or start (the engine only starts from it).",
    )
    network_prior: bool = Field(
        False,
        description="With canvas_passes: penalise differences from the network's image, as strongly as held-out pixels "
        "confirm, or drop it and start from a flat object. Takes about six times as many passes.",
    )
    log_patch_stats: bool = Field(False, description="Write statistics and a figure of the network's patches.")
    patch_stats_limit: int = Field(4, ge=1, description="log_patch_stats: batches written.")


class TrainerOptions(Options):
    """Devices, precision, output and guard of training, by which a finished one differs by rounding errors only; and
    what is left out of the scans beforehand.
    """

    bad_frames: Frames = "auto"
    auto_mask: AutoMask = False
    saturated: Saturated = "auto"

    device: str = Field("auto", description="auto (a CUDA GPU when there is one, else the CPU), cpu, cuda or cuda:N.")
    devices: int = Field(1, ge=1, description="GPUs (or CPU processes) to train on; more than one needs strategy ddp.")
    strategy: Literal["auto", "ddp"] = Field(
        "auto", description="ddp: one process per device; they share each batch and average gradients."
    )
    precision: Literal["32", "bf16-mixed", "16-mixed"] = Field(
        "32",
        description="Arithmetic of the convolutions: 32 bits, or mixed; the physics is always computed in 32 bits.",
    )
    threads: int | None = Field(None, ge=1, description="CPU threads; by default as torch decides.")
    workers: int = Field(0, ge=0, description="Processes that read batches ahead; 0 reads them in the main process.")
    deterministic: bool = Field(False, description="Refuse operations whose result differs from run to run.")
    streaming: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Read patterns from the HDF5 file batch by batch; auto does so above 10,000 groups.",
    )
    logger: Literal["csv", "tensorboard", "mlflow", "none"] = Field(
        "csv", description="Where Lightning logs losses, in the run directory."
    )
    collapse_epochs: int = Field(
        3,
        ge=0,
        description="Stop after this many epochs in a row in which the network has collapsed (all patches flat, dark, "
        "alike or not finite, and the counts not explained); 0: only warn.",
    )
    log_patch_stats: bool = Field(False, description="Write statistics and a figure of predicted patches.")
    patch_stats_limit: int = Field(4, ge=1, description="log_patch_stats: batches written per epoch.")
    parity_dump: bool = Field(
        False, description="Write patches, offsets and canvas of one group, for comparison with other programs."
    )
    pictures: bool = Field(True, description="Write a figure of a validation group after each epoch.")
