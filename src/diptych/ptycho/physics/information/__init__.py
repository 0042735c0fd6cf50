"""Fisher information of a scan: operator, free directions, inverse."""

from diptych.ptycho.physics.information.curvature import Curvature, Point, Variances
from diptych.ptycho.physics.information.gauges import Projection, free_fields, raster_classes
from diptych.ptycho.physics.information.inverse import Solution, conjugate_gradients, signs
from diptych.ptycho.physics.information.operator import Information, Part, Refined

__all__ = [
    "Curvature",
    "Information",
    "Part",
    "Point",
    "Projection",
    "Refined",
    "Solution",
    "Variances",
    "conjugate_gradients",
    "free_fields",
    "raster_classes",
    "signs",
]
