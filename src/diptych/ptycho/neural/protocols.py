"""What callers pass in to training and diagnostics: figures, which are made in a room above, and a cancel token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor


class CancelToken(Protocol):
    """Tells a running job to stop (:class:`diptych.runtime.interrupts.Cancel`, or any object with this attribute)."""

    @property
    def requested(self) -> bool:
        """True once the job shall stop."""
        ...


class NetworkFigures(Protocol):
    """Draws patches, groups and loss curves (:class:`diptych.ptycho.figures.network.Figures`).

    It is sent to other processes when training runs on several devices, so it must be picklable.
    """

    def patches(self, patches: Sequence[NDArray[Any]] | NDArray[Any], titles: Sequence[str]) -> Figure:
        """Amplitudes and phases of patches, n of (N, N) complex."""
        ...

    def group(
        self,
        counts: Tensor,
        predicted: Tensor,
        patches: Tensor,
        merged: Tensor,
        valid: Tensor | None = None,
        light: Tensor | None = None,
    ) -> Figure:
        """One group of C members, (C, N, N) each: counts, predicted counts, patches before and after merging, valid
        pixels of the patterns, illumination of the patches.
        """
        ...

    def losses(self, history: Mapping[str, Sequence[float]], best_epoch: int) -> Figure:
        """Training and validation loss of each epoch."""
        ...
