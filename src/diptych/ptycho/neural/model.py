"""A trained network, and its model file: safetensors, which holds tensors and text and no code.

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

from diptych.errors import InputError, UnavailableError
from diptych.ptycho.io.files import writing
from diptych.ptycho.networks import NETWORKS, build_network, check_size
from diptych.ptycho.neural.data.patterns import Patterns
from diptych.ptycho.neural.options import InferenceOptions, TrainingOptions
from diptych.ptycho.scan import Reconstruction, Scan
from diptych.runtime.cpu.parallel import shared_out
from diptych.runtime.device import ExecutionOptions, choose_device
from diptych.runtime.files import needs
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

MODEL_FILE = "a trained model (.safetensors), as `diptych train` writes it"
DAMAGED = "The file is damaged; use another copy, or train again."


@dataclass(eq=False)
class Model:
    """A trained network with its options and the provenance of its training.

    Parameters
    ----------
    network : nn.Module
        The generator; it is set to evaluation mode.
    options : TrainingOptions
        The network and its training.
    size : int
        N of the patterns it was trained on.
    scale : float
        c of the network input c sqrt(k / sum |P|^2).
    statistics : dict
        Of the training data (JSON values).
    probe : (P, N, N) complex64
        Probe of the first training scan.
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
        # The types that reading a model file returns.
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
        """Predict the object of a scan; ``diptych.reconstruct(scan, model)`` refines this prediction iteratively.

        Parameters
        ----------
        scan : Scan or Patterns
            Any number of patterns; N as the network accepts it.
        progress : callable, optional
            Called after each batch.
        execution : ExecutionOptions, optional
            Device and threads; computations are in single precision.
        options : InferenceOptions, optional
            Batch, weights, statistics.
        folder : path, optional
            Where the output of ``log_patch_stats`` is written.
        **overrides
            Single options by name; they take precedence over ``options``.

        Raises
        ------
        InputError
            If an option is wrong, ``log_patch_stats`` is set without ``folder``, or the scan has no probe, fewer
            patterns than a group, or an N that the network does not accept.
        """
        from diptych.ptycho.neural.diagnostics import PatchStatistics
        from diptych.ptycho.neural.inference import infer

        options = (options or InferenceOptions()).with_changes(**overrides)
        if options.log_patch_stats and folder is None:
            raise InputError("log_patch_stats", "there is no folder to write to", remedy="Pass folder=PATH.")
        check_size(self.options, scan.size, scan.name)
        if scan.size != self.size:
            log.warning(
                "%s has patterns of %d px, but the network was trained on %d px; check the result",
                scan.name,
                scan.size,
                self.size,
            )
        execution = execution or ExecutionOptions()
        device, why = choose_device(execution.device)
        log.info("network %s on %s (%s)", self.options.network, device, why)
        with shared_out(False, execution.threads):
            statistics = PatchStatistics(options.patch_stats_limit) if options.log_patch_stats else None
            result = infer(
                self,
                scan,
                device=device,
                batch=options.network_batch,
                weights=options.network_weights,
                canvas_passes=options.canvas_passes,
                prior=options.network_prior,
                progress=progress,
                statistics=statistics,
            )
        if statistics is not None and folder is not None:
            statistics.write(Path(folder))
        return result

    def save(self, path: str | Path) -> Path:
        """Write a model file in one step; :func:`load_model` reads it back exactly.

        Raises
        ------
        InputError
            If the suffix is not .safetensors, or the folder does not exist.
        UnavailableError
            If the file cannot be written; the message names the bytes that are needed.
        """
        path = Path(path)
        if path.suffix.lower() != SUFFIX:
            raise InputError(path, f"the suffix is {path.suffix!r}", f"a model file with the suffix {SUFFIX}")
        content = self._bytes()
        try:
            with writing(path) as temporary:
                temporary.write_bytes(content)
        except UnavailableError as error:
            raise UnavailableError(f"{str(error).rstrip('.')}: {needs(path, len(content))}.") from error.__cause__
        return path

    @property
    def digest(self) -> str:
        """SHA-256 of the file that :meth:`save` writes, hexadecimal."""
        return hashlib.sha256(self._bytes()).hexdigest()

    def about(self) -> dict[str, Any]:
        """Network, size, options, statistics and provenance, as JSON values."""
        return {
            "network": self.options.network,
            "parameters": sum(weights.numel() for weights in self.network.parameters()),
            "size": self.size,
            "scale": self.scale,
            "probe_modes": len(self.probe),
            "options": self.options.resolved(),
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
            "options": self.options.resolved(),
            "statistics": plain(self.statistics),
            "provenance": plain(self.provenance),
        }
        return save(self._tensors(), {KEY: json.dumps(header, sort_keys=True)})

    def _tensors(self) -> dict[str, Tensor]:
        import torch

        # The format does not allow tensors that share memory.
        tensors = {
            PREFIX + name: value.detach().cpu().clone().contiguous()
            for name, value in self.network.state_dict().items()
        }
        tensors["probe"] = torch.view_as_real(torch.from_numpy(self.probe)).clone()
        return tensors


def load_model(path: str | Path) -> Model:
    """Read a model file that :meth:`Model.save` wrote.

    Parameters
    ----------
    path : path-like
        A .safetensors file.

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
    name = header["options"].get("network", TrainingOptions().network)
    if name not in NETWORKS:
        raise InputError(
            path,
            f"needs the network {name!r}, which is not registered",
            f"one of {', '.join(NETWORKS.names())}",
            "Install the package that offers it, or call diptych.ptycho.networks.NETWORKS.register first.",
        )
    options = TrainingOptions.build(header["options"], origin=f"{path}: options")
    probe = tensors.pop("probe", None)
    size = header["size"]
    if probe is None or probe.ndim != 4 or tuple(probe.shape[1:]) != (size, size, 2):
        found = "there is none" if probe is None else f"has shape {tuple(probe.shape)}"
        raise InputError(f"{path}: probe", found, f"(modes, {size}, {size}, 2) numbers", DAMAGED)
    network = _network(path, size, header["scale"], options, tensors)
    values = np.ascontiguousarray(probe.float().numpy()).view(np.complex64)[..., 0]
    return Model(network, options, size, header["scale"], header["statistics"], values, header["provenance"])


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the checked header of a file."""
    from safetensors import SafetensorError, safe_open

    if path.is_dir():
        raise InputError(path, "is a folder", MODEL_FILE)
    if not path.exists():
        raise InputError(path, "does not exist", MODEL_FILE)
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            text = (file.metadata() or {}).get(KEY)
            names = list(file.keys()) if text is not None else []
            tensors = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise InputError(path, f"is not a safetensors file, or is damaged ({error})", MODEL_FILE) from None
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror or error})", MODEL_FILE) from None
    if text is None:
        raise InputError(path, f"is a safetensors file of another program ({KEY!r} is not in its metadata)", MODEL_FILE)
    return tensors, _header(path, text)


def _header(path: Path, text: str) -> dict[str, Any]:
    where = f"{path}: header"
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(where, f"is not valid JSON ({error})", remedy=DAMAGED) from None
    if not isinstance(header, dict) or header.get("kind") != KIND:
        kind = header.get("kind") if isinstance(header, dict) else type(header).__name__
        raise InputError(path, f"holds {kind!r}", f"{KIND!r}, as `diptych train` writes it")
    schema = header.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise InputError(
            path, f"was written by a newer diptych (schema {schema})", f"schema {SCHEMA} or older", "Update diptych."
        )
    wanted = {"schema": int, "size": int, "scale": float, "options": dict, "statistics": dict, "provenance": dict}
    for key, kind in wanted.items():
        if type(header.get(key)) is not kind:
            raise InputError(where, f"{key} is {header.get(key)!r:.60}", kind.__name__, DAMAGED)
    if not (math.isfinite(header["scale"]) and header["scale"] > 0 and header["size"] > 0):
        found = f"size = {header['size']}, scale = {header['scale']}"
        raise InputError(where, found, "positive numbers", DAMAGED)
    return header


def _network(path: Path, size: int, scale: float, options: TrainingOptions, tensors: dict[str, Tensor]) -> nn.Module:
    """The network with its weights, after a comparison of names, shapes and types."""
    import torch

    # Building a network draws random weights; the caller's random state is kept.
    with torch.random.fork_rng(devices=[]):
        network = build_network(size, scale, options)
    wanted = {PREFIX + name: value for name, value in network.state_dict().items()}
    expected = f"the weights of the network {options.network} with the options in the header"
    if missing := sorted(wanted.keys() - tensors.keys()):
        raise InputError(path, f"lacks {_few(missing)}", expected, DAMAGED)
    if extra := sorted(tensors.keys() - wanted.keys()):
        raise InputError(path, f"also holds {_few(extra)}", expected, DAMAGED)
    for name, value in tensors.items():
        found, right = (f"{tuple(t.shape)} {t.dtype}".replace("torch.", "") for t in (value, wanted[name]))
        if found != right:
            raise InputError(f"{path}: {name}", f"is {found}", right, DAMAGED)
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise InputError(f"{path}: {name}", "has values that are not finite", remedy="Train again.")
    network.load_state_dict({name.removeprefix(PREFIX): value for name, value in tensors.items()})
    return network


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
