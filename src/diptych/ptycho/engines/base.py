"""What an engine is, and the registry of engines. Imports no torch, so that flags and forms are built quickly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from diptych.runtime.registry import Extension, Registry

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from diptych.ptycho.engines.modes.choice import ModeChoice
    from diptych.ptycho.engines.problem import Problem
    from diptych.runtime.progress import ProgressCallback

FINAL_STAGE = 3.0
"""Number of the last stage in the history column ``stage`` of an engine with several; only there the stop rule acts."""


class Engine(Protocol):
    """An iterative algorithm, advanced epoch by epoch; see :class:`diptych.ptycho.engines.pie.Pie` for an example."""

    @property
    def image(self) -> Tensor:
        """The current object, (H, W) complex."""

    @property
    def probe(self) -> Tensor:
        """The current probe modes, (P, N, N) complex."""

    @property
    def patience(self) -> int | None:
        """Epochs without improvement of the held-out fit before stopping; None for an engine that detects convergence
        itself (:attr:`settled`).
        """

    @property
    def most_epochs(self) -> int:
        """Epochs after which to stop, unless the user set a number."""

    @property
    def settled(self) -> str:
        """Why the engine has converged, or an empty string."""

    def snapshot(self) -> tuple[Tensor, ...]:
        """Current object and probe, and what else the engine refines; no later epoch writes to these tensors."""

    def epoch(self) -> dict[str, float]:
        """One pass over the scan; returns at least ``fit`` and ``held_out_fit``."""

    def state(self) -> dict[str, Tensor]:
        """Tensors from which :meth:`restore` continues with the same numbers."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from an earlier :meth:`state`."""


@dataclass(frozen=True, eq=False)
class EngineInput:
    """What an engine is built from, beside its options.

    Parameters
    ----------
    problem : Problem
        Counts and forward model.
    image : (H, W) complex tensor
        Initial object.
    probe : (P, N, N) complex tensor
        Initial probe modes.
    refine_probe : bool
        False: the probe is kept as it is.
    rng : numpy Generator
        For whatever is random.
    fit : float, optional
        Held-out fit of ``image`` under ``probe``, where ``image`` is a trained network's; None for any other.
    flat_probe : (P, N, N) complex tensor, optional
        Initial probe modes for a flat object, where they differ from ``probe``.
    progress : callable, optional
        For messages before the first epoch.
    test_factors : bool
        Whether to find out if a factor for each frame is needed.
    positions : str
        Whether positions are refined: ``on``, ``off``, or ``auto`` where a test says that they are wrong.
    misread : callable, optional
        Why the scan must be read in another way, or an empty string; asked before positions are refined by ``auto``,
        and told whether that is the last resort.
    modes : ModeChoice, optional
        Whether and how more probe modes are tried; without it, they are not.
    scan_probe : (P, N, N) complex tensor, optional
        Initial probe modes of the scan, where short trials may have refocused them: wrong positions mislead these.
    """

    problem: Problem
    image: Tensor
    probe: Tensor
    refine_probe: bool
    rng: np.random.Generator
    fit: float | None = None
    flat_probe: Tensor | None = None
    progress: ProgressCallback | None = None
    test_factors: bool = False
    positions: str = "off"
    misread: Callable[[bool], str] | None = None
    modes: ModeChoice | None = None
    scan_probe: Tensor | None = None

    @property
    def first_probes(self) -> tuple[Tensor, ...]:
        """Initial probes (P, N, N) that may be right: that of the scan, and the one to start from."""
        other = self.scan_probe
        return (self.probe,) if other is None or other.equal(self.probe) else (other, self.probe)


@dataclass(frozen=True)
class EngineExtension(Extension):
    """An engine by name.

    Parameters
    ----------
    build : callable or None
        From an :class:`EngineInput` and the engine's options to an :class:`Engine`. None: no iterations, the image of
        the trained network is the result.
    algorithm : str
        Name in progress reports and results; the extension's own name where empty.
    refocus : bool
        Whether short trials test the initial probe, and refocus it where it is far out of focus.
    """

    build: Callable[[EngineInput, Any], Engine] | None = None
    algorithm: str = ""
    refocus: bool = False

    @property
    def title(self) -> str:
        """Name of the algorithm in progress reports and results."""
        return self.algorithm or self.name


ENGINES: Registry[EngineExtension] = Registry(
    "engine",
    "diptych.engines",
    EngineExtension,
    {
        "auto": "diptych.ptycho.engines.builtin:AUTO",
        "ml": "diptych.ptycho.engines.builtin:ML",
        "rpie": "diptych.ptycho.engines.builtin:RPIE",
        "epie": "diptych.ptycho.engines.builtin:EPIE",
        "dm": "diptych.ptycho.engines.builtin:DM",
        "raar": "diptych.ptycho.engines.builtin:RAAR",
        "network": "diptych.ptycho.engines.builtin:NETWORK",
    },
)
"""All engines: built in, registered, or offered by installed packages."""
