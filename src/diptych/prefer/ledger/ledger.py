"""The ledger: a durable, append-only record of what was shown and how it was judged.

A folder holds ``ledger.sqlite`` (frames, candidates, and events in one order), ``latents-<d>.f32`` (float32 rows, one
file per dimension), ``files`` (images and imported originals, named by their SHA-256) and ``ledger.lock`` (writers lock
it in turn, and note the state of the database in it). Every method that stores returns after the data are on disk:
latents and images first, then the commit that refers to them. Any number of processes may share a ledger. Nothing is
ever changed or removed; undo is an event of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.prefer.judgement import Candidate, Frame, Judgement, Observations, check_length, image_hash
from diptych.prefer.ledger.files import Blocks, Files, checksum, decode_png, encode_png, storing
from diptych.prefer.ledger.reading import (
    Event,
    JudgementRecord,
    Observer,
    Preview,
    count_rows,
    events,
    judgements,
    last_change,
    last_number,
    open_screens,
    previews,
)
from diptych.prefer.ledger.store import NAME, Store
from diptych.prefer.ledger.writing import (
    Identity,
    insert_candidates,
    insert_judgement,
    insert_preview,
    insert_screen,
    insert_undo,
    place_screens,
)


class Ledger:
    """An open ledger; use :meth:`open`. Thread-safe.

    Examples
    --------
    >>> import numpy as np
    >>> from diptych.prefer import Candidate, Frame, Judgement, Ledger
    >>> image = np.zeros((8, 8, 3), dtype=np.uint8)
    >>> with Ledger.open("lake") as ledger:
    ...     shown = ledger.show([Candidate(np.ones(4, dtype=np.float32), Frame("a lake"), image)])
    ...     position = ledger.judge(Judgement.rate(shown[0], good=True))
    ...     ledger.rows
    1
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self.folder, self.read_only = folder, read_only
        self._store = Store(folder, read_only=read_only)
        if not read_only:
            with storing(folder):
                (folder / "files").mkdir(exist_ok=True)
        self.files = Files(folder / "files")
        self._blocks = Blocks(folder)
        self._observer = Observer(self._store, self._blocks)
        self._images: dict[str, str] = {}

    @classmethod
    def open(cls, folder: str | Path, *, create: bool = True, read_only: bool = False) -> Self:
        """Open the ledger in a folder. Folder and ledger are created if they do not exist, unless ``create`` is False.

        Parameters
        ----------
        folder : path
        create : bool
        read_only : bool
            Write nothing, as is right for programs that only read, and works on a full or read-only disk. Images and
            features are not kept, and whatever is to be shown or judged raises UnavailableError.

        Raises
        ------
        InputError
            If there is no ledger (``create=False``), or the folder has another file of that name.
        UnavailableError
            If the folder cannot be written, or other processes keep the ledger locked.
        """
        # Absolute: the working directory may change while it is open.
        path = Path(folder).absolute()
        if (read_only or not create) and not (path / NAME).is_file():
            raise InputError(path, f"has no ledger ({NAME} does not exist)", "the folder of a session")
        if path.exists() and not path.is_dir():
            raise InputError(path, "is a file", "the folder of a ledger")
        if not read_only:
            with storing(path):
                path.mkdir(parents=True, exist_ok=True)
        return cls(path, read_only=read_only)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database; arrays that were returned stay valid."""
        self._store.close()

    @property
    def journal(self) -> str:
        """SQLite's journal mode: "wal", or "delete" where the file system does not support a write-ahead log."""
        return self._store.journal

    @property
    def rows(self) -> int:
        """Number of judgements that count: on disk, from any process, and not undone; skips are among them."""
        return count_rows(self._store)[0]

    @property
    def skips(self) -> int:
        """Number of skips among :attr:`rows`."""
        return count_rows(self._store)[1]

    @property
    def position(self) -> int:
        """Position of the last event; 0 if there is none."""
        return int(self._store.read("SELECT coalesce(max(position), 0) FROM events")[0][0])

    def keep_image(self, image: NDArray[np.uint8]) -> str:
        """Store an image (H, W, 3) uint8 once and return the name of its file. Called right after a decode, it makes
        :meth:`show` fast.
        """
        pixels = image_hash(image)
        if self.read_only:
            return ""
        if pixels not in self._images:
            with storing(self.folder):
                self._images[pixels] = self.files.put(encode_png(image), ".png")
        return self._images[pixels]

    def adopt_image(self, data: bytes, where: str) -> NDArray[np.uint8]:
        """The pixels (H, W, 3) of a PNG file, which is stored byte for byte as the file of that image.

        Raises
        ------
        InputError
            If the bytes are not a readable PNG file; the message names ``where``.
        """
        image = decode_png(data, where)
        with storing(self.folder):
            self._images[image_hash(image)] = self.files.put(data, ".png")
        return image

    def show(self, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
        """Record that candidates are shown together on a new screen; durable when it returns.

        A candidate without id gets ``<screen>-<slot>``. One whose id is in the ledger is shown again: nothing is stored
        twice, and its latent and image must be the same.

        Parameters
        ----------
        candidates : sequence of Candidate
            One screen.

        Returns
        -------
        tuple of Candidate
            The same with id, screen and slot; judge these.

        Raises
        ------
        InputError
            If the screen is empty, has a candidate twice, a latent is longer than
            :data:`~diptych.prefer.judgement.LONGEST` sqrt(d), or an id belongs to another latent or image.
        UnavailableError
            If the disk is full or fails; nothing was stored, and the ledger stays usable.
        """
        return self.record([(candidates, None)])[0]

    def record(
        self, entries: Sequence[tuple[Sequence[Candidate], Judgement | None]], source: str = ""
    ) -> list[tuple[Candidate, ...]]:
        """Store screens, each with a judgement or None, in one transaction: :meth:`show` for many screens.

        Parameters
        ----------
        entries : sequence of (candidates, judgement or None)
        source : str
            Empty, or ``"legacy"`` for imports: then an entry whose candidates are all in the ledger is skipped and
            returned as an empty tuple.
        """
        if not all(screen for screen, _ in entries):
            raise InputError("screen", "has no candidates", "at least one")
        identified = [(screen, [self._identity(candidate) for candidate in screen]) for screen, _ in entries]
        with self._store.writing() as database:
            screens, new = place_screens(database, identified, skip_known=bool(source))
            insert_candidates(database, self._blocks, new, source)
            for placed, (_, judgement) in zip(screens, entries, strict=True):
                if placed:
                    insert_screen(database, placed, source)
                if placed and judgement is not None:
                    insert_judgement(database, judgement, source)
        return screens

    def preview(
        self, frame: Frame, latents: Sequence[NDArray[np.float32]], features: Sequence[NDArray[np.float32]]
    ) -> None:
        """Record features (k,) of decoded images, shown or not, with their latents (d,); durable when it returns."""
        if latents and not self.read_only:
            with self._store.writing() as database:
                for latent, values in zip(latents, features, strict=True):
                    insert_preview(database, frame, latent, values)

    def _identity(self, candidate: Candidate) -> Identity:
        """What identifies a candidate; its image is on disk afterwards. Raises InputError for an excessive latent."""
        check_length(candidate.latent, f"candidate {candidate.id!r}" if candidate.id else "candidate")
        if candidate.image is None:
            return Identity(candidate.dimension, checksum(candidate.latent), None, None)
        pixels, file = image_hash(candidate.image), self.keep_image(candidate.image)
        return Identity(candidate.dimension, checksum(candidate.latent), pixels, file)

    def judge(self, judgement: Judgement, source: str = "") -> int:
        """Record a judgement; durable when it returns.

        Parameters
        ----------
        judgement : Judgement
        source : str
            Empty for a person, ``"simulated"`` for a program.

        Returns
        -------
        int
            Its position.

        Raises
        ------
        InputError
            If it names a candidate that was never shown.
        UnavailableError
            If the disk is full or fails; nothing was stored, and the ledger stays usable.
        """
        with self._store.writing() as database:
            return insert_judgement(database, judgement, source)

    def undo(self, position: int | None = None) -> int:
        """Undo a judgement by appending a tombstone: the last one that counts, or the one at a position.

        Repeated calls undo earlier and earlier judgements. Without a position, imported judgements are kept.

        Returns
        -------
        int
            Position of the judgement that no longer counts.

        Raises
        ------
        InputError
            If there is nothing to undo, or no judgement that counts has that position.
        """
        with self._store.writing() as database:
            return insert_undo(database, position)

    def events(self, after: int = 0) -> Iterator[Event]:
        """Events after a position, in order."""
        return events(self._store, after)

    def judgements(self) -> list[JudgementRecord]:
        """Judgements that count, in order."""
        return judgements(self._store)

    def candidate(self, name: str, *, image: bool = True) -> Candidate:
        """A candidate as it was first shown, read from disk and verified.

        Raises
        ------
        InputError
            If no candidate has that id, or the stored data are damaged.
        """
        query = (
            "SELECT dimension, row, checksum, pixels, image, body, provenance "
            "FROM candidates JOIN frames ON frame = key WHERE id = ?"
        )
        found = self._store.read(query, (name,))
        if not found:
            raise InputError(self.folder, f"has no candidate {name!r}", "the id of a candidate that was shown")
        dimension, row, expected, pixels, file, frame, provenance = found[0]
        (latent,) = self._blocks.read(dimension, [row], [expected])
        if latent is None:
            where = self._blocks.path(dimension)
            raise InputError(
                where, f"row {row} is damaged (its checksum differs)", remedy="Restore the file from a backup."
            )
        picture = decode_png(self.files.get(file), file) if image and file else None
        if picture is not None and image_hash(picture) != pixels:
            raise InputError(
                self.folder, f"the image of {name!r} is damaged (its hash differs)", remedy="Restore it from a backup."
            )
        screen, slot = self._store.read(
            "SELECT screen, slot FROM shown WHERE candidate = ? ORDER BY screen LIMIT 1", (name,)
        )[0]
        return Candidate(
            latent,
            Frame.from_json(frame),
            picture,
            name,
            int(screen),
            int(slot),
            json.loads(provenance),
        )

    def last_shown(self) -> str | None:
        """Id of a candidate on the last screen; None if nothing was shown."""
        found = self._store.read("SELECT candidate FROM shown ORDER BY screen DESC, slot LIMIT 1")
        return str(found[0][0]) if found else None

    def screen(self, number: int) -> tuple[str, ...]:
        """Ids of the candidates on a screen of :attr:`Candidate.screen`, in order; empty if there is no such screen."""
        found = self._store.read("SELECT candidate FROM shown WHERE screen = ? ORDER BY slot", (number,))
        return tuple(str(row[0]) for row in found)

    def screen_of(self, names: Sequence[str]) -> int | None:
        """What a person calls the screen on which exactly these candidates were new: a number, counting such screens
        only; None if there is none.
        """
        number = names[0].partition("-")[0]
        return int(number) if number.isdecimal() and self.numbered(int(number)) == tuple(names) else None

    def numbered(self, number: int) -> tuple[str, ...]:
        """Ids of the candidates of the screen that a person calls by a number, in order; empty if there is none."""
        query = "SELECT min(screen) FROM shown WHERE candidate GLOB ?"
        first = self._store.read(query, (f"{number:06d}-[0-9]*",))[0][0]
        found = () if first is None else self.screen(first)
        return found if all(name.startswith(f"{number:06d}-") for name in found) else ()

    @property
    def last_number(self) -> int:
        """The highest number of such a screen; 0 before the first."""
        return last_number(self._store.read)

    def open_screens(self) -> list[tuple[str, ...]]:
        """Ids of the candidates of each screen that was shown after the last judgement and waits for one, the latest
        first.
        """
        return open_screens(self._store)

    def upload_of(self, provenance: Mapping[str, Any], latent: NDArray[np.float32]) -> Candidate | None:
        """The candidate that was made of an upload in the same way (``provenance``), of a latent (d,); None if none."""
        query = "SELECT id, provenance FROM candidates WHERE provenance LIKE '%upload%'"
        for name, found in self._store.read(query):
            if json.loads(found) == dict(provenance):
                known = self.candidate(name)
                if np.array_equal(known.latent, latent):
                    return known
        return None

    def image_file(self, name: str) -> Path | None:
        """The PNG file of a candidate's image; None if it was shown without one."""
        found = self._store.read("SELECT image FROM candidates WHERE id = ?", (name,))
        return self.files.path(found[0][0]) if found and found[0][0] else None

    def observations(
        self, frame: Frame, dimension: int, *, use_legacy: bool = False, until: int | None = None
    ) -> Observations:
        """The judgements that a fit for ``frame`` uses, with their latents, and a report of those left out.

        A judgement is used if all its candidates have that dimension and the prompt, negative prompt, model and size of
        the frame. Imported judgements are used with ``use_legacy``; only the prompt of their frame is known and
        compared. Latents and weights beyond :data:`~diptych.prefer.judgement.LONGEST` and
        :data:`~diptych.prefer.judgement.WEIGHTS`, which earlier versions stored, are left out.

        Parameters
        ----------
        frame : Frame
        dimension : int
            Length d of the latents.
        use_legacy : bool
            Use imported rows.
        until : int, optional
            Leave out events after this position, as a replay does.
        """
        return self._observer.observe(frame, dimension, use_legacy, until)

    def previews(self, dimension: int, after: int = 0) -> list[Preview]:
        """Recorded features of decoded images after a position, in order, of latents of a dimension."""
        return [one for one in previews(self._store, after) if one.latent.size == dimension]

    def last_change(self, until: int) -> int:
        """Position, up to ``until``, of the last judgement or undo; 0 if there is none."""
        return last_change(self._store, until)
