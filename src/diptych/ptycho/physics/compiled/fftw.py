"""FFTW for compiled code: plans of single N x N waves, in place, and the symbol under which code finds their execution.

pyFFTW brings the library. Its own objects can be called from Python only, one at a time and thread.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache

import numpy as np
import pyfftw
from llvmlite import binding
from numpy.typing import NDArray

SYMBOL = "diptych_fftwf_execute_dft"
_FORWARD, _BACKWARD, _ESTIMATE = -1, 1, 64

try:
    _library = ctypes.CDLL(pyfftw.pyfftw.__file__)
    _library.fftwf_make_planner_thread_safe()
    _library.fftwf_plan_dft_2d.restype = ctypes.c_void_p
    _library.fftwf_plan_dft_2d.argtypes = [
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_int,
        ctypes.c_uint,
    ]
    binding.add_symbol(SYMBOL, ctypes.cast(_library.fftwf_execute_dft, ctypes.c_void_p).value)
except (AttributeError, OSError) as error:
    # As on Windows, where the functions of the library cannot be reached through pyFFTW.
    raise ImportError(f"pyFFTW does not show the functions of FFTW: {error}") from None


@lru_cache(maxsize=64)
def plans(size: int) -> tuple[int, int]:
    """Addresses of the plans of a forward and a backward FFT of ``size`` x ``size``, unscaled, in place."""
    wave = aligned(size, size)
    return tuple(
        int(_library.fftwf_plan_dft_2d(size, size, wave.ctypes.data, wave.ctypes.data, sign, _ESTIMATE))
        for sign in (_FORWARD, _BACKWARD)
    )  # type: ignore[return-value]


def aligned(*shape: int) -> NDArray[np.complex64]:
    """New complex64 memory, aligned as the plans expect."""
    made: NDArray[np.complex64] = pyfftw.empty_aligned(shape, np.complex64, n=64)
    return made
