"""``prefer label``: a session at the terminal."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from diptych.cli.generate import verb
from diptych.cli.output import Report, printable, table
from diptych.cli.prefer import Folder, logged, open_session
from diptych.errors import InputError
from diptych.prefer.options import SessionOptions
from diptych.runtime.option_fields import Choices

if TYPE_CHECKING:
    from diptych.prefer.judgement import Candidate, Judgement
    from diptych.prefer.session.session import Session

HELP = """g or b: all good or bad; g2 or b2: image 2 alone; 1 to 9: the best of the screen (one image: stars, 1 to 5);
s: skip; u: undo the last answer; q: quit. Several answers may stand on one line."""


@verb(SessionOptions)
@logged
def label(folder: Folder = None, /, *, choices: Choices) -> Report:
    """Show the paths of images and take answers, a line for each screen, until q or the end of the input."""
    with open_session(folder, choices, create=True) as session:
        print(HELP)
        session.wait()
        before = session.rows
        try:
            answered = _loop(session)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"interrupted; every answer is kept in {session.ledger.folder}.") from None
        session.wait()
        data = {
            "session": session.ledger.folder,
            "rows": session.rows,
            "new": session.rows - before,
            "screens": answered,
        }
        scores = session.scores()
        return Report(
            {**data, "status": session.state.status, "left_out": _hits(scores.left_out)}, [table(data), str(scores)]
        )


def _loop(session: Session) -> int:
    screens = 0
    while True:
        screen = (session.queue.take(),) if session.options.batch == 1 else session.ask()
        screens += 1
        values = session.score(screen)[0]
        for number, (candidate, value) in enumerate(zip(screen, values, strict=True), start=1):
            shown = "n/a" if value != value else f"{value:.2f}"
            print(printable(f"{number}  {session.ledger.image_file(candidate.id)}  value {shown}"))
        while True:
            print(f"[{session.rows} rows] > ", end="", flush=True)
            line = sys.stdin.readline()
            answers = line.lower().split()
            if not line or "q" in answers:
                return screens
            try:
                if answers and _answer(session, screen, answers):
                    break
            except InputError as error:
                print(error)


def _answer(session: Session, screen: Sequence[Candidate], answers: Sequence[str]) -> bool:
    """Tell what a line says; whether the screen is done with. Nothing is told when part of the line is wrong."""
    if answers == ["u"]:
        session.undo()
        print(f"taken back; {session.rows} rows.")
        return False
    said = [judgement for answer in answers for judgement in read_answer(answer, screen)]
    for judgement in said:
        session.tell(judgement)
    return True


def read_answer(answer: str, screen: Sequence[Candidate]) -> list[Judgement]:
    """The judgements of one answer on a screen.

    Raises
    ------
    InputError
        It is no answer, or names an image that is not there.
    """
    from diptych.prefer.judgement import Judgement

    found = re.fullmatch(r"([gbs]?)([1-9]?)", answer)
    if not found or not answer:
        raise InputError(repr(answer), "is not an answer", " ".join(HELP.split()))
    letter, number = found[1], int(found[2] or 0)
    if not letter and len(screen) == 1:
        return [Judgement.stars(screen[0], number)]
    if number > len(screen):
        raise InputError(repr(answer), f"the screen has {len(screen)} images", "a number up to that")
    if not letter:
        return [Judgement.choose(screen[number - 1], screen)]
    meant = [screen[number - 1]] if number else screen
    return [Judgement.skip(one) if letter == "s" else Judgement.rate(one, good=letter == "g") for one in meant]


def _hits(agreement: Any) -> list[int] | None:
    return None if agreement is None else [agreement.hits, agreement.total]
