"""Dose and overlap: networks, baseline and iterative results on two disjoint halves of one scan, at several overlaps.

One pipeline: the design (A), checks of the data (B), the scan at each dose with its spatial split (C), views with fewer
patterns and their overlap metrics (D), training (E), iterative reconstruction, ours and given files of Pty-Chi (F),
comparison and aggregation (G).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.errors import InputError
from diptych.ptycho.studies.base import Cell, Check, Estimate, Images, Study
from diptych.ptycho.studies.overlap.generation import SPLITS, View, at_dose, halves, overlap_metrics, part, subsample
from diptych.ptycho.studies.overlap.options import OverlapOptions, grid_of, setting, views
from diptych.ptycho.studies.report import Table, mean_and_deviation
from diptych.ptycho.studies.report_files import finite
from diptych.ptycho.studies.training import (
    BASELINE,
    ITERATIVE,
    METRICS,
    Recipe,
    comparison_tables,
    display,
    image_figures,
    keep_images,
    measure,
    networks_of,
    photons_per_pattern,
    trained,
)
from diptych.ptycho.studies.training.estimates import engine_estimate, training_estimate
from diptych.ptycho.studies.training.options import own_options
from diptych.runtime.device import ExecutionOptions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from diptych.ptycho.scan import Scan

PTYCHI = "PtyChi"
PTYCHI_FILE = "ptychi_reconstruction.npz"
_REPORTED = (
    "overlap_group",
    "overlap_image",
    "overlap_centre",
    "n_images_total",
    "n_images_subsampled",
    "n_unique_images",
    "n_groups_actual",
    "geometry_acceptance_bound",
    "effective_min_acceptance",
    "probe_diameter_px",
)


def cells(options: OverlapOptions) -> list[Cell]:
    """One cell per dose, view, method and repeat; each scores both halves."""
    chosen, networks, out = grid_of(options), networks_of(options), []
    methods: list[tuple[str, str | None]] = [(display(name, networks), name) for name in networks]
    methods += [(BASELINE, None)] if options.baseline else []
    methods += [(ITERATIVE, None)] if options.iterative else []
    methods += [(PTYCHI, None)] if options.ptychi is not None else []
    for dose in sorted(set(chosen.doses)):
        for view in views(options):
            for method, network in methods:
                seeds = range(options.seed, options.seed + (1 if method == PTYCHI else chosen.repeats))
                for seed in seeds:
                    key = f"dose{dose:g}-{view.name}-{network or method}-seed{seed}".replace("_", "-")
                    values = {
                        "dose": float(dose),
                        "view": view.name,
                        "method": method,
                        "network": network,
                        "seed": seed,
                    }
                    out.append(Cell(key, values))
    return out


def run(cell: Cell, options: OverlapOptions, execution: ExecutionOptions, folder: Path) -> dict[str, Any]:
    """Simulate, split, keep what the view keeps, train or reconstruct, and score both halves."""
    method = cell.parameters["method"]
    view = next(view for view in views(options) if view.name == cell.parameters["view"])
    scan, kept, overlaps = prepare(cell, options, view)
    if method in (ITERATIVE, PTYCHI):
        scores = _iterative(cell, options, execution, folder, {split: kept[split] for split in SPLITS})
    else:
        scores = _trained(cell, options, execution, folder, view, scan, kept)
    return {
        "setting": setting(options),
        **overlaps,
        **scores,
        **{f"{split}_photons": photons_per_pattern(kept[split]) for split in SPLITS},
        "windows_shared": _windows_shared(kept),
        "peak_memory_bytes": peak_memory(),
    }


def prepare(cell: Cell, options: OverlapOptions, view: View) -> tuple[dict[str, Scan], dict[str, Scan], dict[str, Any]]:
    """The halves of the scan at the cell's dose, what the view keeps of them, and the overlap metrics of both."""
    whole = at_dose(_base(options), cell.parameters["dose"], options.simulation_seed + cell.parameters["seed"])
    diameter = options.probe_diameter or 0.6 * whole.size
    full: dict[str, Scan] = {}
    kept: dict[str, Scan] = {}
    overlaps: dict[str, Any] = {"photons": photons_per_pattern(whole)}
    for split, index in halves(whole.positions, whole.size).items():
        full[split] = part(whole, index, f"{whole.name}, {split}")
        chosen = subsample(len(index), view.fraction, options.subsampling_seed)
        kept[split] = part(full[split], chosen, f"{whole.name}, {view.name} {split}")
        own = View(view.name, view.fraction, view.groups if split == "train" else None, view.gridsize)
        positions = kept[split].positions
        found = overlap_metrics(positions, len(index), own, diameter, options.neighbours, options.grouping_seed)
        overlaps |= {f"{split}_{name}": value for name, value in found.items()}
    return full, kept, overlaps


def _base(options: OverlapOptions) -> Scan:
    """The scan whose object, probe and positions are used: that of a file, or a simulated one."""
    from diptych.ptycho.io import load_scan
    from diptych.ptycho.simulate import simulate

    if options.base is not None:
        return load_scan(options.base)
    chosen = grid_of(options)
    return simulate(
        object=options.object,
        size=chosen.pattern_size,
        patterns=chosen.patterns,
        step=chosen.step,
        seed=options.simulation_seed,
    )


def _trained(
    cell: Cell,
    options: OverlapOptions,
    execution: ExecutionOptions,
    folder: Path,
    view: View,
    full: Mapping[str, Scan],
    kept: Mapping[str, Scan],
) -> dict[str, Any]:
    """Train on the first half (the baseline on all of it, the network on its view) and score both."""
    from diptych.ptycho.studies.training.methods import apply_model, train_model

    network, seed = cell.parameters["network"], cell.parameters["seed"]
    recipe = Recipe(
        network,
        own_options(options, network or "cnn"),
        {
            "epochs": grid_of(options).epochs,
            "seed": options.grouping_seed + seed,
            "gridsize": view.gridsize,
            "n_groups": view.groups,
            "neighbours": options.neighbours if view.gridsize > 1 else None,
            "oversample": (view.groups or 0) > len(kept["train"]),
        },
    )
    model, facts = train_model(recipe, [full["train"] if network is None else kept["train"]], execution, folder)
    scores: dict[str, Any] = dict(facts)
    for split in SPLITS:
        result, more = apply_model(model, kept[split], execution)
        scores |= {f"{split}_{name}": value for name, value in measure(result, kept[split]).items()}
        scores |= more if split == "test" else {}
        keep_images(folder / split, result, kept[split])
    return scores


def _iterative(
    cell: Cell, options: OverlapOptions, execution: ExecutionOptions, folder: Path, kept: Mapping[str, Scan]
) -> dict[str, Any]:
    """Reconstruct both halves with the engine, or read what Pty-Chi made of them."""
    from diptych.ptycho.studies.training.methods import iterate

    scores: dict[str, Any] = {}
    for split in SPLITS:
        result: Any
        facts: dict[str, Any] = {}
        if cell.parameters["method"] == PTYCHI:
            result = given_result(options, cell.parameters["dose"], cell.parameters["view"], split)
        else:
            result, facts = iterate(kept[split], execution, seed=cell.parameters["seed"])
        scores |= {f"{split}_{name}": value for name, value in measure(result, kept[split]).items()}
        scores |= facts if split == "test" else {}
        keep_images(folder / split, result, kept[split])
    return scores


def given_result(options: OverlapOptions, dose: float, view: str, split: str) -> Any:
    """The Pty-Chi result of one dose, view and half.

    Raises
    ------
    InputError
        If there is no such file in the folder, or it holds no object.
    """
    from diptych.ptycho.io import load_object

    assert options.ptychi is not None
    path = Path(options.ptychi) / f"dose_{dose:g}" / view / split / PTYCHI_FILE
    if not path.is_file():
        # 1e5 is written as 100000 by others, and as 1e+05 by the short form.
        path = Path(options.ptychi) / f"dose_{dose:.0f}" / view / split / PTYCHI_FILE
    if not path.is_file():
        raise InputError(path, "does not exist", "a result of Pty-Chi", "Put it there, or leave ptychi out.")
    return load_object(path)


def peak_memory() -> int | None:
    """Largest resident memory of this process so far, bytes; None where the system does not tell."""
    try:
        import resource
    except ImportError:
        return None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(used if sys.platform == "darwin" else used * 1024)


def _windows_shared(kept: Mapping[str, Scan]) -> int:
    """Rows of the object that windows of both halves cover: 0 for disjoint halves."""
    first, second = (kept[split].positions[:, 0] for split in SPLITS)
    size = kept["train"].size
    return max(0, int(first.max() + size - second.min()) if first.max() + size > second.min() else 0)


def estimate(cell: Cell, options: OverlapOptions) -> Estimate:
    """From the number of patterns."""
    chosen = grid_of(options)
    view = next(view for view in views(options) if view.name == cell.parameters["view"])
    half = int(chosen.patterns * 0.4)
    if cell.parameters["method"] in (ITERATIVE, PTYCHI):
        made = engine_estimate(2 * int(half * view.fraction), chosen.pattern_size)
        return Estimate(made.seconds, made.memory_bytes + 8 * chosen.patterns * chosen.pattern_size**2)
    baseline = cell.parameters["network"] is None
    return training_estimate(
        options.size,
        cell.parameters.get("network"),
        patterns=half if baseline else view.groups or half,
        pattern_size=chosen.pattern_size,
        epochs=chosen.epochs,
        members=1 if baseline else view.gridsize**2,
        test_patterns=chosen.patterns,
    )


def by_split(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per half of each cell, with the metrics of that half."""
    out = []
    for row in rows:
        for split in SPLITS:
            own = {name: row.get(f"{split}_{name}") for name in (*METRICS, "undefined")}
            same = {name: row[name] for name in ("setting", "dose", "view", "method", "seed")}
            out.append({**same, "split": split, **own})
    return out


def tables(rows: Sequence[Mapping[str, Any]], options: OverlapOptions) -> list[Table]:
    """The comparison per dose, view and half, the overlap metrics, and the aggregate over all cases."""
    lines = by_split(rows)
    made = comparison_tables(lines, ("setting", "dose", "view", "split"), references=(BASELINE, ITERATIVE, PTYCHI))
    first: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        for split in SPLITS:
            line = {"dose": row["dose"], "view": row["view"], "split": split}
            line |= {name: row[f"{split}_{name}"] for name in _REPORTED}
            first.setdefault((row["dose"], row["view"], split), line)
    title = "Overlap of the illuminated discs: in groups (1), of images (2), of group centres (3); bounds are no gate"
    whole = mean_and_deviation(lines, ("method", "split"), METRICS)
    return [
        *made,
        Table("overlap", title, list(first.values()), {"probe_diameter_px": "px"}),
        Table("aggregate", "Mean over doses, views and repeats", whole),
    ]


def plot(made: Sequence[Table], options: OverlapOptions) -> Figure:
    """Error and SSIM on the test half against dose, one curve per method and view."""
    from diptych.ptycho.figures.studies import Panel, plot_curves

    rows = [{**row, "curve": f"{row['method']}, {row['view']}"} for row in made[0].rows if row["split"] == "test"]
    panels = (
        Panel("complex_error", "relative complex error", log=True),
        Panel("phase_ms_ssim_ptychopinn", "phase MS-SSIM"),
        Panel("phase_mae_ptychopinn", "phase MAE (rad)", log=True),
    )
    title = f"Dose and overlap ({setting(options)}), test half, {options.size}: mean over repeats"
    return plot_curves(rows, "dose", panels, by="curve", xlabel="photons per pattern", title=title)


def figures(
    rows: Sequence[Mapping[str, Any]], options: OverlapOptions, folder_of: Callable[[Mapping[str, Any]], Path]
) -> Images:
    """Images of the test half by every method, one figure per dose and view."""
    return image_figures(rows, lambda row: folder_of(row) / "test", ("dose", "view"))


def checks(rows: Sequence[Mapping[str, Any]], options: OverlapOptions) -> list[Check]:
    """Disjoint halves, the same data for all methods, monotonic overlap, numbers everywhere, memory."""
    shared = max(row["windows_shared"] for row in rows)
    counts = {(row["dose"], row["view"], row["seed"], row["test_n_images_subsampled"]) for row in rows}
    cases = {(row["dose"], row["view"], row["seed"]) for row in rows}
    by_view = {row["view"]: row["train_overlap_image"] for row in rows}
    ordered = options.dense <= options.sparse or by_view.get("dense", 1) >= by_view.get("sparse", 0)
    memory = [row["peak_memory_bytes"] for row in rows if row["peak_memory_bytes"] is not None]
    worst = max(abs(row["photons"] / row["dose"] - 1) for row in rows)
    floor = all(row["test_effective_min_acceptance"] >= row["test_geometry_acceptance_bound"] for row in rows)
    return [
        finite(by_split(rows), ("complex_error", "amplitude_mae_ptychopinn", "phase_mae_ptychopinn")),
        Check("no window of one half covers a pixel of the other", shared == 0, f"{shared} rows shared"),
        Check("every method saw the same patterns", len(counts) == len(cases), f"{len(cases)} cases"),
        Check("the denser view overlaps more", ordered, ", ".join(f"{k} {v:.3f}" for k, v in by_view.items())),
        Check("every acceptance floor is at least its geometry bound", floor, f"{len(rows)} cells"),
        Check(
            "photons of the whole scan are the dose within 2 %",
            worst < 0.02,
            f"{100 * worst:.2g} % off at most",
        ),
        Check("peak memory is below 8 GB", max(memory, default=0) < 8e9, f"{max(memory, default=0) / 1e9:.2f} GB"),
        trained(rows),
    ]


STUDY = Study(
    name="overlap",
    help="Dose and overlap: networks, baseline and iterative results on disjoint halves of a scan.",
    options=OverlapOptions,
    cells=cells,
    run=run,
    estimate=estimate,
    tables=tables,
    plot=plot,
    keeps=True,
    figures=figures,
    checks=checks,
)
