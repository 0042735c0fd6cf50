"""``info``, ``check``, ``fetch``, ``simulate``, ``prepare``, ``convert``, ``validate``: files and scans."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from diptych.cli.console import progress_bars
from diptych.cli.generate import flag, verb
from diptych.cli.output import Report, Verbatim, rows_table, table
from diptych.errors import InputError, on_one_line
from diptych.ptycho.io import LoadOptions
from diptych.ptycho.io.exchange.standards import StandardName
from diptych.ptycho.io.tree import tree_text
from diptych.ptycho.prepare.preparation_options import PrepareOptions
from diptych.ptycho.simulate import SimulationOptions
from diptych.runtime.files import check_output
from diptych.runtime.option_fields import Choices

if TYPE_CHECKING:
    from rich.console import RenderableType

    from diptych.ptycho.scan import Scan

Overwrite = Annotated[bool, Parameter(help="Replace files of an earlier call.", negative=())]

READING = ("orientation", "corner_centred", "move_y", "move_x", "swap_xy", "flip_y", "flip_x", "rotation")
"""Options of ``load`` that ``check`` varies."""


@verb(LoadOptions)
def info(
    file: Annotated[Path, Parameter(help="A scan, a result, a trained network, or any NPZ or HDF5 file.")],
    /,
    *,
    figure: Annotated[Path | None, Parameter(help="Also draw it, to this PNG.")] = None,
    tree: Annotated[bool, Parameter(help="Show the file's datasets as a tree.", negative=())] = False,
    layout_template: Annotated[
        Path | None, Parameter(help="Write a description of the file's arrays to fill in, for --layout (.yaml).")
    ] = None,
    overwrite: Overwrite = False,
    choices: Choices,
) -> Report:
    """Describe a file; draw it when asked."""
    from diptych.ptycho.describe import describe_file

    options = choices[LoadOptions]
    if figure is not None:
        check_output(figure, (".png",), overwrite=overwrite, option="--figure")
    if layout_template is not None:
        check_output(layout_template, (".yaml", ".yml"), overwrite=overwrite, option="--layout-template")
    data = describe_file(file, options)
    if layout_template is not None:
        from diptych.ptycho.io.layouts.write import write_template

        data["layout_template"] = str(write_template(file, layout_template))
    if tree and not data["problem"]:
        return Report(data, explanation(data, as_tree=True))
    if problem := data["problem"]:
        said = on_one_line(problem)
        return Report(
            {**data, "error": said, "exit_code": 2}, explanation(data, as_tree=True), code=2, note=f"error: {said}"
        )
    if data["kind"] == "network":
        if figure is not None:
            raise InputError(
                f"--figure {figure}", f"{file} holds a trained network, which has no figure", remedy="Omit --figure."
            )
        usual = LoadOptions()
        if given := [
            flag(name)[0] for name in type(usual).model_fields if getattr(options, name) != getattr(usual, name)
        ]:
            raise InputError(
                ", ".join(given), f"{file} holds a trained network; load options do not apply", remedy="Omit them."
            )
    if figure is not None:
        from diptych.ptycho.figures.overview import save_figure
        from diptych.ptycho.io import load

        save_figure(load(file, options).plot(), figure)
        data["figure"] = str(figure)
    return Report(data, explanation(data))


@verb(LoadOptions)
def check(
    file: Annotated[Path, Parameter(help="A scan.")],
    /,
    *,
    search_rotation: Annotated[
        bool | None,
        Parameter(help="Search the rotation of the scan against the detector first. Default: for electrons."),
    ] = None,
    choices: Choices,
) -> Report:
    """Try each orientation, position convention and centring for a few epochs, and rank them by fit."""
    from diptych.ptycho.check import check as check_scan
    from diptych.ptycho.io import load_scan

    options = choices[LoadOptions]
    scan = load_scan(file, options)
    with progress_bars() as progress:
        found = check_scan(scan, progress=progress, search_rotation=search_rotation)
    advice = found.advice
    if used := [flag(name)[0] for name in READING if getattr(options, name)]:
        advice += f" These changes are relative to {' '.join(used)}; without it, check shows the changes to the file."
    return Report({"file": str(file), "ranking": found.rows, "advice": advice}, [rows_table(found.rows), "", advice])


@verb()
def fetch(
    name: Annotated[str, Parameter(help="Name of the scan, for instance siemens-star.")] = "siemens-star",
    /,
    *,
    out: Annotated[Path | None, Parameter(help="Also write the scan to this .npz file.")] = None,
    overwrite: Overwrite = False,
    choices: Choices,
) -> Report:
    """Obtain a measured scan through the user's own pip, verify it, and keep it in the user's cache."""
    from diptych.ptycho.datasets import dataset_info
    from diptych.ptycho.datasets import fetch as fetch_scan

    if out is not None:
        check_output(out, (".npz",), overwrite=overwrite)
    about = dataset_info(name)
    with progress_bars() as progress:
        scan = fetch_scan(name, progress=progress)
    data = {**about, "summary": scan.summary()}
    if out is not None:
        from diptych.ptycho.io import save

        data["file"] = str(save(scan, out))
    return Report(data, [table(without_nothing(data | {"summary": numbers(scan)}))])


@verb(SimulationOptions)
def simulate(
    *,
    out: Annotated[Path, Parameter(help="The .npz file to write.")],
    figure: Annotated[Path | None, Parameter(help="Also draw the scan, to this PNG.")] = None,
    overwrite: Overwrite = False,
    choices: Choices,
) -> Report:
    """Simulate a scan and write it with its truth."""
    options = choices[SimulationOptions]
    check_output(out, (".npz",), overwrite=overwrite)
    if figure is not None:
        check_output(figure, (".png",), overwrite=overwrite, option="--figure")
    from diptych.ptycho.io import save
    from diptych.ptycho.simulate import simulate as simulate_scan

    with progress_bars() as progress:
        scan = simulate_scan(options, progress=progress)
    data = {"file": str(save(scan, out)), "summary": scan.summary()}
    if figure is not None:
        from diptych.ptycho.figures.overview import save_figure

        save_figure(scan.plot(), figure)
        data["figure"] = str(figure)
    return Report(data, [table(without_nothing(data | {"summary": numbers(scan)}))])


@verb(PrepareOptions, LoadOptions)
def prepare(
    file: Annotated[Path, Parameter(help="A scan.")],
    out: Annotated[Path, Parameter(help="The file to write: .npz, or another format that holds a scan.")],
    /,
    *,
    figure: Annotated[Path | None, Parameter(help="Also draw the new scan, to this PNG.")] = None,
    overwrite: Overwrite = False,
    choices: Choices,
) -> Report:
    """Choose frames, correct, crop, bin or pad the detector, correct positions; write a new scan."""
    from diptych.ptycho.io import load_scan, save
    from diptych.ptycho.io.formats import suffixes
    from diptych.ptycho.prepare.preparation import prepare as prepare_scan

    check_output(out, suffixes("scan"), overwrite=overwrite)
    if figure is not None:
        check_output(figure, (".png",), overwrite=overwrite, option="--figure")
    scan = prepare_scan(load_scan(file, choices[LoadOptions]), choices[PrepareOptions])
    steps = scan.metadata["preparation"]["steps"]
    data: dict[str, Any] = {"file": str(save(scan, out)), "steps": steps, "summary": numbers(scan)}
    if figure is not None:
        from diptych.ptycho.figures.overview import save_figure

        save_figure(scan.plot(), figure)
        data["figure"] = str(figure)
    shown = {key: value for key, value in data.items() if key != "steps"}
    return Report(data, [*(f"{step}." for step in steps), "", table(without_nothing(shown))])


@verb(LoadOptions)
def convert(
    file: Annotated[Path, Parameter(help="A scan or a result, of any format that is read.")],
    out: Annotated[Path, Parameter(help="The file to write; its suffix decides the format.")],
    /,
    *,
    as_: Annotated[
        str | None, Parameter(name="--as", help="Format of the new file, where the suffix has several.")
    ] = None,
    overwrite: Overwrite = False,
    choices: Choices,
) -> Report:
    """Write a scan or a result in another format, and list what that format does not hold."""
    from diptych.ptycho.io.exchange.transfer import convert as convert_file

    done = convert_file(file, out, choices[LoadOptions], format=as_, overwrite=overwrite)
    data = {"file": str(done.path), "format": done.format, "holds": done.holds, "lost": list(done.lost)}
    return Report(
        data, [f"{done.path}: {done.holds}, format {done.format}.", *(f"Lost: {each}." for each in done.lost)]
    )


@verb()
def validate(
    file: Annotated[Path, Parameter(help="An HDF5 file.")],
    /,
    *,
    as_: Annotated[StandardName, Parameter(name="--as", help="The standard.")],
    choices: Choices,
) -> Report:
    """Check whether a file conforms to a standard, and name each deviation; exit code 1 where there is one."""
    from diptych.ptycho.io.exchange.conformance import validate as validate_file

    found = validate_file(file, as_)
    rows = [dataclasses.asdict(each) for each in found.deviations]
    data = {"file": str(file), "standard": as_, "conforms": found.conforms, "checked": found.checked}
    if found.conforms:
        return Report({**data, "deviations": []}, [f"{file} conforms to {as_}: {found.checked} rules checked."])
    title = f"{file} deviates from {as_} in {len(rows)} places"
    return Report({**data, "deviations": rows}, [rows_table(rows, title=title)], code=1)


def numbers(scan: Scan) -> dict[str, Any]:
    """The summary of a scan without its metadata and the table of its load, which may be long."""
    return {key: value for key, value in scan.summary().items() if key not in ("metadata", "load")}


def explanation(data: dict[str, Any], as_tree: bool = False) -> list[RenderableType]:
    """The result of ``describe_file`` as text: kind, arrays, numbers, notes."""
    rest = {
        key: value
        for key, value in data.items()
        if key not in ("file", "bytes", "container", "arrays", "kind", "problem", "notes", "load")
    }
    text: list[RenderableType] = [
        f"{data['file']}: {data['kind']} ({data['container']}, {data['bytes']:,} bytes)",
        Verbatim(tree_text(data["arrays"])) if as_tree else rows_table(_rows(data["arrays"])),
    ]
    if rest:
        text += ["", table(without_nothing(rest))]
    if data.get("load"):
        text += ["", rows_table(data["load"], title="How the file was read")]
    return [*text, *(f"Note: {note}" for note in data.get("notes", []))]


def _rows(arrays: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"name": each["name"], "shape": " x ".join(map(str, each["shape"])) or "scalar", "dtype": each["dtype"]}
        for each in arrays
    ]


def without_nothing(values: dict[str, Any]) -> dict[str, Any]:
    """``values`` without unknown or empty entries, at any depth."""
    kept = {key: without_nothing(value) if isinstance(value, dict) else value for key, value in values.items()}
    return {key: value for key, value in kept.items() if value not in (None, {}, [], "")}
