"""The photon limit: which error and which resolution a scan allows, and whether error bars hold."""

from diptych.ptycho.evaluate.limit.options import BoundOptions
from diptych.ptycho.evaluate.limit.photon_limit import bound
from diptych.ptycho.evaluate.limit.result import Limit

__all__ = ["BoundOptions", "Limit", "bound"]
