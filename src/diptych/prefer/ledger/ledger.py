"""The ledger: a durable, append-only record of what was shown and what was said.

A folder holds ``ledger.sqlite`` (frames, candidates, and events in one order), ``latents-<d>.f32`` (float32 rows of
each dimension), ``files`` (images and imported originals, named by their SHA-256) and ``ledger.lock`` (empty; writers
take turns by it). Every method that stores returns after the data are on the disk: latents and images first, then the
commit that names them. Any number of processes may share a ledger; nothing is ever changed or removed, and undo is an
event of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from sqlite3 import Connection
from typing import Self

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.prefer.judgement import Candidate, Frame, Judgement, Observations, image_hash
from diptych.prefer.ledger.files import Blocks, Files, checksum, decode_png, encode_png, storing
from diptych.prefer.ledger.reading import FOREVER, LIVE, Event, Observer, Said, events, judgements
from diptych.prefer.ledger.store import NAME, Store
from diptych.runtime.provenance import utc_now

OFFSET = "offset"
"""Key in the provenance of an imported row that is no latent, but the difference of one from an anchor that nobody
recorded."""


class Ledger:
    """An open ledger; use :meth:`open`. Safe to call from several threads.

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

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._store = Store(folder)
        with storing(folder):
            (folder / "files").mkdir(exist_ok=True)
        self.files = Files(folder / "files")
        self._blocks = Blocks(folder)
        self._observer = Observer(self._store, self._blocks)
        self._images: dict[str, str] = {}

    @classmethod
    def open(cls, folder: str | Path, *, create: bool = True) -> Self:
        """Open the ledger in a folder; both are made where they are absent, unless ``create`` is False.

        Raises
        ------
        InputError
            There is no ledger (``create=False``), or the folder holds something else of that name.
        UnavailableError
            The folder cannot be written, or other processes keep the ledger locked.
        """
        path = Path(folder)
        if not create and not (path / NAME).is_file():
            raise InputError(f"{path}: holds no ledger ({NAME} is absent); expected the folder of a session.")
        if path.exists() and not path.is_dir():
            raise InputError(f"{path}: is a file; expected the folder of a ledger.")
        with storing(path):
            path.mkdir(parents=True, exist_ok=True)
        return cls(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database; arrays given out stay valid."""
        self._store.close()

    @property
    def journal(self) -> str:
        """SQLite's journal mode: "wal", or "delete" where the file system does not bear a write-ahead log."""
        return self._store.journal

    @property
    def rows(self) -> int:
        """Judgements that count: on the disk, by whatever process, and not undone."""
        return int(self._store.read(f"SELECT count(*) FROM events e WHERE {LIVE}", (FOREVER, FOREVER))[0][0])

    @property
    def position(self) -> int:
        """Position of the last event, 0 when there is none."""
        return int(self._store.read("SELECT coalesce(max(position), 0) FROM events")[0][0])

    # What was shown

    def keep_image(self, image: NDArray[np.uint8]) -> str:
        """Store an image (H, W, 3) uint8, once, and return the file's name; who has decoded it may do so before
        :meth:`show` must.
        """
        pixels = image_hash(image)
        if pixels not in self._images:
            with storing(self.folder):
                self._images[pixels] = self.files.put(encode_png(image), ".png")
        return self._images[pixels]

    def adopt_image(self, data: bytes, where: str) -> NDArray[np.uint8]:
        """The pixels (H, W, 3) of a PNG file, which is kept byte for byte as the file of that image.

        Raises
        ------
        InputError
            The bytes are no readable PNG; ``where`` is what the message calls them.
        """
        image = decode_png(data, where)
        with storing(self.folder):
            self._images[image_hash(image)] = self.files.put(data, ".png")
        return image

    def show(self, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
        """Record that these are shown together; durable when it returns.

        A candidate that comes without id gets ``<screen>-<slot>``. One whose id the ledger knows is shown again:
        nothing of it is stored twice, and latent and image must be the same.

        Parameters
        ----------
        candidates : sequence of Candidate
            One screen.

        Returns
        -------
        tuple of Candidate
            The same with their id, screen and slot; judge these.

        Raises
        ------
        InputError
            The screen is empty, shows a candidate twice, or an id belongs to another latent or image.
        UnavailableError
            The disk is full or fails; nothing was stored, and the ledger can be used on.
        """
        return self.record([(candidates, None)])[0]

    def record(
        self, entries: Sequence[tuple[Sequence[Candidate], Judgement | None]], source: str = ""
    ) -> list[tuple[Candidate, ...]]:
        """Store screens, each with what was said of it (or None), all or nothing; :meth:`show` for many at once.

        Parameters
        ----------
        entries : sequence of (candidates, judgement or None)
        source : str
            Empty, or ``"legacy"`` for imports: then an entry whose candidates are there already is passed over, and
            comes back empty.
        """
        if not all(screen for screen, _ in entries):
            raise InputError("a screen has no candidates; expected at least one.")
        looks = [[self._look(candidate) for candidate in screen] for screen, _ in entries]
        stored: list[tuple[Candidate, ...]] = []
        with self._store.writing() as database:
            number = int(database.execute("SELECT coalesce(max(screen), 0) FROM shown").fetchone()[0])
            new: dict[str, tuple[Candidate, _Look]] = {}
            for (screen, _), seen in zip(entries, looks, strict=True):
                if source and all(_exists(database, candidate.id) for candidate in screen):
                    stored.append(())
                    continue
                number += 1
                placed = tuple(
                    replace(candidate, id=candidate.id or f"{number:06d}-{slot}", screen=number, slot=slot)
                    for slot, candidate in enumerate(screen)
                )
                if len({candidate.id for candidate in placed}) < len(placed):
                    raise InputError("a screen shows a candidate twice; expected different candidates.")
                for candidate, look in zip(placed, seen, strict=True):
                    if not _known_already(database, candidate, look, new):
                        new[candidate.id] = candidate, look
                stored.append(placed)
            self._insert_candidates(database, list(new.values()), source)
            for placed, (_, judgement) in zip(stored, entries, strict=True):
                if placed:
                    _insert_screen(database, placed, source)
                if placed and judgement is not None:
                    _insert_judgement(database, judgement, source)
        return stored

    def _look(self, candidate: Candidate) -> _Look:
        """What identifies a candidate; its image is on the disk afterwards."""
        if candidate.image is None:
            return _Look(candidate.dimension, checksum(candidate.latent), None, None)
        return _Look(
            candidate.dimension,
            checksum(candidate.latent),
            image_hash(candidate.image),
            self.keep_image(candidate.image),
        )

    def _insert_candidates(self, database: Connection, new: list[tuple[Candidate, _Look]], source: str) -> None:
        """Latents first, on the disk; then the rows that name them."""
        for dimension in sorted({candidate.dimension for candidate, _ in new}):
            group = [(candidate, look) for candidate, look in new if candidate.dimension == dimension]
            query = "SELECT coalesce(max(row) + 1, 0) FROM candidates WHERE dimension = ?"
            first = int(database.execute(query, (dimension,)).fetchone()[0])
            self._blocks.write(dimension, first, [candidate.latent for candidate, _ in group])
            for row, (candidate, look) in enumerate(group, first):
                database.execute(
                    "INSERT OR IGNORE INTO frames VALUES (?, ?)", (candidate.frame.key, candidate.frame.to_json())
                )
                stored = (candidate.id, dimension, row, look.checksum, look.pixels, look.image, candidate.frame.key)
                about = (source, bool(candidate.provenance.get(OFFSET)), _provenance(candidate))
                database.execute("INSERT INTO candidates VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*stored, *about))

    # What was said

    def judge(self, judgement: Judgement) -> int:
        """Record a judgement; durable when it returns.

        Returns
        -------
        int
            Its position.

        Raises
        ------
        InputError
            It names a candidate that was never shown.
        UnavailableError
            The disk is full or fails; nothing was stored, and the ledger can be used on.
        """
        with self._store.writing() as database:
            return _insert_judgement(database, judgement, "")

    def undo(self, position: int | None = None) -> int:
        """Take a judgement back by a tombstone: the last one that counts (again and again, so one goes further back),
        or a given one.

        Without a position, imported judgements stay.

        Returns
        -------
        int
            Position of the judgement that no longer counts.

        Raises
        ------
        InputError
            There is nothing to undo, or no judgement that counts has that position.
        """
        with self._store.writing() as database:
            which = "e.position = ?" if position is not None else "e.source = ?"
            found = database.execute(
                f"SELECT max(e.position) FROM events e WHERE {LIVE} AND {which}",
                (FOREVER, FOREVER, "" if position is None else position),
            ).fetchone()[0]
            if found is None and position is None:
                raise InputError("there is nothing to undo: no judgement counts.")
            if found is None:
                raise InputError(
                    f"there is no judgement at position {position} that counts; look at the events of the ledger."
                )
            database.execute(
                "INSERT INTO events (kind, time, source, target) VALUES ('undo', ?, '', ?)", (utc_now(), found)
            )
            return int(found)

    # What is there

    def events(self, after: int = 0) -> Iterator[Event]:
        """Everything that happened after a position, in order."""
        return events(self._store, after)

    def judgements(self) -> list[Said]:
        """The judgements that count, in order."""
        return judgements(self._store)

    def candidate(self, name: str, *, image: bool = True) -> Candidate:
        """A candidate as it was shown (on its first screen), read back and checked.

        Raises
        ------
        InputError
            Nothing of that id was shown, or what is stored is damaged.
        """
        query = "SELECT dimension, row, checksum, pixels, image, body, provenance FROM candidates JOIN frames ON frame = key WHERE id = ?"
        found = self._store.read(query, (name,))
        if not found:
            raise InputError(
                f"{self.folder}: no candidate {name!r} was shown; look at the events of the ledger for those that were."
            )
        dimension, row, expected, pixels, file, frame, provenance = found[0]
        if self._blocks.damaged(dimension, [row], [expected]):
            raise InputError(
                f"{self._blocks.path(dimension)}: row {row} is not what was stored; restore it from a copy of the "
                f"ledger."
            )
        picture = decode_png(self.files.get(file), file) if image and file else None
        if picture is not None and image_hash(picture) != pixels:
            raise InputError(
                f"{self.folder}: the image of {name!r} is not what was shown; restore it from a copy of the ledger."
            )
        screen, slot = self._store.read(
            "SELECT screen, slot FROM shown WHERE candidate = ? ORDER BY screen LIMIT 1", (name,)
        )[0]
        return Candidate(
            self._blocks.view(dimension)[row],
            Frame.from_json(frame),
            picture,
            name,
            int(screen),
            int(slot),
            json.loads(provenance),
        )

    def image_file(self, name: str) -> Path | None:
        """The PNG file of a candidate's image, None when it was shown without one."""
        found = self._store.read("SELECT image FROM candidates WHERE id = ?", (name,))
        return self.files.path(found[0][0]) if found and found[0][0] else None

    def observations(
        self, frame: Frame, dimension: int, *, use_legacy: bool = False, until: int | None = None
    ) -> Observations:
        """The judgements that a fit for ``frame`` uses, with their latents, and a report of the others.

        Used are judgements whose candidates all have that dimension and the frame's prompt, negative prompt, model and
        size. Imported ones join with ``use_legacy``; of their frame the prompt alone is known and compared. No latent
        is copied while the judged rows lie together in the file.

        Parameters
        ----------
        frame : Frame
        dimension : int
            d of the latents.
        use_legacy : bool
            Let imported rows in.
        until : int, optional
            Leave out what came after this position, as a replay does.
        """
        return self._observer.observe(frame, dimension, use_legacy, until)


@dataclass(frozen=True)
class _Look:
    dimension: int
    checksum: int
    pixels: str | None
    image: str | None


def _exists(database: Connection, name: str) -> bool:
    return database.execute("SELECT 1 FROM candidates WHERE id = ?", (name,)).fetchone() is not None


def _known_already(
    database: Connection, candidate: Candidate, look: _Look, new: dict[str, tuple[Candidate, _Look]]
) -> bool:
    """Whether the ledger, or an earlier screen of the same call, has the candidate; its id must not belong to
    another.
    """
    found = database.execute(
        "SELECT dimension, checksum, pixels, image FROM candidates WHERE id = ?", (candidate.id,)
    ).fetchone()
    known = _Look(*found) if found else new[candidate.id][1] if candidate.id in new else None
    if known is None:
        return False
    if (known.dimension, known.checksum) != (look.dimension, look.checksum) or look.pixels not in (None, known.pixels):
        raise InputError(
            f"the id {candidate.id!r} belongs to another latent or image; give each candidate an id of its own, or "
            f"none."
        )
    return True


def _provenance(candidate: Candidate) -> str:
    try:
        return json.dumps(dict(candidate.provenance), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the provenance of the candidate {candidate.id!r} is no JSON ({error}); give plain numbers and text."
        ) from None


def _insert_screen(database: Connection, placed: tuple[Candidate, ...], source: str) -> None:
    screen = placed[0].screen
    database.execute(
        "INSERT INTO events (kind, time, source, screen) VALUES ('screen', ?, ?, ?)", (utc_now(), source, screen)
    )
    database.executemany(
        "INSERT INTO shown VALUES (?, ?, ?)", [(screen, candidate.slot, candidate.id) for candidate in placed]
    )


def _insert_judgement(database: Connection, judgement: Judgement, source: str) -> int:
    latest: list[int] = []
    for name in judgement.ids:
        screen = database.execute("SELECT max(screen) FROM shown WHERE candidate = ?", (name,)).fetchone()[0]
        if screen is None:
            raise InputError(
                f"the judgement names the candidate {name!r}, which this ledger never showed; show it first."
            )
        latest.append(screen)
    values = (judgement.time, source, max(latest), judgement.to_json())
    done = database.execute(
        "INSERT INTO events (kind, time, source, screen, body) VALUES ('judgement', ?, ?, ?, ?)", values
    )
    return int(done.lastrowid or 0)
