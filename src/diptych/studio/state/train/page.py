"""The state of the Train page: scans, options, the training under way, and the network that is kept."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.errors import InputError, UnavailableError
from diptych.ptycho.neural.options import TrainerOptions, TrainingOptions
from diptych.runtime.files import replacing
from diptych.runtime.jobs.records import JobRecord, read_record
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
    earlier : JobRecord or None
        The run that is shown where no training was started since.
    kept : Path or None
        Where the network was kept.
    """

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.files: list[Path] = []
        self.values: dict[str, Any] = {}
        self.trainer: dict[str, Any] = {}
        self.job: Job | None = None
        self.earlier: JobRecord | None = None
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
    def shown(self) -> Job | JobRecord | None:
        """The training that is shown, of this server or an earlier one."""
        return self.job or self.earlier

    @property
    def run(self) -> Path | None:
        """The run directory of the training that is shown."""
        return None if self.shown is None else self.shown.folder

    def show(self, given: str | Path) -> None:
        """Show an earlier training of a data folder. Raises InputError where there is none."""
        folder = self.studio.folders.resolve(given)
        record = read_record(folder)
        if record is None or record.command != "train":
            raise InputError(folder.name, "is not a run of train", "a run directory of a training")
        self.job = next((job for job in self.studio.jobs.jobs()[::-1] if job.folder == folder), None)
        self.earlier, self.kept = record, None

    @property
    def resumable(self) -> bool:
        """Whether the training that is shown was stopped or failed after an epoch, so that it can go on."""
        shown = self.shown
        if shown is None or shown.folder is None or shown.state not in ("cancelled", "failed"):
            return False
        if not isinstance(shown.arguments.get("files"), list):
            return False  # It was started from the command line.
        return (shown.folder / "checkpoints" / "last.ckpt").is_file()

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
        shown = self.shown
        if not self.resumable or shown is None:
            raise InputError("train", "there is no training to go on with", "one that was stopped after an epoch")
        again = {key: value for key, value in shown.arguments.items() if key in ("options", "trainer")}
        files = [str(self.studio.folders.resolve(file)) for file in shown.arguments["files"]]
        return self._submit({**again, "files": files, "run": str(shown.folder), "resume": True})

    def stop(self) -> None:
        """Stop after the current update; the best network so far is kept in the run."""
        if self.job is not None:
            self.job.cancel()

    def history(self) -> dict[str, list[float]]:
        """Columns of the run's ``metrics.csv`` so far: ``epoch``, ``loss``, ``validation_loss``, ...; empty before the
        first epoch has ended.
        """
        return {} if self.run is None else read_history(self.run / "metrics.csv")

    def picture(self) -> Path | None:
        """The newest figure of a validation group; None before the first epoch has ended."""
        if self.run is None:
            return None
        return max((self.run / "pictures").glob("epoch-*.png"), default=None)

    def model(self) -> Path | None:
        """The trained network; None before there is one."""
        if self.run is None or self.running:
            return None
        path = self.run / MODEL
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
