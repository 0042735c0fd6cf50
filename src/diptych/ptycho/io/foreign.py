"""Files of other programs that hold no scan or result as they are: what they are, and what to do with them."""

from __future__ import annotations

from diptych.errors import InputError, to_type
from diptych.ptycho.io.files import DataFile
from diptych.ptycho.io.source import TreeSource

_BY_LAYOUT = (
    "--patterns-at and --positions-at name single arrays, and --layout L.yaml reads by a description of them all. "
    + to_type("To list the arrays", "diptych info FILE")
    + to_type("\nTo write a description to fill in", "diptych info FILE --layout-template L.yaml")
)


def foreign(file: DataFile, expected: str) -> InputError | None:
    """The error that names the program a file comes from; None where it is not known."""
    source = file.source
    if source is None:
        return None
    found = None
    if file.kind == "npz":
        found = _npz(file)
    elif file.kind == "hdf5":
        found = _hdf5(source)
    elif file.kind == "matlab":
        found = _matlab(source)
    return None if found is None else InputError(file.path, found[0], expected, found[1])


def _npz(file: DataFile) -> tuple[str, str] | None:
    if file.source is not None and file.source.names():
        return None
    import zipfile

    with zipfile.ZipFile(file.path) as archive:
        members = archive.namelist()
    kinds = {".pt": "a PyTorch file", ".pkl": "a PyTorch file", ".docx": "a document"}
    what = next((kind for end, kind in kinds.items() if any(name.endswith(end) for name in members)), "a ZIP archive")
    named = ", ".join(members[:3]) + (", ..." if len(members) > 3 else "")
    return (
        f"is {what}, no NPZ: it holds {named or 'no files'}, and no NPY arrays",
        "Unpack it first, if it holds a scan.",
    )


def _hdf5(source: TreeSource) -> tuple[str, str] | None:
    names = set(source.names())
    if "cxi_version" in names or "entry_1" in names:
        return "is a CXI file without diffraction patterns at the usual paths", _BY_LAYOUT
    if names & {"#refs#", "#subsystem#"} or "MATLAB_class" in _attributes(source, names):
        return "is a MATLAB 7.3 file without the arrays of a scan that is known", _BY_LAYOUT
    return None


def _matlab(source: TreeSource) -> tuple[str, str]:
    """What a MATLAB 5 file, which has no attributes, seems to be by its names and shapes."""
    names, arrays = set(source.names()), dict(source.walk())
    shapes = ", ".join(
        f"{name} {' x '.join(map(str, getattr(header, 'shape', ())))}" for name, header in [*arrays.items()][:6]
    )
    kind = "a MATLAB 5 file (saved without -v7.3)"
    holds = f"it holds {shapes or 'no arrays'}{', ...' if len(arrays) > 6 else ''}"
    if "fmag" in names or {"p", "object"} <= names:
        what = f"seems to be prepared data or a result of PtychoShelves or fold_slice in {kind}"
    elif "ptychogram" in names:
        what = f"seems to be a scan of PtyLab in {kind}"
    elif "object" in names or {"obj", "probe"} <= names:
        what = f"seems to be a result (object and probe) in {kind}"
    elif any(len(getattr(header, "shape", ())) in (3, 4) for header in arrays.values()):
        what = f"seems to be a stack of patterns in {kind}"
    else:
        what = f"is {kind}, and no scan or result by the names of its arrays"
    return f"{what}: {holds}", f"MATLAB stores y before x and the patterns' axis last. {_BY_LAYOUT}"


def _attributes(source: TreeSource, names: set[str]) -> set[str]:
    return {key for name in sorted(names)[:8] for key in source.attributes(name)}
