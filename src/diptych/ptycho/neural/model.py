"""A trained network as an object and as one file: safetensors, that is tensors and text, never code.

The file's tensors are ``network.<name>`` for each of the network's and ``probe``, (P, N, N, 2) real and imaginary
parts. Its metadata hold one key, ``diptych``, with JSON: kind, schema, N, c, options, statistics and provenance.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho.io.files import writing
from diptych.ptycho.networks.registry import MULTIPLE, build_network, network_names
from diptych.ptycho.neural.data.patterns import Patterns
from diptych.ptycho.neural.options import InferenceOptions, TrainingOptions
from diptych.ptycho.scan import Reconstruction, Scan
from diptych.runtime.device import ExecutionOptions, choose_device
from diptych.runtime.parallel import shared_out
from diptych.runtime.progress import ProgressCallback
from diptych.runtime.run_directory import plain

if TYPE_CHECKING:
    from torch import Tensor, nn

log = logging.getLogger("diptych")

KIND = "diptych network"
KEY = "diptych"
SCHEMA = 1
SUFFIX = ".safetensors"
PREFIX = "network."


@dataclass(eq=False)
class Model:
    """A trained network and what it needs to know of its training.

    Parameters
    ----------
    network : nn.Module
        The generator; put in evaluation mode.
    options : TrainingOptions
        How it was trained, and what it is.
    size : int
        N of the patterns it was trained on.
    scale : float
        c of its input c sqrt(k / sum |P|^2).
    statistics : dict
        Of the training data (JSON values).
    probe : (P, N, N) complex64
        Start of the probe of the first scan it was trained on.
    provenance : dict
        Versions, seeds, hashes (JSON values).
    """

    network: nn.Module
    options: TrainingOptions
    size: int
    scale: float
    statistics: dict[str, Any]
    probe: NDArray[np.complex64]
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.network.eval()
        # As a file gives them back, whatever numbers they came as.
        self.size, self.scale, self.probe = (
            int(self.size),
            float(self.scale),
            np.ascontiguousarray(self.probe, np.complex64),
        )

    def reconstruct(
        self,
        scan: Scan | Patterns,
        progress: ProgressCallback | None = None,
        *,
        execution: ExecutionOptions | None = None,
        options: InferenceOptions | None = None,
        folder: str | Path | None = None,
        **overrides: Any,
    ) -> Reconstruction:
        """The network's image of a scan, in one pass over its patterns; ``diptych.reconstruct(scan, model)`` goes on
        from there.

        Parameters
        ----------
        scan : Scan or Patterns
            Of any length; N a multiple of 16.
        progress : callable, optional
            Told after each batch.
        execution : ExecutionOptions, optional
            Device and threads; the arithmetic is single precision.
        options : InferenceOptions, optional
            Batch, weights, statistics.
        folder : path, optional
            Where ``log_patch_stats`` writes.
        **overrides
            Single options by name, over those in ``options``.

        Raises
        ------
        InputError
            If an option is wrong, statistics have no folder, or the scan has no probe, fewer patterns than a group, or
            an N that the network cannot take.
        """
        from diptych.ptycho.neural.diagnostics import PatchStatistics
        from diptych.ptycho.neural.inference import infer

        options = (options or InferenceOptions()).with_changes(**overrides)
        if options.log_patch_stats and folder is None:
            raise InputError("log_patch_stats: needs a folder to write to; pass folder=PATH.")
        if scan.size % MULTIPLE:
            raise InputError(
                f"{scan.name}: patterns of {scan.size} px; expected a multiple of {MULTIPLE} px for the network "
                f"{self.options.network}: crop or pad the patterns."
            )
        if scan.size != self.size:
            log.warning(
                "%s has patterns of %d px, and the network was trained on %d px: look twice",
                scan.name,
                scan.size,
                self.size,
            )
        execution = execution or ExecutionOptions()
        device, why = choose_device(execution.device)
        log.info("network %s on %s (%s)", self.options.network, device, why)
        with shared_out(False, execution.threads):
            seen = PatchStatistics(options.patch_stats_limit) if options.log_patch_stats else None
            result = infer(
                self,
                scan,
                device=device,
                batch=options.network_batch,
                weights=options.network_weights,
                progress=progress,
                statistics=seen,
            )
        if seen is not None and folder is not None:
            seen.write(Path(folder))
        return result

    def save(self, path: str | Path) -> Path:
        """Write the model to one file, in a single step; :func:`load_model` reads it back exactly.

        Raises
        ------
        InputError
            If the suffix is not .safetensors, or the folder is not there.
        UnavailableError
            If the file system refuses.
        """
        path = Path(path)
        if path.suffix.lower() != SUFFIX:
            raise InputError(
                f"{path}: a trained model is written as safetensors; expected a name that ends in {SUFFIX}."
            )
        with writing(path) as temporary:
            temporary.write_bytes(self._bytes())
        return path

    @property
    def digest(self) -> str:
        """SHA-256 of the file that :meth:`save` writes, hexadecimal: weights, options and all."""
        return hashlib.sha256(self._bytes()).hexdigest()

    def about(self) -> dict[str, Any]:
        """What a person would ask of the model, as JSON values."""
        return {
            "network": self.options.network,
            "parameters": sum(weights.numel() for weights in self.network.parameters()),
            "size": self.size,
            "scale": self.scale,
            "probe_modes": len(self.probe),
            "options": self.options.model_dump(mode="json"),
            "statistics": plain(self.statistics),
            "provenance": plain(self.provenance),
        }

    def _bytes(self) -> bytes:
        from safetensors.torch import save

        header = {
            "kind": KIND,
            "schema": SCHEMA,
            "size": self.size,
            "scale": self.scale,
            "options": self.options.model_dump(mode="json"),
            "statistics": plain(self.statistics),
            "provenance": plain(self.provenance),
        }
        return save(self._tensors(), {KEY: json.dumps(header, sort_keys=True)})

    def _tensors(self) -> dict[str, Tensor]:
        import torch

        # Each in memory of its own, as the format asks.
        tensors = {
            PREFIX + name: value.detach().cpu().clone().contiguous()
            for name, value in self.network.state_dict().items()
        }
        tensors["probe"] = torch.view_as_real(torch.from_numpy(self.probe)).clone()
        return tensors


def load_model(path: str | Path) -> Model:
    """Read a trained model that :meth:`Model.save` wrote.

    Raises
    ------
    InputError
        If the file is missing or damaged, holds something else, or needs a newer diptych or a network that is not
        registered.

    Examples
    --------
    >>> import diptych
    >>> model = diptych.load_model("runs/a/model.safetensors")  # doctest: +SKIP
    >>> result = diptych.reconstruct(scan, model=model)  # doctest: +SKIP
    """
    path = Path(path)
    tensors, header = _read(path)
    options = TrainingOptions.build(header["options"], origin=f"{path}: options")
    if options.network not in network_names():
        known = ", ".join(network_names())
        raise InputError(
            f"{path}: needs the network {options.network!r}, which is not registered (known: {known}); call "
            "diptych.ptycho.networks.register first."
        )
    probe = tensors.pop("probe", None)
    size = header["size"]
    if probe is None or probe.ndim != 4 or tuple(probe.shape[1:]) != (size, size, 2):
        found = "none" if probe is None else f"shape {tuple(probe.shape)}"
        raise InputError(
            f"{path}: expected the probe as (modes, {size}, {size}, 2) numbers, found {found}; the file is damaged, "
            f"train anew."
        )
    network = _network(path, size, header["scale"], options, tensors)
    values = np.ascontiguousarray(probe.float().numpy()).view(np.complex64)[..., 0]
    return Model(network, options, size, header["scale"], header["statistics"], values, header["provenance"])


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the checked header of a file."""
    from safetensors import SafetensorError, safe_open

    expected = "expected a trained model (.safetensors), as `diptych train` writes it"
    if path.is_dir():
        raise InputError(f"{path}: is a folder; {expected}.")
    if not path.exists():
        raise InputError(f"{path}: there is no such file; the model must be a file, {expected}.")
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            text = (file.metadata() or {}).get(KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()} if text is not None else {}  # noqa: SIM118 (no mapping)
    except SafetensorError as error:
        raise InputError(f"{path}: is no safetensors file, or a damaged one ({error}); {expected}.") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); {expected}.") from None
    if text is None:
        raise InputError(
            f"{path}: is a safetensors file of another program (no {KEY!r} among its metadata); {expected}."
        )
    return tensors, _header(path, text)


def _header(path: Path, text: str) -> dict[str, Any]:
    damaged = "the file is damaged, train anew or take another copy"
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: its header is not valid JSON ({error}); {damaged}.") from None
    if not isinstance(header, dict) or header.get("kind") != KIND:
        kind = header.get("kind") if isinstance(header, dict) else type(header).__name__
        raise InputError(f"{path}: holds {kind!r}; expected a {KIND!r}, as `diptych train` writes it.")
    schema = header.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise InputError(
            f"{path}: was written by a newer diptych (schema {schema}, this one knows {SCHEMA}); update diptych."
        )
    wanted = {"schema": int, "size": int, "scale": float, "options": dict, "statistics": dict, "provenance": dict}
    for key, kind in wanted.items():
        if type(header.get(key)) is not kind:
            raise InputError(
                f"{path}: {key} in its header is {header.get(key)!r:.60}; expected {kind.__name__}; {damaged}."
            )
    if not (math.isfinite(header["scale"]) and header["scale"] > 0 and header["size"] > 0):
        raise InputError(
            f"{path}: size = {header['size']}, scale = {header['scale']} in its header; expected positive numbers; "
            f"{damaged}."
        )
    return header


def _network(path: Path, size: int, scale: float, options: TrainingOptions, tensors: dict[str, Tensor]) -> nn.Module:
    """The network with its weights, after a comparison of names, shapes and types."""
    import torch

    # A fresh network draws weights: nobody else's random numbers should change by that.
    with torch.random.fork_rng(devices=[]):
        network = build_network(size, scale, options)
    wanted = {PREFIX + name: value for name, value in network.state_dict().items()}
    damaged = (
        f"the weights do not belong to the network {options.network} of its header; train anew or take another copy"
    )
    if missing := sorted(wanted.keys() - tensors.keys()):
        raise InputError(f"{path}: lacks {_few(missing)}; {damaged}.")
    if extra := sorted(tensors.keys() - wanted.keys()):
        raise InputError(f"{path}: holds {_few(extra)}, unknown to the network; {damaged}.")
    for name, value in tensors.items():
        found, expected = (f"{tuple(t.shape)} {t.dtype}".replace("torch.", "") for t in (value, wanted[name]))
        if found != expected:
            raise InputError(f"{path}: {name} is {found}; expected {expected}; {damaged}.")
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise InputError(f"{path}: {name} holds values that are not finite; its training diverged: train anew.")
    network.load_state_dict({name.removeprefix(PREFIX): value for name, value in tensors.items()})
    return network


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
