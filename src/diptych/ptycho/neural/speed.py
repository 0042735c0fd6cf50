"""How many patterns per second a network reconstructs, and where the time goes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import nn

from diptych.ptycho.networks.passes import PhysicsPasses
from diptych.ptycho.networks.plain import PlainGenerator
from diptych.ptycho.neural.clock import Clock
from diptych.ptycho.neural.inference import infer
from diptych.runtime.cpu.parallel import shared_out
from diptych.runtime.device import ExecutionOptions, choose_device

if TYPE_CHECKING:
    from diptych.ptycho.neural.model import Model
    from diptych.ptycho.scan import Reconstruction, Scan

LAYERS = "layers"
STAGES = (LAYERS, "physics", "stitching", "canvas", "rest")
"""Layers of the network; what else its passes do (propagation, modulus constraint, average of overlaps, reading);
placing patches and matching their phases; likelihood steps on the whole image; the choice of groups, the probe, the
illumination and the fit."""


@dataclass(frozen=True, eq=False)
class Speed:
    """One reconstruction with the time it took, from the counts in memory to the stitched image and its fit.

    Parameters
    ----------
    result : Reconstruction
        The image.
    patterns_per_second, patterns_per_cpu_second : float
        By the wall clock, and by the seconds of the processor, which do not depend on what else runs on the machine.
    shares : dict of str to float
        Share of each of :data:`STAGES`, 1 in sum: of the processor's seconds, on a GPU of the wall clock's.
    """

    result: Reconstruction
    patterns_per_second: float
    patterns_per_cpu_second: float
    shares: dict[str, float]


def measure_speed(
    model: Model, scan: Scan, *, canvas_passes: int = 0, batch: int = 64, execution: ExecutionOptions | None = None
) -> Speed:
    """Reconstruct a scan with a network alone and measure the time of each stage.

    Parameters
    ----------
    model : Model
        The network.
    scan : Scan
        Its first patterns are reconstructed once before, so that one-time costs are not counted.
    canvas_passes, batch : int
        As for :class:`~diptych.ptycho.neural.options.InferenceOptions`.
    execution : ExecutionOptions, optional
        Device and threads.
    """
    execution = execution or ExecutionOptions()
    device, _ = choose_device(execution.device)
    with shared_out(False, execution.threads):
        infer(model, _first(scan, max(batch, 16)), device=device, batch=batch, canvas_passes=min(canvas_passes, 1))
        clock = Clock(device)
        with _layers_timed(model.network, clock), clock.stage("all"):
            result = infer(model, scan, device=device, batch=batch, canvas_passes=canvas_passes, clock=clock)
    used = clock.seconds if device.type == "cuda" else clock.cpu_seconds
    whole = used["all"]
    passes, named = used["network"], {name: used[name] for name in ("stitching", "canvas")}
    parts = {LAYERS: used[LAYERS], "physics": passes - used[LAYERS], **named}
    parts["rest"] = whole - sum(parts.values())
    return Speed(
        result,
        len(scan) / clock.seconds["all"],
        len(scan) / clock.cpu_seconds["all"],
        {name: parts[name] / whole for name in STAGES},
    )


def _first(scan: Scan, count: int) -> Scan:
    """The first patterns of a scan."""
    mask = scan.mask[:count] if scan.mask is not None and scan.mask.ndim == 3 else scan.mask
    return replace(scan, counts=scan.counts[:count], positions=scan.positions[:count], mask=mask)


@contextmanager
def _layers_timed(network: nn.Module, clock: Clock) -> Iterator[None]:
    """Count the time of a network's layers, without the physics between them."""
    if isinstance(network, PhysicsPasses):
        modules = list(network.passes)
    elif isinstance(network, PlainGenerator):
        modules = [network.network]
    else:
        modules = [network]
    began: list[tuple[float, float]] = []

    def before(module: nn.Module, inputs: Any) -> None:
        began.append(clock.now())

    def after(module: nn.Module, inputs: Any, output: Any) -> None:
        clock.add(LAYERS, began.pop())

    hooks = [each.register_forward_pre_hook(before) for each in modules]
    hooks += [each.register_forward_hook(after) for each in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
