"""Writing to a ledger: statements of a transaction that store candidates, screens, judgements and previews."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from sqlite3 import Connection

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.prefer.judgement import Candidate, Frame, Judgement
from diptych.prefer.ledger.files import Blocks
from diptych.prefer.ledger.reading import FOREVER, LEGACY, LIVE, last_number, preview_body
from diptych.runtime.provenance import utc_now

OFFSET = "offset"
"""Key in the provenance of an imported row that is not a latent, but the difference between a latent and an anchor that
was not recorded."""


@dataclass(frozen=True)
class Identity:
    """What identifies a candidate in the database: dimension, CRC-32 of the latent, hash of the pixels, name of the
    image file.
    """

    dimension: int
    checksum: int
    pixels: str | None
    image: str | None


def place_screens(
    database: Connection,
    entries: Sequence[tuple[Sequence[Candidate], Sequence[Identity]]],
    *,
    skip_known: bool,
) -> tuple[list[tuple[Candidate, ...]], list[tuple[Candidate, Identity]]]:
    """Give ids, screen numbers and slots to the candidates of several screens. New ids count screens of new images
    only, so that showing images again uses up no number that a person sees.

    Parameters
    ----------
    entries : sequence of (candidates, identities)
        One per screen.
    skip_known : bool
        Leave out (as an empty tuple) screens whose candidates are all in the database already.

    Returns
    -------
    screens : list of tuple of Candidate
    new : list of (Candidate, Identity)
        Those that the database does not have.

    Raises
    ------
    InputError
        If a screen has a candidate twice, or an id belongs to another latent or image.
    """
    number = int(database.execute("SELECT coalesce(max(screen), 0) FROM shown").fetchone()[0])
    fresh = last_number(lambda query: database.execute(query).fetchall())
    screens: list[tuple[Candidate, ...]] = []
    new: dict[str, tuple[Candidate, Identity]] = {}
    for screen, identities in entries:
        if skip_known and all(_exists(database, candidate.id) for candidate in screen):
            screens.append(())
            continue
        number += 1
        fresh += not all(candidate.id for candidate in screen)
        placed = tuple(
            replace(candidate, id=candidate.id or f"{fresh:06d}-{slot}", screen=number, slot=slot)
            for slot, candidate in enumerate(screen)
        )
        if len({candidate.id for candidate in placed}) < len(placed):
            raise InputError("screen", "shows a candidate twice", "different candidates")
        for candidate, identity in zip(placed, identities, strict=True):
            if not _is_known(database, candidate, identity, new):
                new[candidate.id] = candidate, identity
        screens.append(placed)
    return screens, list(new.values())


def insert_candidates(
    database: Connection, blocks: Blocks, new: Sequence[tuple[Candidate, Identity]], source: str
) -> None:
    """Write the latents to disk, then insert the rows that refer to them."""
    for dimension in sorted({candidate.dimension for candidate, _ in new}):
        group = [(candidate, identity) for candidate, identity in new if candidate.dimension == dimension]
        query = "SELECT coalesce(max(row) + 1, 0) FROM candidates WHERE dimension = ?"
        first = int(database.execute(query, (dimension,)).fetchone()[0])
        blocks.write(dimension, first, [candidate.latent for candidate, _ in group])
        for row, (candidate, identity) in enumerate(group, first):
            _insert_frame(database, candidate.frame)
            stored = (candidate.id, dimension, row, identity.checksum, identity.pixels, identity.image)
            about = (candidate.frame.key, source, bool(candidate.provenance.get(OFFSET)), _provenance(candidate))
            database.execute("INSERT INTO candidates VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*stored, *about))


def insert_screen(database: Connection, placed: tuple[Candidate, ...], source: str) -> None:
    """The event of a screen, and the candidates on it."""
    screen = placed[0].screen
    database.execute(
        "INSERT INTO events (kind, time, source, screen) VALUES ('screen', ?, ?, ?)", (utc_now(), source, screen)
    )
    database.executemany(
        "INSERT INTO shown VALUES (?, ?, ?)", [(screen, candidate.slot, candidate.id) for candidate in placed]
    )


def insert_judgement(database: Connection, judgement: Judgement, source: str) -> int:
    """The event of a judgement; returns its position. Raises InputError for a candidate that was never shown."""
    latest: list[int] = []
    for name in judgement.ids:
        screen = database.execute("SELECT max(screen) FROM shown WHERE candidate = ?", (name,)).fetchone()[0]
        if screen is None:
            raise InputError(
                "judgement",
                f"names the candidate {name!r}, which was never shown in this ledger",
                "candidates that were shown",
            )
        latest.append(screen)
    values = (judgement.time, source, max(latest), judgement.to_json())
    done = database.execute(
        "INSERT INTO events (kind, time, source, screen, body) VALUES ('judgement', ?, ?, ?, ?)", values
    )
    return int(done.lastrowid or 0)


def insert_undo(database: Connection, position: int | None) -> int:
    """The tombstone of the judgement at a position, or of the last one that counts; returns the position that it
    undoes.
    """
    which = "e.position = ?" if position is not None else "e.source != ?"
    found = database.execute(
        f"SELECT max(e.position) FROM events e WHERE {LIVE} AND {which}",
        (FOREVER, FOREVER, LEGACY if position is None else position),
    ).fetchone()[0]
    if found is None and position is None:
        raise InputError("undo", "there is nothing to undo: the session has no judgements")
    if found is None:
        raise InputError(
            f"undo({position})", "no judgement that counts has this position", "a position that tell returned"
        )
    database.execute("INSERT INTO events (kind, time, source, target) VALUES ('undo', ?, '', ?)", (utc_now(), found))
    return int(found)


def insert_preview(
    database: Connection, frame: Frame, latent: NDArray[np.float32], features: NDArray[np.float32]
) -> None:
    """The event of a decoded image: its frame, its latent and its features."""
    _insert_frame(database, frame)
    database.execute(
        "INSERT INTO events (kind, time, source, body) VALUES ('preview', ?, '', ?)",
        (utc_now(), preview_body(frame, latent, features)),
    )


def _insert_frame(database: Connection, frame: Frame) -> None:
    database.execute("INSERT OR IGNORE INTO frames VALUES (?, ?)", (frame.key, frame.to_json()))


def _exists(database: Connection, name: str) -> bool:
    return database.execute("SELECT 1 FROM candidates WHERE id = ?", (name,)).fetchone() is not None


def _is_known(
    database: Connection, candidate: Candidate, identity: Identity, new: dict[str, tuple[Candidate, Identity]]
) -> bool:
    """Whether the database, or an earlier screen of the same call, has the candidate. Raises InputError if its id
    belongs to another latent or image.
    """
    found = database.execute(
        "SELECT dimension, checksum, pixels, image FROM candidates WHERE id = ?", (candidate.id,)
    ).fetchone()
    known = Identity(*found) if found else new[candidate.id][1] if candidate.id in new else None
    if known is None:
        return False
    same = (known.dimension, known.checksum) == (identity.dimension, identity.checksum)
    if not same or identity.pixels not in (None, known.pixels):
        raise InputError(
            f"candidate {candidate.id!r}", "its id belongs to another latent or image", "a unique id, or none"
        )
    return True


def _provenance(candidate: Candidate) -> str:
    try:
        return json.dumps(dict(candidate.provenance), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"candidate {candidate.id!r}",
            f"its provenance cannot be written as JSON ({error})",
            "plain numbers and text",
        ) from None
