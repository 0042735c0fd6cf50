"""Files of other programs that are known and not read, named as such: what they are, and what to do with them."""

from __future__ import annotations

from diptych.errors import InputError
from diptych.ptycho.io.files import DataFile
from diptych.ptycho.io.source import TreeSource

_BY_PATH = (
    "Name its arrays: --patterns-at PATH --positions-at PATH (and --probe-at, --mask-at); `diptych info` lists them."
)
_BUILD = "Build diptych.Scan from its arrays."


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
        return "is a CXI file, which is not read", _BY_PATH
    if {"chunks", "info"} <= names:
        return "is a prepared scan of PtyPy (.ptyd), which is not read", _BY_PATH
    if "content" in names and source.group("content/obj") is not None:
        return "is a reconstruction of PtyPy (.ptyr), which is not read", _BUILD
    if "ptychogram" in names:
        return "is a scan of PtyLab, which is not read", _BY_PATH
    if "entry" in names and (detector := _eiger(source)):
        return detector
    if names & {"#refs#", "#subsystem#"} or "MATLAB_class" in _attributes(source, names):
        return "is a MATLAB 7.3 file without the arrays of a scan that is known", _BY_PATH
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
    return f"{what}: {holds}", f"{_BY_PATH} MATLAB stores y before x and the patterns' axis last."


def _eiger(source: TreeSource) -> tuple[str, str] | None:
    entry = source.group("entry")
    data = None if entry is None else entry.group("data")
    numbered = [] if data is None else sorted(name for name in data.names() if name.startswith("data_0"))
    if not numbered and (entry is None or entry.group("instrument/detector/detectorSpecific") is None):
        return None
    where = f"its frames are under entry/data/{numbered[0]}" if numbered else "its frames are in its data files"
    return f"is an Eiger detector file (NeXus), which holds frames and no scan positions; {where}", _BY_PATH


def _attributes(source: TreeSource, names: set[str]) -> set[str]:
    return {key for name in sorted(names)[:8] for key in source.attributes(name)}
