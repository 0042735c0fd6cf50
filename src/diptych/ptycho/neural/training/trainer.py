"""Lightning's trainer, made silent, and torch's settings, put back when it is done."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import loggers
from lightning.pytorch.strategies import DDPStrategy

from diptych.errors import InputError, UnavailableError
from diptych.ptycho.neural.options import TrainerOptions, TrainingOptions
from diptych.ptycho.neural.training.callbacks import QUIET
from diptych.runtime.parallel import shared_out


def check_trainer(trainer: TrainerOptions, device: torch.device) -> None:
    """Raise where the devices or the precision cannot be had on ``device``.

    Raises
    ------
    InputError
        If the options contradict each other.
    UnavailableError
        If there are fewer GPUs than asked for.
    """
    if trainer.devices > 1 and trainer.strategy != "ddp":
        raise InputError(
            f"devices = {trainer.devices} needs one process per device; expected strategy='ddp' (--strategy ddp), or "
            f"one device."
        )
    if device.type == "cpu" and trainer.precision == "16-mixed":
        raise InputError("precision 16-mixed needs a GPU; on the CPU use bf16-mixed or 32 (--precision 32).")
    if device.type == "cuda" and trainer.devices > torch.cuda.device_count():
        raise UnavailableError(
            f"devices = {trainer.devices} asked for, but torch sees {torch.cuda.device_count()} CUDA devices."
        )


@contextmanager
def settings_kept(device: torch.device, trainer: TrainerOptions, seed: int) -> Iterator[None]:
    """Seeded random numbers, and afterwards all of torch's settings as they were."""
    sources = [logging.getLogger(name) for name in QUIET]
    levels = [each.level for each in sources]
    strict = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    devices = [device.index or 0] if device.type == "cuda" else []
    try:
        for each in sources:
            each.setLevel(logging.ERROR)
        with (
            warnings.catch_warnings(),
            torch.random.fork_rng(devices=devices),
            torch.enable_grad(),
            shared_out(False, trainer.threads),
        ):
            # What Lightning warns of (few workers, folders that exist) is settled here.
            warnings.filterwarnings("ignore", module=r"lightning\.")
            torch.manual_seed(seed)
            yield
    finally:
        for each, level in zip(sources, levels, strict=True):
            each.setLevel(level)
        torch.use_deterministic_algorithms(strict[0], warn_only=strict[1])
        if workspace is None:
            os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
        else:
            os.environ["CUBLAS_WORKSPACE_CONFIG"] = workspace


def make_trainer(
    options: TrainingOptions,
    trainer: TrainerOptions,
    device: torch.device,
    folder: Path | None,
    callbacks: list[Any],
    validated: bool,
    scans: int,
) -> lightning.Trainer:
    """Lightning's trainer, silent, and with nothing of its own on disk but a logger's files.

    Parameters
    ----------
    folder : Path, optional
        Where the logger writes; None logs nothing.
    validated : bool
        Whether there is anything to validate with.
    scans : int
        How many scans are trained on.

    Raises
    ------
    UnavailableError
        If the logger's package is not installed.
    """
    single: Any = [device.index or 0] if device.type == "cuda" else 1
    # Processes are spawned, not started as copies of the command line: a script would run as often as there are
    # devices.
    apart: Any = DDPStrategy(start_method="spawn", find_unused_parameters=options.probe == "refine" and scans > 1)
    return lightning.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=trainer.devices if trainer.devices > 1 else single,
        strategy=apart if trainer.devices > 1 else "auto",
        precision="32-true" if trainer.precision == "32" else trainer.precision,
        max_epochs=options.epochs,
        accumulate_grad_batches=options.accumulate,
        # False would turn off what the caller has turned on.
        deterministic=trainer.deterministic or None,
        limit_val_batches=1.0 if validated else 0,
        logger=_logger(trainer.logger, folder),
        callbacks=callbacks,
        # A cluster's own variables describe its job, not this one.
        plugins=[LightningEnvironment()],
        default_root_dir=folder,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _logger(name: str, folder: Path | None) -> Any:
    if name == "none" or folder is None:
        return False
    try:
        if name == "csv":
            return loggers.CSVLogger(folder, name="logs")
        if name == "tensorboard":
            return loggers.TensorBoardLogger(folder, name="logs")
        return loggers.MLFlowLogger(experiment_name="diptych", tracking_uri=f"file:{folder / 'logs'}")
    except ModuleNotFoundError:
        raise UnavailableError(
            f"logger {name}: its package is not installed: pip install {name}, or take csv (--logger csv)."
        ) from None
