"""Lightning's trainer without its own output, and torch's global settings, restored after training."""

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
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import loggers
from lightning.pytorch.strategies import DDPStrategy

from diptych.errors import InputError, UnavailableError
from diptych.ptycho.neural.options import TrainerOptions, TrainingOptions
from diptych.ptycho.neural.training.callbacks import SILENCED_LOGGERS
from diptych.runtime.cpu.parallel import shared_out
from diptych.runtime.device import torchrun_processes


def check_trainer(trainer: TrainerOptions, device: torch.device) -> None:
    """Check that the devices and the precision are available.

    Parameters
    ----------
    trainer : TrainerOptions
        Devices, strategy and precision.
    device : torch.device
        The first device.

    Raises
    ------
    InputError
        If the options contradict each other.
    UnavailableError
        If there are fewer GPUs than requested.
    """
    launched = torchrun_processes()
    if launched is not None and (trainer.strategy != "ddp" or trainer.devices not in (1, launched[1])):
        raise InputError(
            f"devices = {trainer.devices}, strategy = {trainer.strategy!r}",
            f"torchrun has started {launched[1]} processes on this machine",
            "strategy 'ddp', and devices left out",
            "Set strategy='ddp', and give the number of processes to torchrun only (--nproc-per-node).",
        )
    if trainer.devices > 1 and trainer.strategy != "ddp":
        raise InputError(
            f"devices = {trainer.devices}",
            f"strategy is {trainer.strategy!r}",
            "strategy 'ddp', one process per device",
            "Set strategy='ddp' (--strategy ddp), or use one device.",
        )
    if device.type == "cpu" and trainer.precision == "16-mixed":
        raise InputError(
            "precision 16-mixed", "the device is the CPU", "bf16-mixed or 32", "Pass --precision 32, or use a GPU."
        )
    if device.type == "cuda" and trainer.devices > torch.cuda.device_count():
        raise UnavailableError(
            f"devices = {trainer.devices}: torch finds {torch.cuda.device_count()} CUDA devices. Lower devices."
        )


@contextmanager
def settings_kept(device: torch.device, trainer: TrainerOptions, seed: int) -> Iterator[None]:
    """Seed torch, silence Lightning, and restore all of torch's settings afterwards."""
    sources = [logging.getLogger(name) for name in SILENCED_LOGGERS]
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
            # Lightning warns of few workers and of existing folders, both of which are intended.
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
    """Make a Lightning trainer that prints nothing and writes nothing but the files of its logger.

    Parameters
    ----------
    options : TrainingOptions
        Epochs and accumulation of gradients.
    trainer : TrainerOptions
        Devices, strategy, precision and logger.
    device : torch.device
        The first device.
    folder : Path, optional
        Where the logger writes; without it nothing is logged.
    callbacks : list of Callback
        Lightning callbacks.
    validated : bool
        Whether there is a validation set.
    scans : int
        Number of training scans.

    Raises
    ------
    UnavailableError
        If the logger's package is not installed.
    """
    single: Any = [device.index or 0] if device.type == "cuda" else 1
    launched = torchrun_processes()
    ddp: Any = DDPStrategy(
        # Spawn processes: the default strategy would run the user's script once per device.
        start_method="popen" if launched else "spawn",
        find_unused_parameters=options.probe == "refine" and scans > 1,
    )
    return lightning.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=launched[1] if launched else trainer.devices if trainer.devices > 1 else single,
        num_nodes=launched[2] if launched else 1,
        strategy=ddp if launched or trainer.devices > 1 else "auto",
        precision="32-true" if trainer.precision == "32" else trainer.precision,
        max_epochs=options.epochs,
        accumulate_grad_batches=options.accumulate,
        # None keeps the setting of the caller, which False would turn off.
        deterministic=trainer.deterministic or None,
        limit_val_batches=1.0 if validated else 0,
        logger=_logger(trainer.logger, folder),
        callbacks=callbacks,
        # But for torchrun's, do not read the environment variables of a cluster, which describe another job.
        plugins=[TorchElasticEnvironment() if launched else LightningEnvironment()],
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
            f"logger {name}: the package {name} is not installed. Run: pip install {name}, or use --logger csv."
        ) from None
