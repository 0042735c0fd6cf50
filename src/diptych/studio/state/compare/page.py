"""The state of one Compare page: which results, which methods, and the job that compares them."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.errors import InputError
from diptych.ptycho.evaluate.methods import ENGINES
from diptych.studio.components.viewer.images import image_of_difference, image_of_values, levelled
from diptych.studio.state.compare.compared import Compared, read_comparison
from diptych.studio.state.listing import files_of, is_result, is_scan, models_of, numbered_run

if TYPE_CHECKING:
    from diptych.runtime.jobs import Job
    from diptych.studio.context import Studio

COUNTER = itertools.count()
RESERVED = ("truth", "origin", "pixel_m")
"""Names that the files of a comparison need for themselves."""

GAUGES = ("auto", "full", "scale", "phase", "none")


class ComparePage:
    """What a person has chosen to compare, and what was found.

    Parameters
    ----------
    studio : Studio
        Data folders, jobs, images.

    Attributes
    ----------
    files : dict of str to Path
        Chosen results by the name that tables show.
    reference : str
        Name of the result that the others are compared with.
    truth : bool
        Compare with the true object in the scan, where it has one.
    scan, methods
        The scan on which ``methods`` (engines, networks) are run too; None and empty where results alone are compared.
    revision : int
        Grows with every change, so that all tabs show the same.
    """

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.files: dict[str, Path] = {}
        self.reference = ""
        self.gauge = "auto"
        self.scan: Path | None = None
        self.methods: list[str] = []
        self.job: Job | None = None
        self.compared: Compared | None = None
        self.truth = True
        self.revision = 0
        self._identity = ""

    def results(self) -> dict[str, str]:
        """Result files in the data folders: path to what the list shows, the last changed first."""
        folders = self.studio.folders
        return {str(path): folders.shown(path) for path in files_of(self.studio) if is_result(path)}

    def scans(self) -> dict[str, str]:
        """Scans in the data folders: path to what the list shows."""
        return {str(path): self.studio.folders.shown(path) for path in files_of(self.studio) if is_scan(path)}

    def available_methods(self) -> dict[str, str]:
        """Engines, and networks in the data folders: what is run to what the list shows."""
        networks = {str(path): f"network {self.studio.folders.shown(path)}" for path in models_of(self.studio)}
        return {**{name: f"engine {name}" for name in ENGINES}, **networks}

    def choose(self, paths: list[str]) -> None:
        """Take these result files; names are as short as they can be told apart.

        Raises InputError for a path outside the data folders or a file without a result.
        """
        resolved = list(dict.fromkeys(self.studio.folders.resolve(path) for path in paths))
        for path in resolved:
            if not path.is_file():
                raise InputError(path.name, "there is no such file", "a result (.h5 or .npz)")
        self.files = dict(zip(short_names(resolved), resolved, strict=True))
        if self.reference not in self.files:
            self.reference = next(iter(self.files), "")
        self.compared = None
        self.revision += 1

    def keys(self) -> dict[str, str]:
        """Image keys of the chosen results, by name."""
        return {name: self.studio.images.add_file(path) for name, path in self.files.items()}

    @property
    def problem(self) -> str:
        """Why nothing can be compared yet; empty when it can."""
        if self.scan is not None and not self.files and not self.methods:
            return "Choose engines, networks or results to compare on this scan."
        if self.scan is None and self.methods:
            return "Engines and networks need a scan: choose one."
        if self.scan is None and len(self.files) < 2:
            return "Choose at least two results, or a scan and methods to run on it."
        return ""

    def start(self) -> Job:
        """Submit the comparison. Raises InputError when something is missing."""
        if self.problem:
            raise InputError("compare", self.problem)
        self.compared = None
        self.revision += 1
        if self.scan is None:
            title = f"compare {', '.join(self.files)}"
            arguments: dict[str, Any] = {
                "files": dict(self.files),
                "reference": self.reference,
                "gauge": self.gauge,
                "receive": self._receive,
            }
            work = "diptych.studio.state.compare.work:compare_files"
            self.job = self.studio.jobs.submit(work, arguments, title=title, heavy=False)
            return self.job
        self.job = self.studio.jobs.submit(
            "diptych.ptycho.jobs:run_comparison",
            self._run_arguments(),
            title=f"compare on {self.scan.name}",
            process=True,
        )
        return self.job

    def show(self, given: str | Path) -> None:
        """Show the comparison in a run directory of a data folder. Raises InputError where there is none."""
        found = read_comparison(self.studio.folders.resolve(given))
        self.job, self.files, self.scan, self.methods = None, {}, None, []
        self._receive(found)

    def collect(self) -> bool:
        """Take over what a finished job found; whether there is a comparison to show.

        Raises InputError when the files of the run cannot be read.
        """
        job = self.job
        if self.compared is None and job is not None and job.state in ("done", "cancelled") and job.folder is not None:
            self._receive(read_comparison(job.folder))
        return self.compared is not None

    def aligned_keys(self) -> dict[str, str]:
        """Image keys of the reference and the aligned results, by name."""
        found = self._found()
        return {
            name: self.studio.images.add(
                f"{self._identity}|{name}",
                lambda name=name, values=values: image_of_values(  # type: ignore[misc]
                    values, name, mask=found.mask, origin=found.origin, pixel_m=found.pixel_m
                ),
            )
            for name, values in found.aligned.items()
        }

    def difference_keys(self) -> dict[str, str]:
        """Image keys of result minus reference, by result."""
        found = self._found()
        return {
            name: self.studio.images.add(
                f"{self._identity}|{name}|difference",
                lambda name=name: image_of_difference(  # type: ignore[misc]
                    found.aligned[name],
                    found.aligned[found.reference],
                    f"{name} - {found.reference}",
                    mask=found.mask,
                    origin=found.origin,
                    pixel_m=found.pixel_m,
                ),
            )
            for name in found.others
            if found.reference in found.aligned
        }

    def _found(self) -> Compared:
        assert self.compared is not None, "nothing was compared"
        return self.compared

    def _receive(self, found: Compared) -> None:
        self._identity = f"comparison {next(COUNTER)} of {id(self.studio)}"
        self.compared = level(found)
        self.revision += 1

    def _run_arguments(self) -> dict[str, Any]:
        assert self.scan is not None
        methods = {name: str(path) for name, path in self.files.items()}
        for method in self.methods:
            name = method if method in ENGINES else Path(method).stem
            methods[short_names([*map(Path, methods), Path(name)])[-1]] = method
        options: dict[str, Any] = {"gauge": self.gauge}
        if not (self.truth and _has_truth(self.scan)):
            options["reference"] = self.reference if self.reference in methods else next(iter(methods))
        run = numbered_run(self.studio.folders.roots[0], f"{self.scan.stem}-compare")
        return {"file": str(self.scan), "methods": methods, "run": str(run), "options": options}


def level(found: Compared) -> Compared:
    """Turn the phases of all aligned images by those of one plane, so that the reference has mean phase 0 and no ramp.

    Differences stay the same.
    """
    reference = found.aligned.get(found.reference)
    if reference is None:
        return found
    plane = np.exp(1j * np.angle(levelled(reference, found.mask, None, ramp=True) * reference.conj()))
    turned = {name: np.asarray(values * plane, np.complex64) for name, values in found.aligned.items()}
    return replace(found, aligned=turned)


def short_names(paths: list[Path]) -> list[str]:
    """Names of files by which they can be told apart, and that the files of a comparison allow.

    Of ``result.h5`` the name of its folder, else the stem; then numbered.
    """
    names: list[str] = []
    for path in paths:
        given = path.parent.name if path.stem == "result" else path.stem
        stem = re.sub(r"[^\w .+-]", "-", given).lstrip(" .+-")[:36] or "result"
        stem = f"{stem}-file" if stem in RESERVED else stem
        name, number = stem, 2
        while name in names:
            name, number = f"{stem}-{number}", number + 1
        names.append(name)
    return names


def _has_truth(scan: Path) -> bool:
    from diptych.ptycho.io import load_object

    try:
        load_object(scan)
    except InputError:
        return False
    return True
