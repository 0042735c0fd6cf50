"""The ratio of cavity to prior variance, reckoned anew at a growing series of lengths of the record.

Like the widths (see :mod:`evidence`), it is a function of the judgements and of their order alone.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from diptych.prefer.utility.evidence import fingerprint
from diptych.prefer.utility.gram import Gram
from diptych.prefer.utility.laplace import Plain
from diptych.prefer.utility.likelihood import Predictors
from diptych.prefer.utility.prior import Contrasted, Prior, Widths
from diptych.prefer.utility.propagation import cavity_share

Array = NDArray[np.float64]

STEPS = 12
"""Lengths per doubling."""


def stage(count: int) -> int:
    """The last length of the series that is not above ``count``."""
    step = math.floor(STEPS * math.log2(count))
    lengths = (math.floor(2 ** (place / STEPS)) for place in (step + 1, step))
    return next(length for length in lengths if length <= count)


class Shares:
    """Remembers the ratio while the statements up to the last stage stay the same.

    Attributes
    ----------
    alpha : (k,)
        Where the fit stood with which the ratio was found, that to the statements up to the last stage: near the one to all.
    """

    def __init__(self) -> None:
        self.alpha = np.zeros(0)
        self._key = b""
        self._share = math.nan

    def share(self, gram: Gram, given: Predictors, widths: Widths, start: Array, dense: int) -> float:
        """The ratio for these statements; conjugate gradients find it from ``start`` (m,) where there are more than ``dense``."""
        part = given.first(stage(len(given)))
        key = fingerprint(part, gram.marks) + repr(widths).encode()
        if key != self._key:
            prior = Prior(Contrasted(gram, part), part, widths)
            plain = Plain(part, *prior.limits())
            self._share, self.alpha = cavity_share(prior, plain, prior.diagonal(), start[: len(part)], iterative=len(part) > dense)
            self._key = key
        return self._share
