"""Processes that a program forks (``multiprocessing`` with its start method "fork"): torch has one thread there.

The worker threads of OpenMP and MKL do not survive a fork, but their library believes that they do: the first operation
that is shared out in the child would wait for them for ever. With one thread nothing is shared out. A CUDA context does
not survive either. The start methods "spawn" and "forkserver" have neither limit.
"""

from __future__ import annotations

import os
import sys

_forked = False
_used_cuda = False
"""Whether this process, or the one that it was forked from, used CUDA at the last fork."""


def forked() -> bool:
    """Whether this process was forked from one that had loaded torch."""
    return _forked


def cuda_lost() -> bool:
    """Whether this process was forked from one that used CUDA, so that it cannot use it itself."""
    return _forked and _used_cuda


def _in_child() -> None:
    global _forked
    torch = sys.modules.get("torch")
    # A fork during the import of torch finds a module that is not complete.
    if torch is None or not hasattr(torch, "set_num_threads"):
        return
    _forked = True
    torch.set_num_threads(1)


def _before() -> None:
    global _used_cuda
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    _used_cuda = _used_cuda or bool(cuda is not None and cuda.is_initialized())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_child=_in_child)
