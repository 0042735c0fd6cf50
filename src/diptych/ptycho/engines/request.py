"""What a reconstruction was asked for: one object, handed to starts and engines."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from diptych.errors import InputError
from diptych.ptycho.engines.flags.known import Known
from diptych.ptycho.engines.options import ReconstructionOptions
from diptych.ptycho.engines.thick.asked import check_slices
from diptych.ptycho.engines.variation.asked import check_variation
from diptych.ptycho.scan import Reconstruction, Scan
from diptych.runtime.device import ExecutionOptions
from diptych.runtime.progress import ProgressCallback

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diptych.ptycho.engines.flags.trials import Verdict
    from diptych.ptycho.engines.run import CancelToken
    from diptych.runtime.cpu.parallel import Workers


class TrainedNetwork(Protocol):
    """What engines need of a trained network; see :class:`~diptych.ptycho.neural.model.Model`."""

    @property
    def digest(self) -> str:
        """Hash of the network, the same in every process."""
        ...

    @property
    def probe(self) -> NDArray[np.complex64] | None:
        """The probe (P, N, N) of the training scans, if known."""
        ...

    def reconstruct(
        self, scan: Scan, progress: ProgressCallback | None = None, *, execution: ExecutionOptions, **inference: Any
    ) -> Reconstruction:
        """The network's image of a scan."""
        ...


@dataclass(frozen=True, eq=False)
class Request:
    """Everything ``reconstruct`` was called with, validated.

    Parameters
    ----------
    scan : Scan
        Counts, positions, initial probe.
    options : ReconstructionOptions
        Engine and its options.
    execution : ExecutionOptions
        Device, precision, threads.
    network : TrainedNetwork, optional
        Gives the initial object.
    inference : mapping
        Further arguments of ``network.reconstruct``.
    progress : callable, optional
        Progress callback.
    checkpoint : Path, optional
        File for the state of the run.
    resume : bool
        Continue from ``checkpoint`` where it exists.
    cancel : CancelToken, optional
        Asks the run to stop.
    known : Known
        What was found about readings of scans, kept between runs.
    spoiled : str
        How to take out what spoils the scan, for the flags; empty where nothing is known to.
    workers : Workers, optional
        Threads of the run, once it has begun.
    """

    scan: Scan
    options: ReconstructionOptions
    execution: ExecutionOptions = field(default_factory=ExecutionOptions)
    network: TrainedNetwork | None = None
    inference: Mapping[str, Any] = field(default_factory=dict)
    progress: ProgressCallback | None = None
    checkpoint: Path | None = None
    resume: bool = False
    cancel: CancelToken | None = None
    spoiled: str = ""
    known: Known = field(default_factory=Known)
    workers: Workers | None = None

    def __post_init__(self) -> None:
        options, scan, checkpoint = self.options, self.scan, self.checkpoint
        given = 0 if scan.probe is None else len(scan.probe)
        if options.probe == "fixed" and options.modes not in (None, "auto", given):
            raise InputError(
                "reconstruct",
                f"modes = {options.modes} with a fixed probe of {given} modes",
                f"{given} modes, or none given: a fixed probe is used unchanged",
                "Leave modes out, or let the probe be refined (probe='refine').",
            )
        if options.regularisation == "total-variation" and options.engine not in ("auto", "ml"):
            raise InputError(
                "reconstruct",
                f"regularisation = total-variation with engine {options.engine}",
                "engine auto or ml: the penalty is a part of maximum likelihood",
            )
        if options.regularisation == "total-variation" and not options.held_out:
            raise InputError(
                "reconstruct",
                "regularisation = total-variation without held-out pixels",
                "held_out > 0: they choose the strength",
            )
        check_slices(scan, options)
        check_variation(options)
        if options.refine_distance == "on" and options.chosen("engine").build is None:
            raise InputError(
                "reconstruct",
                f"refine_distance = on with engine {options.engine}",
                "an engine that iterates: trials of the distance are reconstructions",
            )
        if self.resume and checkpoint is None:
            raise InputError("reconstruct", "resume=True without a checkpoint", "checkpoint=PATH of the run to resume")
        if checkpoint is not None and not checkpoint.parent.is_dir():
            raise InputError(checkpoint, "its folder does not exist", remedy="Make it first, or give another path.")
        if self.network is None and self.inference:
            raise InputError(
                "reconstruct",
                "inference options without a network",
                "model=... (--model FILE)",
                "Inference options tell how a trained network is run.",
            )

    @property
    def verdict(self) -> Verdict:
        """Which reading of the scan fits; the trials are made once, when first asked for."""
        return self.known.readings(self.scan, self.workers)

    def misread(self, lost: bool) -> str:
        """Why positions must not be refined, or an empty string; ``lost``: where nothing has worked."""
        from diptych.ptycho.engines.flags.moving import misreading

        return misreading(self.scan, self.verdict, lost=True) if lost else self.known.misread(self.scan, self.workers)

    def verdict_at(self, refined: bool) -> Verdict:
        """Which reading fits. Where positions are ``refined``, trials with refined positions tell whether it is the
        scan as given, if the recorded ones leave that open.
        """
        from diptych.ptycho.engines.flags.readings import AS_GIVEN

        found = self.verdict
        open_question = refined and not found.distinct and (found.alike or found.best is not AS_GIVEN)
        if not open_question or self.misread(lost=False):
            return found
        return replace(found, best=AS_GIVEN, right=found.right and found.best is AS_GIVEN, alike=False)

    @property
    def resumes(self) -> bool:
        """Whether there is a checkpoint to continue from."""
        return self.resume and self.checkpoint is not None and self.checkpoint.exists()

    @property
    def keeps_scale(self) -> bool:
        """Whether the scale of the initial probe is calibrated, so that the result keeps it."""
        return self.scan.probe_calibrated and self.options.probe in ("refine", "fixed")

    def identity(self, probe: NDArray[np.complex64]) -> dict[str, Any]:
        """What must agree for a checkpoint to be resumed: options, and data and network by their SHA-256."""
        scan, digest = self.scan, hashlib.sha256()
        for array in (scan.counts, scan.positions, scan.mask, scan.background, probe):
            digest.update(b"none" if array is None else np.ascontiguousarray(array).data)
        record = self.options.resolved()
        return {
            **{key: value for key, value in record.items() if key not in ("epochs", "stop", "error_bars")},
            "model": None if self.network is None else self.network.digest,
            "patterns": len(scan),
            "size": scan.size,
            "precision": self.execution.precision,
            **({} if scan.read_noise is None else {"read_noise": scan.read_noise}),
            "data_sha256": digest.hexdigest(),
        }
