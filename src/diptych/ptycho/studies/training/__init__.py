"""What the studies of trained networks have in common: options, methods, metrics, tables and figures."""

from diptych.ptycho.studies.training.methods import BASELINE, ITERATIVE, Recipe, display, solve
from diptych.ptycho.studies.training.options import TrainingStudyOptions, networks_of
from diptych.ptycho.studies.training.scoring import METRICS, UNITS, keep_images, measure, photons_per_pattern
from diptych.ptycho.studies.training.tables import comparison_tables, image_figures, trained

__all__ = [
    "BASELINE",
    "ITERATIVE",
    "METRICS",
    "UNITS",
    "Recipe",
    "TrainingStudyOptions",
    "comparison_tables",
    "display",
    "image_figures",
    "keep_images",
    "measure",
    "networks_of",
    "photons_per_pattern",
    "solve",
    "trained",
]
