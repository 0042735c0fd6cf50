"""The state of the Reconstruct page: scan, how it is read, options, the run that is shown. All tabs share it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.errors import InputError
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.ptycho.io import LoadOptions
from diptych.ptycho.neural.options import InferenceOptions
from diptych.runtime.device import ExecutionOptions
from diptych.runtime.option_fields import file_layer
from diptych.studio.state.confine import confined_load, confined_options
from diptych.studio.state.history import Curve, read_history
from diptych.studio.state.listing import files_of, is_scan, models_of, numbered_run
from diptych.studio.state.reconstruct.look import Look
from diptych.studio.state.reconstruct.presets import OF_THE_SCAN, PRESETS
from diptych.studio.state.reconstruct.remedies import Remedy

if TYPE_CHECKING:
    from diptych.runtime.jobs import Job
    from diptych.studio.context import Studio

WORK = "diptych.ptycho.jobs:run_reconstruction"
HERE = "diptych.studio.state.reconstruct.work"


class ReconstructPage:
    """What is reconstructed.

    Parameters
    ----------
    studio : Studio
        Data folders and jobs.

    Attributes
    ----------
    look : Look or None
        The scan that is open.
    load, values, execution, inference : dict
        Options that differ from their defaults: reading, reconstruction, device, network.
    preset : str
        Name of the preset that was chosen last.
    model : Path or None
        A trained network whose image is the initial guess.
    run : Path or None
        The run directory that is shown.
    job, check, frc, limit : Job or None
        The reconstruction, check, resolution and photon limit that were started last.
    limit_values : dict
        Options of the photon limit that differ from their defaults.
    revision, changes : int
        Grow when the scan was read, and when options were changed, so that tabs redraw.
    """

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.look: Look | None = None
        self.load: dict[str, Any] = {}
        self.values: dict[str, Any] = {}
        self.execution: dict[str, Any] = {}
        self.inference: dict[str, Any] = {}
        self.preset = "standard"
        self.model: Path | None = None
        self.run: Path | None = None
        self.job: Job | None = None
        self.check: Job | None = None
        self.frc: Job | None = None
        self.limit: Job | None = None
        self.limit_values: dict[str, Any] = {}
        self.curve = Curve()
        self._scan_of: tuple[Path | None, str] = (None, "")
        self.revision = self.changes = 0
        # Two tabs, or a page that is loaded again, may ask at the same time; what one sets the other must not undo.
        self._one_at_a_time = threading.Lock()

    def scans(self) -> dict[str, str]:
        """Scans in the data folders: path to what the list shows. Looks into files: call it in a thread."""
        return {str(path): self.studio.folders.shown(path) for path in files_of(self.studio) if is_scan(path)}

    def models(self) -> dict[str, str]:
        """Trained networks in the data folders."""
        return {str(path): self.studio.folders.shown(path) for path in models_of(self.studio)}

    def open(self, given: str | Path) -> Look:
        """Read a scan in a data folder; slow, so call it in a thread. Another file forgets how the last one was read.

        Raises
        ------
        InputError
            If the path lies outside the data folders, or the file cannot be read as a scan.
        """
        path = self.studio.folders.resolve(given)
        with self._one_at_a_time:
            load = self.load if self.look is not None and self.look.path == path else {}
            if self.look is not None and self.look.path != path:
                self.check = None  # It was about the scan before.
            self.look = Look.at(path, self._reading(load))
            self.load = dict(load)
            self.revision += 1
            return self.look

    def reread(self, changes: dict[str, Any]) -> None:
        """Read the open scan with other options; those before stay when it fails. Slow."""
        with self._one_at_a_time:
            if self.look is None:
                raise InputError("scan", "none is open", "a scan", "Choose one above.")
            load = {**self.load, **changes}
            self.look = Look.at(self.look.path, self._reading(load))
            self.load = load
            self.revision += 1

    def apply(self, remedy: Remedy) -> None:
        """Change the options as a remedy says; slow where the scan is read again."""
        options = dict(remedy.options)
        if "drop" in options and (before := self.values.get("drop")):
            options["drop"] = f"{before},{options['drop']}"
        self.values.update(options)
        if remedy.load:
            self.reread(remedy.load)
        self.changes += 1

    def choose_preset(self, name: str, anew: bool = False) -> None:
        """Take the options of a preset in place of those set so far; what they say of the scan itself stays, unless
        ``anew``.
        """
        if name not in PRESETS:
            raise InputError("preset", f"found {name!r}", f"one of {', '.join(PRESETS)}")
        kept = {} if anew else {key: value for key, value in self.values.items() if key in OF_THE_SCAN}
        self.preset, self.values = name, {**kept, **PRESETS[name].values}
        self.changes += 1

    def set_option(self, name: str, value: Any) -> None:
        """Set one option of ``reconstruct``; None for its default."""
        self.values.pop(name, None)
        if value is not None:
            self.values[name] = value
        self.changes += 1

    def configure(self, given: str | Path, *, alone: bool = False) -> None:
        """Take the options in a YAML file of a data folder: how to reconstruct, and how the scan is read.

        Slow where the scan is read again.

        Parameters
        ----------
        given : path
        alone : bool
            Options of reading that the file leaves out have their defaults; otherwise those of the page stay.

        Raises
        ------
        InputError
            If the file has other options, or one of them is wrong.
        """
        path = self.studio.folders.resolve(given)
        values = dict(file_layer(path, (LoadOptions, ReconstructionOptions))[1])
        load = {name: values.pop(name) for name in LoadOptions.model_fields if name in values}
        load = confined_load(self.studio.folders, load)
        values = confined_options(self.studio.folders, values)
        ReconstructionOptions.build(values, origin=path.name)
        with self._one_at_a_time:
            load = load if alone else {**self.load, **load}
            if self.look is not None and load != self.load:
                self.look = Look.at(self.look.path, self._reading(load))
                self.revision += 1
            self.load, self.values = load, values
            self.changes += 1

    def choose_model(self, given: str | None) -> None:
        """Take a trained network of a data folder as the start; None for none."""
        self.model = self.studio.folders.resolve(given) if given else None
        self.changes += 1

    @property
    def running(self) -> bool:
        """Whether the reconstruction shown waits or runs."""
        return self.job is not None and self.job.state in ("queued", "running")

    def start(self) -> Job:
        """Check the options and submit a reconstruction. Raises InputError when something is wrong or missing."""
        if self.look is None:
            raise InputError("reconstruct", "no scan is open", "a scan", "Choose one above.")
        if self.running:
            raise InputError(
                "reconstruct", "a run is under way", "one at a time", "Stop it, or wait until it has ended."
            )
        root = self.studio.folders.roots[0]
        return self._submit(
            {
                "file": str(self.look.path),
                "run": str(numbered_run(root, self.look.path.stem)),
                "model": None if self.model is None else str(self.model),
                "load": _plain(self._reading(self.load)),
                "options": _plain(self._how()),
                "inference": _plain(InferenceOptions.build(self.inference, origin="network")),
                "execution": _plain(ExecutionOptions.build(self.execution, origin="device")),
            }
        )

    @property
    def resumable(self) -> bool:
        """Whether the run shown was stopped or killed, with a state to continue from."""
        return not self.running and self.run is not None and resumable(self.run)

    def resume(self) -> Job:
        """Continue the run that is shown, with its own options. Raises InputError where that is not possible."""
        if self.run is None or not self.resumable:
            raise InputError("resume", "there is no stopped run to continue", "a run that was stopped or killed")
        from diptych.runtime.jobs.records import read_record

        record = read_record(self.run)
        given = {} if record is None else record.arguments
        if not isinstance(given.get("file"), str):
            raise InputError(self.run.name, "was started from the command line", remedy="Resume it there.")
        file = self.studio.folders.resolve(given["file"])
        again = {
            key: given[key] for key in ("load", "options", "inference", "execution") if isinstance(given.get(key), dict)
        }
        for key, confined in (("load", confined_load), ("options", confined_options)):
            if key in again:
                again[key] = confined(self.studio.folders, again[key])
        return self._submit({**again, "file": str(file), "run": str(self.run), "resume": True})

    def stop(self) -> None:
        """Stop after the current epoch; the best state is saved as the result."""
        if self.job is not None:
            self.job.cancel()

    def show(self, given: str | Path) -> None:
        """Show an earlier run of a data folder. Raises InputError for a path outside."""
        run = self.studio.folders.resolve(given)
        self.job = next((job for job in self.studio.jobs.jobs()[::-1] if job.folder == run and job.work == WORK), None)
        self.run, self.frc, self.limit = run, None, None
        self.curve = Curve(read_history(run / "metrics.csv"))
        self.changes += 1

    def watch(self) -> None:
        """Take over the run directory of the job once it is open."""
        if self.job is not None and self.job.folder is not None and self.run != self.job.folder:
            self.run = self.job.folder

    @property
    def result(self) -> Path | None:
        """The result of the run that is shown; None while there is none."""
        if self.run is None or self.running:
            return None
        path = self.run / "result.h5"
        return path if path.is_file() else None

    @property
    def of_another_scan(self) -> str:
        """Name of the scan of the run that is shown, where another one is open; else empty."""
        if self.run is None or self.look is None:
            return ""
        if self._scan_of[0] != self.run:
            from diptych.runtime.jobs.records import read_record

            record = read_record(self.run)
            self._scan_of = self.run, str(record.arguments.get("file") or "") if record is not None else ""
        file = Path(self._scan_of[1])
        return "" if not file.name or file == self.look.path else file.name

    def start_check(self) -> Job:
        """Try the orientations, signs and centrings of the open scan, in a process."""
        if self.look is None:
            raise InputError("check", "no scan is open", "a scan", "Choose one above.")
        arguments = {"file": str(self.look.path), "load": _plain(self._reading(self.load))}
        title = f"check {self.look.path.name}"
        self.check = self.studio.jobs.submit(f"{HERE}:check_scan", arguments, title=title, process=True)
        return self.check

    def start_resolution(self) -> Job:
        """Reconstruct two halves of the data of the run that is shown, in a process."""
        arguments = self._of_result("resolution")
        self.frc = self._ask("resolution", arguments)
        return self.frc

    def start_limit(self) -> Job:
        """Compute the least error that the photons of the run that is shown allow, in a process."""
        from diptych.ptycho.evaluate.limit.options import BoundOptions

        arguments = self._of_result("photon limit")
        options = BoundOptions.build(self.limit_values, origin="photon limit")
        self.limit = self._ask("photon_limit", {**arguments, "options": _plain(options)})
        return self.limit

    def _ask(self, work: str, arguments: dict[str, Any]) -> Job:
        assert self.run is not None
        title = f"{work.replace('_', ' ')} of {self.run.name}"
        return self.studio.jobs.submit(f"{HERE}:{work}", arguments, title=title, process=True)

    def _of_result(self, what: str) -> dict[str, Any]:
        """Result, scan and reading of the run that is shown. Raises InputError where one is not known."""
        from diptych.runtime.jobs.records import read_record

        result = self.result
        if result is None or self.run is None:
            raise InputError(what, "there is no result", "a finished run")
        record = read_record(self.run)
        given = {} if record is None else record.arguments
        if not isinstance(given.get("file"), str):
            verb = "evaluate --scan" if what == "resolution" else "bound --result"
            raise InputError(what, "the scan of this run is not known", remedy=f"Use diptych {verb}.")
        load = confined_load(self.studio.folders, given.get("load") or {})
        return {"result": str(result), "scan": str(self.studio.folders.resolve(given["file"])), "load": load}

    def save_masked(self, boxes: list[tuple[int, int, int, int]]) -> Path:
        """Write a copy of the open scan with rectangles masked, beside it, and open that. Slow."""
        from diptych.ptycho.io import save

        if self.look is None:
            raise InputError("mask", "no scan is open", "a scan", "Choose one above.")
        masked = self.look.masked(boxes)
        folder, stem, number = self.look.path.parent, self.look.path.stem, 1
        while (target := folder / f"{stem}-masked-{number}.npz").exists():
            number += 1
        save(masked, target)
        self.open(target)
        return target

    def _submit(self, arguments: dict[str, Any]) -> Job:
        again = bool(arguments.get("resume"))
        title = f"{'resume' if again else 'reconstruct'} {Path(arguments['file']).name}"
        curve = Curve()
        self.job = self.studio.jobs.submit(WORK, arguments, title=title, process=True)
        self.job.listen(curve.add)
        self.curve, self.frc, self.limit, self.run = curve, None, None, Path(arguments["run"]) if again else None
        self.changes += 1
        return self.job

    def _reading(self, load: dict[str, Any]) -> LoadOptions:
        return LoadOptions.build(confined_load(self.studio.folders, load), origin="how the scan is read")

    def _how(self) -> ReconstructionOptions:
        return ReconstructionOptions.build(confined_options(self.studio.folders, self.values), origin="options")


def resumable(run: Path) -> bool:
    """Whether a run was stopped, failed or killed and can be continued from its checkpoint."""
    from diptych.runtime.jobs.records import read_record

    record = read_record(run)
    if record is None or record.command != "reconstruct" or record.state not in ("cancelled", "failed"):
        return False
    return (run / "checkpoint.npz").is_file()


def _plain(options: Any) -> dict[str, Any]:
    found: dict[str, Any] = options.model_dump(mode="json", exclude_unset=True)
    return found
