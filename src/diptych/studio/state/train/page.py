"""The state of the Train page: scans, options, the training under way, and the network that is kept."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.errors import InputError, UnavailableError
from diptych.ptycho.neural.options import TrainerOptions, TrainingOptions
from diptych.runtime.files import replacing
from diptych.studio.state.history import read_history
from diptych.studio.state.listing import files_of, is_scan, numbered_run

if TYPE_CHECKING:
    from diptych.runtime.jobs import Job
    from diptych.studio.context import Studio

WORK = "diptych.ptycho.jobs:run_training"
MODEL = "model.safetensors"
KEPT = "models"
"""Folder in the first data folder for networks that are kept."""

_NAME = re.compile(r"\w[\w .+-]{0,63}")


class TrainPage:
    """What is trained, shared by all tabs.

    Parameters
    ----------
    studio : Studio
        Data folders and jobs.

    Attributes
    ----------
    files : list of Path
        Chosen scans.
    values : dict
        Training options that differ from their defaults.
    trainer : dict
        Trainer options that differ from their defaults.
    job : Job or None
        The training that was started last.
    kept : Path or None
        Where the network was kept.
    """

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.files: list[Path] = []
        self.values: dict[str, Any] = {}
        self.trainer: dict[str, Any] = {}
        self.job: Job | None = None
        self.kept: Path | None = None

    def scans(self) -> dict[str, str]:
        """Scans in the data folders: path to what the list shows."""
        return {str(path): self.studio.folders.shown(path) for path in files_of(self.studio) if is_scan(path)}

    def choose(self, paths: list[str]) -> None:
        """Take these scans. Raises InputError for a path outside the data folders."""
        self.files = [self.studio.folders.resolve(path) for path in paths]

    @property
    def running(self) -> bool:
        """Whether a training waits or runs."""
        return self.job is not None and self.job.state in ("queued", "running")

    @property
    def resumable(self) -> bool:
        """Whether the last training was stopped or failed after an epoch, so that it can go on."""
        job = self.job
        if job is None or job.folder is None or job.state not in ("cancelled", "failed"):
            return False
        return (job.folder / "checkpoints" / "last.ckpt").is_file()

    def start(self) -> Job:
        """Check the options and submit a training. Raises InputError when something is wrong or missing."""
        if self.running:
            raise InputError("train", "a training is under way", "one at a time", "Stop it or wait for its end.")
        if not self.files:
            raise InputError("train", "no scan is chosen", "at least one scan", "Choose scans in the list above.")
        options = TrainingOptions.build(self.values, origin="options of training")
        trainer = TrainerOptions.build(self.trainer, origin="options of the trainer")
        run = numbered_run(self.studio.folders.roots[0], f"{self.files[0].stem}-train")
        return self._submit(
            {
                "files": [str(path) for path in self.files],
                "run": str(run),
                "options": options.model_dump(mode="json", exclude_unset=True),
                "trainer": trainer.model_dump(mode="json", exclude_unset=True),
            }
        )

    def resume(self) -> Job:
        """Go on with the training that was stopped. Raises InputError when there is none."""
        if not self.resumable or self.job is None or self.job.folder is None:
            raise InputError("train", "there is no training to go on with", "one that was stopped after an epoch")
        again = {key: value for key, value in self.job.arguments.items() if key in ("files", "options", "trainer")}
        return self._submit({**again, "run": str(self.job.folder), "resume": True})

    def stop(self) -> None:
        """Stop after the current update; the best network so far is kept in the run."""
        if self.job is not None:
            self.job.cancel()

    def history(self) -> dict[str, list[float]]:
        """Columns of the run's ``metrics.csv`` so far: ``epoch``, ``loss``, ``validation_loss``, ...; empty before the
        first epoch has ended.
        """
        if self.job is None or self.job.folder is None:
            return {}
        return read_history(self.job.folder / "metrics.csv")

    def picture(self) -> Path | None:
        """The newest figure of a validation group; None before the first epoch has ended."""
        if self.job is None or self.job.folder is None:
            return None
        return max((self.job.folder / "pictures").glob("epoch-*.png"), default=None)

    def model(self) -> Path | None:
        """The trained network; None before there is one."""
        if self.job is None or self.running or self.job.folder is None:
            return None
        path = self.job.folder / MODEL
        return path if path.is_file() else None

    def keep(self, name: str) -> Path:
        """Copy the network to ``models/<name>.safetensors`` in the first data folder.

        Raises
        ------
        InputError
            If there is no network yet, the name cannot be a file name, or it is taken.
        UnavailableError
            If the disk refuses.
        """
        model = self.model()
        if model is None:
            raise InputError("keep", "there is no trained network yet", "a training that has ended")
        name = name.strip().removesuffix(".safetensors")
        if not _NAME.fullmatch(name):
            raise InputError("name of the network", f"found {name!r}", "up to 64 letters, digits, spaces or _ . + -")
        target = self.studio.folders.resolve(self.studio.folders.roots[0] / KEPT / f"{name}.safetensors")
        if target.exists():
            raise InputError(target.name, "exists already", "a name that is not taken")
        try:
            target.parent.mkdir(exist_ok=True)
            with replacing(target) as temporary:
                shutil.copyfile(model, temporary)
        except OSError as error:
            raise UnavailableError(f"{target.name}: cannot be written ({error.strerror}).") from error
        self.kept = target
        return target

    def _submit(self, arguments: dict[str, Any]) -> Job:
        self.kept = None
        title = f"train on {', '.join(Path(file).name for file in arguments['files'])}"
        self.job = self.studio.jobs.submit(WORK, arguments, title=title, process=True)
        return self.job
