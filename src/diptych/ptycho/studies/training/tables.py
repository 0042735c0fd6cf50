"""Tables and figures of a comparison of methods: means over repeats, differences, the grid of SSIM, images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.ptycho.studies.base import Check
from diptych.ptycho.studies.report import Row, Table, mean_and_deviation
from diptych.ptycho.studies.report_files import deltas, ssim_grid
from diptych.ptycho.studies.training.methods import BASELINE, ITERATIVE
from diptych.ptycho.studies.training.scoring import IMAGES, METRICS, PUBLISHED, UNITS, kept_images

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SSIM = ("amplitude_ssim_ptychopinn", "phase_ssim_ptychopinn")
CONVENTION = "keys ending in _ptychopinn follow the definitions of the published tables"


def comparison_tables(
    rows: Sequence[Row],
    by: Sequence[str],
    *,
    references: Sequence[str] = (BASELINE, ITERATIVE),
    values: Sequence[str] = METRICS,
    extra: Sequence[str] = (),
) -> list[Table]:
    """Means over repeats, differences from the reference methods, and the grid of SSIM.

    Parameters
    ----------
    rows : sequence of mapping
        With the columns ``by``, ``method`` and ``values``.
    by : sequence of str
        Columns that define a case.
    references : sequence of str
        Methods that the others are compared with.
    values, extra : sequence of str
        Metrics, and further columns of the first table.
    """
    means = mean_and_deviation(rows, (*by, "method"), (*values, *extra))
    out = [Table("metrics", f"Mean and standard deviation over repeats; {CONVENTION}", means, UNITS)]
    differences = deltas(means, by, references, values)
    if differences:
        title = "Difference from the baseline and from the iterative result (SSIM: higher is better; errors: lower)"
        out.append(Table("deltas", title, differences, UNITS))
    if all(name in PUBLISHED or name not in _SSIM for name in values) and set(_SSIM) <= set(values):
        out.append(Table("ssim-grid", "SSIM of amplitude and phase by method", ssim_grid(means, by, _SSIM)))
    return out


def image_figures(
    rows: Sequence[Row],
    folder_of: Callable[[Mapping[str, Any]], Path],
    by: Sequence[str],
    seed: str | None = "seed",
) -> dict[str, Callable[[], Figure]]:
    """One figure per case: amplitude and phase of the truth and of every method, for the first repeat."""
    cases: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        cases.setdefault(tuple(row[name] for name in by), []).append(row)
    figures: dict[str, Callable[[], Figure]] = {}
    for case, members in cases.items():
        first = min((row[seed] for row in members), default=0) if seed else None
        shown = {str(row["method"]): folder_of(row) for row in members if seed is None or row[seed] == first}
        shown = {name: folder for name, folder in shown.items() if (folder / IMAGES).is_file()}
        if shown:
            name = "-".join(_text(value) for value in case) or "images"
            figures[f"images-{name}"] = _drawing(shown, ", ".join(map(str, case)))
    return figures


def trained(rows: Sequence[Row]) -> Check:
    """The check that the loss of every training fell below that of epoch 1: of validation, of training with labels."""
    lost = [row for row in rows if row.get("loss_first") is not None]
    wrong = [f"{row['method']} seed {row['seed']}" for row in lost if not row["loss_best"] < row["loss_first"]]
    return Check("the loss of every training fell", not wrong, ", ".join(wrong) or f"{len(lost)} trainings")


def _drawing(folders: Mapping[str, Path], title: str) -> Callable[[], Figure]:
    def draw() -> Figure:
        from diptych.ptycho.figures.studies import plot_images

        images = {name: kept_images(folder) for name, folder in folders.items()}
        truth = next(iter(images.values()))["truth"]
        return plot_images(truth, {name: (each["result"], each["truth"]) for name, each in images.items()}, title)

    return draw


def _text(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return "".join(c if c.isalnum() or c in ".+" else "-" for c in text)
