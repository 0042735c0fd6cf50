"""Objects with slices along the beam: how they are made, and checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.ptycho import validation
from diptych.ptycho.scan import Canvas
from diptych.ptycho.simulate.options import SimulationOptions


@dataclass(frozen=True, eq=False)
class Slices:
    """A thick object.

    Parameters
    ----------
    values : (S, H, W) complex64
        Its slices, in the order in which the beam meets them.
    distance_m : float
        From one to the next, metres.
    """

    values: NDArray[np.complex64]
    distance_m: float


def make_slices(options: SimulationOptions, shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.complex64]:
    """Slices (S, H, W) of one kind of object with different structure, each from a random stream of its own.

    Each is a corner of a larger object, so that the centres of stars differ too. The ranges of modulus and phase in the
    options are those of the product: each slice has the S-th root of the one and the S-th part of the other.
    """
    from diptych.ptycho.simulate.objects import make_object

    count = options.slices
    amplitude = options.amplitude[0] ** (1 / count), options.amplitude[1] ** (1 / count)
    phase = options.phase[0] / count, options.phase[1] / count
    more = [side // 4 for side in shape]
    slices = []
    for i, stream in enumerate(rng.spawn(count)):
        whole = make_object(options.object, (shape[0] + more[0], shape[1] + more[1]), stream, amplitude, phase)
        y, x = (i // 2 + i) % 2 * more[0], i % 2 * more[1]
        slices.append(whole[y : y + shape[0], x : x + shape[1]])
    return np.stack(slices)


def given_slices(value: Any, options: SimulationOptions) -> NDArray[np.complex64]:
    """Your own slices (S, H, W), rounded to the stored precision.

    Raises
    ------
    InputError
        If their number is not that of the options.
    """
    array = validation.numeric(value, "simulate: object", "complex numbers (H, W), or slices (S, H, W)")
    if array.ndim != 3 or len(array) != options.slices:
        raise InputError(
            "simulate: object",
            f"has shape {array.shape} and slices = {options.slices}",
            f"({options.slices}, H, W)" if options.slices > 1 else "(H, W), or the number of slices",
            "Pass slices=... with the length of the first axis, and slice_distance_m=...",
        )
    return array.astype(np.complex64)


def thick(values: NDArray[np.complex64] | None, options: SimulationOptions) -> Slices | None:
    """The slices with their distance; None of a thin object."""
    if values is None or options.slice_distance_m is None:
        return None
    return Slices(values, options.slice_distance_m)


def product(values: NDArray[np.complex64], origin: tuple[int, int] = (0, 0)) -> Canvas:
    """The product of slices (S, H, W), which is the object of a scan of a thick sample."""
    return Canvas(values.prod(0), origin)
