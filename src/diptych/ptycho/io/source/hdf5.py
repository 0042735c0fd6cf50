"""HDF5 files: datasets by path, links and virtual datasets followed where they stay in the file's folder.

A link or a virtual dataset may name any file of the machine. What is read must lie in the file that the user named, in
its folder, or in a folder below it; anything else is refused. A virtual dataset whose source is missing would read as
its fill value without an error, so its sources are checked first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import DiptychError, InputError
from diptych.ptycho.io.source.base import Header, brief, native, refuse_what_does_not_fit
from diptych.ptycho.io.source.hdf5_storage import check_extent, check_filters, check_written, open_file

_MOST_LINKS = 32
"""Links, or virtual datasets of virtual datasets, that may follow one another: more are a loop."""

_ELSEWHERE = "Copy the data into this file, or the other file into its folder."


class Hdf5Source:
    """A group of an HDF5 file. Made by :func:`open_hdf5` and :meth:`group`.

    Parameters
    ----------
    files : _Files
        The file and those that its links lead to.
    group : h5py.Group
        The group.
    where : str
        Its name in messages.
    """

    def __init__(self, files: _Files, group: Any, where: str) -> None:
        self.where = where
        self._files, self._group = files, group
        self._opened: dict[str, Any] = {}

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def names(self) -> Collection[str]:
        """Names of the group's datasets, groups and links; no link is followed."""
        return set(self._group)

    def headers(self) -> Mapping[str, Header]:
        """Shape and type of every dataset of the group (not of its subgroups).

        Raises
        ------
        InputError
            If a link of this group cannot be followed: what it stands for, perhaps the mask, would be missed silently.
        """
        found = ((name, self.header(name)) for name in self._group)
        return {name: header for name, header in found if header is not None}

    def header(self, path: str) -> Header | None:
        """Shape and type of the dataset at ``path``; None where there is no dataset."""
        item = self._item(path)
        return Header(tuple(item.shape or ()), item.dtype) if _is_dataset(item) else None

    def group(self, path: str) -> Hdf5Source | None:
        """The group at ``path``; None where there is no group."""
        item = self._item(path)
        if not hasattr(item, "keys"):
            return None
        return Hdf5Source(self._files, item, f"{self.where}: {path}")

    def attributes(self, path: str = "") -> Mapping[str, Any]:
        """Attributes of the dataset or group at ``path``; empty where there is neither."""
        item = self._item(path) if path else self._group
        if item is None:
            return {}
        decoded = ((name, value) for name, value in item.attrs.items())
        return {
            name: value.decode("utf-8", "replace") if isinstance(value, bytes) else value for name, value in decoded
        }

    def read(self, key: str) -> NDArray[Any]:
        """The dataset at the path ``key``; text comes as NumPy unicode."""
        import h5py

        with self._reading(key, None) as item:
            if h5py.check_string_dtype(item.dtype) is not None:
                return np.asarray(item.asstr()[()])
            return native(np.asarray(item[()]))

    def read_part(self, key: str, indices: NDArray[np.int64], axis: int) -> NDArray[Any]:
        """The entries ``indices`` (n,), increasing and at least one, of the dataset ``key`` along ``axis``."""
        with self._reading(key, (axis, len(indices))) as item:
            # Slices, one for each run of neighbours: h5py is slow with a list of indices.
            runs = np.split(indices, np.flatnonzero(np.diff(indices) != 1) + 1)
            parts = [item[(*(slice(None),) * axis, slice(int(run[0]), int(run[-1]) + 1))] for run in runs]
            return native(np.concatenate(parts, axis) if len(parts) > 1 else parts[0])

    def walk(self) -> Iterator[tuple[str, Header | str]]:
        """Path of every dataset below with its header, or the reason why a link is not followed.

        A group that several links lead to is entered once, so that loops of links end.
        """
        waiting = [("", self._group, name) for name in reversed(list(self._group))]
        seen = {_address(self._group)}
        while waiting:
            prefix, group, name = waiting.pop()
            path = prefix + name
            try:
                item = self._files.resolve(group, name, f"{self.where}: {path!r}")
            except DiptychError as error:
                yield path, getattr(error, "found", "") or str(error)
                continue
            if _is_dataset(item):
                yield path, Header(tuple(item.shape or ()), item.dtype)
            elif hasattr(item, "keys") and _address(item) not in seen:
                seen.add(_address(item))
                waiting.extend((f"{path}/", item, inner) for inner in reversed(list(item)))

    def verify(self, path: str) -> None:
        """Raise InputError or UnavailableError where the values of the dataset at ``path`` cannot be read: sources of a
        virtual dataset that are missing, values outside the folder, a filter that is not installed.
        """
        item = self._item(path)
        if _is_dataset(item):
            self._files.check(item, f"{self.where}: {path!r}")

    def target(self, path: str) -> str:
        """Where the link or the virtual dataset at ``path`` leads, for a person; empty for a plain dataset."""
        import h5py

        folder, _, name = path.rpartition("/")
        group = self._item(folder) if folder else self._group
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            return f"link to {link.path} of {link.filename}"
        if isinstance(link, h5py.SoftLink):
            return f"link to {link.path}"
        item = group[name]
        if _is_dataset(item) and item.is_virtual:
            files = sorted(
                {"this file" if part.file_name == "." else part.file_name for part in item.virtual_sources()}
            )
            return f"virtual, of {', '.join(files[:3])}{', ...' if len(files) > 3 else ''}"
        return ""

    def _item(self, path: str) -> Any:
        if path not in self._opened:
            self._opened[path] = self._files.resolve(self._group, path, f"{self.where}: {path!r}")
        return self._opened[path]

    @contextmanager
    def _reading(self, key: str, part: tuple[int, int] | None) -> Iterator[Any]:
        """The dataset ``key``, checked, of which all or ``part`` (axis, number of entries) is to be read."""
        where = f"{self.where}: {key!r}"
        item = self._item(key)
        if not _is_dataset(item):
            raise InputError(where, "is not there" if item is None else "is a group", "a dataset")
        self._files.check(item, where)
        shape = list(item.shape or ())
        if part is not None:
            shape[part[0]] = part[1]
        refuse_what_does_not_fit(Header(tuple(shape), item.dtype), self.where, key)
        if part is None:
            check_written(item, where)
        try:
            yield item
        except (OSError, RuntimeError, UnicodeDecodeError) as error:
            raise InputError(
                f"{self.where}: the dataset {key!r}", f"cannot be read ({brief(error)}); the file is damaged"
            ) from None


class _Files:
    """An open HDF5 file, and the others of its folder that its links and virtual datasets lead to."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self._stack = stack
        self._folder = path.resolve().parent
        self.main = stack.enter_context(open_file(path))
        self._open = {path.resolve(): self.main}
        self._checked: set[Any] = set()

    def resolve(self, group: Any, path: str, where: str, depth: int = 0) -> Any:
        """The object at ``path`` from ``group``; None where there is none. Every link on the way is checked."""
        import h5py

        if depth > _MOST_LINKS:
            raise InputError(where, f"leads through more than {_MOST_LINKS} links: they form a loop")
        item = group
        for name in (part for part in path.split("/") if part not in ("", ".")):
            if not hasattr(item, "keys") or (link := item.get(name, getlink=True)) is None:
                return None
            if isinstance(link, h5py.ExternalLink):
                file = self._other(link.filename, item, where, "is a link into")
                item = self.resolve(file["/"], link.path, where, depth + 1)
                target = f"{link.path} of {link.filename}"
            elif isinstance(link, h5py.SoftLink):
                item = self.resolve(item.file["/"] if link.path[:1] == "/" else item, link.path, where, depth + 1)
                target = link.path
            else:
                item, target = item[name], ""
            if item is None:
                raise InputError(where, f"is a link to {target}, which is not there", remedy=_ELSEWHERE)
        return item

    def check(self, dataset: Any, where: str, depth: int = 0) -> None:
        """Raise when the values of ``dataset`` lie outside the folder, are missing, or need a missing filter."""
        if (key := _address(dataset)) in self._checked:
            return
        if depth > _MOST_LINKS:
            raise InputError(where, "is a virtual dataset that contains itself")
        if dataset.external:
            names = ", ".join(sorted({str(name) for name, _, _ in dataset.external}))
            raise InputError(
                where,
                f"keeps its values as raw bytes in other files ({names}), which are not followed",
                remedy=_ELSEWHERE,
            )
        if dataset.is_virtual:
            self._check_sources(dataset, where, depth)
        else:
            check_extent(dataset, where)
            check_filters(dataset, where)
        self._checked.add(key)

    def _check_sources(self, dataset: Any, where: str, depth: int) -> None:
        for part in dataset.virtual_sources():
            named = f"{part.dset_name} of {'the same file' if part.file_name == '.' else part.file_name}"
            if "%b" in part.file_name + part.dset_name:
                raise InputError(
                    where, f"is a virtual dataset over a numbered series of sources ({named}), which are not followed"
                )
            if part.file_name == ".":
                file = dataset.file
            else:
                file = self._other(part.file_name, dataset, where, "is a virtual dataset of")
            source = self.resolve(file["/"], part.dset_name, where)
            if not _is_dataset(source):
                raise InputError(
                    where,
                    f"is a virtual dataset, and its source {named} is missing; HDF5 would read it as empty",
                    remedy="Copy the missing dataset to where the link expects it.",
                )
            mapped = _upper_bounds(part.src_space)
            if mapped is not None and any(last >= size for last, size in zip(mapped, source.shape, strict=False)):
                raise InputError(
                    where,
                    f"is a virtual dataset, and its source {named} has shape {source.shape}, less than is mapped",
                    f"at least {tuple(last + 1 for last in mapped)}",
                )
            self.check(source, where, depth + 1)

    def _other(self, filename: str, item: Any, where: str, how: str) -> Any:
        """The file that a link in ``item`` names, relative to the file it stands in, as HDF5 looks for it."""
        folder = Path(item.file.filename).parent
        path = folder / filename
        if Path(filename).is_absolute() and not path.exists():
            path = folder / Path(filename).name
        resolved = path.resolve()
        if not resolved.is_relative_to(self._folder):
            raise InputError(
                where,
                f"{how} another file, {filename}, outside the folder of this one: not followed",
                remedy=_ELSEWHERE,
            )
        if resolved not in self._open:
            if not resolved.is_file():
                raise InputError(where, f"{how} another file, {filename}, which is missing", remedy=_ELSEWHERE)
            self._open[resolved] = self._stack.enter_context(open_file(resolved))
        return self._open[resolved]


@contextmanager
def open_hdf5(path: Path) -> Iterator[Hdf5Source]:
    """The HDF5 file ``path``, open for reading.

    Raises
    ------
    InputError
        If the file is damaged or truncated.
    """
    with ExitStack() as stack:
        files = _Files(path, stack)
        try:
            yield Hdf5Source(files, files.main["/"], str(path))
        except DiptychError:
            raise
        except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
            # The library notices damage late and by many exceptions, some of them when a link or an attribute is
            # merely looked at.
            raise InputError(
                path, f"the HDF5 file is damaged ({brief(error)})", remedy="Copy or write it again."
            ) from error


def _is_dataset(item: Any) -> bool:
    import h5py

    return isinstance(item, h5py.Dataset)


def _address(item: Any) -> tuple[int, int]:
    """What identifies an object whatever link leads to it."""
    import h5py

    about = h5py.h5o.get_info(item.id)
    return int(about.fileno), int(about.addr)


def _upper_bounds(space: Any) -> tuple[int, ...] | None:
    """Largest index along each axis of a selection; None where it is unlimited, or everything whatever its size."""
    import h5py

    try:
        if space.get_select_type() == h5py.h5s.SEL_ALL:
            return None
        return tuple(int(last) for last in space.get_select_bounds()[1])
    except (ValueError, RuntimeError):
        return None
