"""The images that viewers show, by key: read when they are first asked for, dropped when many are open."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from diptych.errors import InputError
from diptych.studio.components.viewer.source import ImageSource

LIMIT_BYTES = 2 * 2**30
"""Memory of images that are kept; the one shown last always is."""


class ImageStore:
    """Keys to images. Thread-safe: pictures are made in worker threads.

    Parameters
    ----------
    limit_bytes : int
        Images beyond this are dropped, the one not used for longest first; they are read again when asked for.
    """

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self._loaders: dict[str, Callable[[], ImageSource]] = {}
        self._images: OrderedDict[str, ImageSource] = OrderedDict()
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}

    def add_file(self, path: Path, load: Callable[[Path], ImageSource] | None = None, part: str = "") -> str:
        """The key of a result file, the same as long as the file does not change. The caller has confined the path.

        ``part`` names what ``load`` reads of the file, where that is not the whole.
        """
        from diptych.studio.components.viewer.images import image_of_file

        try:
            status = path.stat()
        except OSError as error:
            raise InputError(path, f"cannot be read ({error.strerror})", "a result (.h5 or .npz)") from None
        read = load or image_of_file
        return self.add(f"{path.resolve()}|{status.st_mtime_ns}|{status.st_size}{part}", lambda: read(path))

    def add(self, identity: str, load: Callable[[], ImageSource]) -> str:
        """The key of what ``load`` reads; ``identity`` changes when its contents do."""
        key = hashlib.sha256(identity.encode()).hexdigest()[:32]
        with self._lock:
            self._loaders[key] = load
            self._loading.setdefault(key, threading.Lock())
        return key

    def __getitem__(self, key: str) -> ImageSource:
        """The image of a key, read if necessary. Raises KeyError for an unknown key, InputError for a bad file."""
        with self._lock:
            load, loading = self._loaders[key], self._loading[key]
        with loading:
            with self._lock:
                if key in self._images:
                    self._images.move_to_end(key)
                    return self._images[key]
            image = load()
            with self._lock:
                self._images[key] = image
                self._drop()
            return image

    def _drop(self) -> None:
        while len(self._images) > 1 and sum(each.nbytes for each in self._images.values()) > self.limit_bytes:
            self._images.popitem(last=False)
