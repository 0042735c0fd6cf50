"""``prefer label``: a session at the terminal."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.cli.generate import verb
from diptych.cli.output import Report, Verbatim, cell, printable, steps, table
from diptych.cli.prefer import Folder, logged, opened_session, repeated
from diptych.cli.prefer.sheet import write_sheet
from diptych.cli.prefer.status import Status, drop_what_was_typed, settle
from diptych.errors import InputError
from diptych.prefer.options import SessionOptions
from diptych.runtime.option_fields import Choices

if TYPE_CHECKING:
    from diptych.prefer.judgement import Candidate, Judgement
    from diptych.prefer.judgement import Report as Counts
    from diptych.prefer.session.session import Session
    from diptych.prefer.session.state import Scores

HELP = """g or b: all good or bad; g2 or b2: image 2 alone; 1 to 9: the best of the screen (one image: stars, 1 to 5);
t12: images 1 and 2 are equally good; s: skip; behind an answer *2: its weight (g2*2 counts twice);
u: undo the last answer and show its screen again; a: show the screen before again, a once more: back;
a screen 3: show that screen again; a image 000003-1: that image, the second of screen 3 (ids count from 0);
an answer after a counts beside the earlier one, u corrects the last one;
?: this list; q: quit. Several answers may stand on one line, one for each image; they are undone together.
An image without an answer on a screen that has one is neither good nor bad for the model; it does not come back by
itself, but a shows it again. value: predicted utility, in standard deviations; higher is better."""

FIT_HELP = """fit: misfit to the patterns, 1 is shot noise alone; held out: the same on pixels that were not fitted.
A smooth image whose fit is clearly above 1, or above those of other images, may be underfitted: structure is missing.
flags: what is doubtful, in the words of reconstruct; `diptych reconstruct` explains each."""

_ANSWER = re.compile(r"([gbst]?)([1-9]{0,9})(?:\*(\d+\.?\d*|\.\d+))?")


@verb(SessionOptions)
@logged
def label(folder: Folder = None, /, *, choices: Choices) -> Report:
    """Show the paths of images and take answers, a line for each screen, until q or the end of the input."""
    with opened_session(folder, choices, create=True) as (session, status):
        labelling = _Labelling(session, status)
        print(labelling.help)
        session.wait()
        if others := _others(labelling.report):
            print(others)
        before = session.rows, session.ledger.skips
        try:
            labelling.run()
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"interrupted; every answer is kept in {session.ledger.folder}.") from None
        session.wait()
        rows, skips = session.rows, session.ledger.skips
        new, report = rows - before[0], labelling.report
        these = f"; {report.used} count for this prompt and model" if report.unused else ""
        said = {
            "session": session.ledger.folder,
            "judgements": f"{_since(rows - skips, before[0] - before[1])}{these}",
            "skips": _since(skips, before[1]),
            "screens": f"{labelling.screens} new ones in this run",
        }
        data = {"session": said["session"], "rows": rows, "skips": skips, "new": new, "screens": labelling.screens}
        scores = session.scores()
        left_out = scores.left_out
        hits = None if left_out is None else [left_out.hits, left_out.total]
        then = _next_steps(session, repeated(session.ledger.folder, choices))
        return Report({**data, "status": session.state.status, "left_out": hits}, [table(said), f"{scores}\n", then])


def _others(report: Counts) -> str:
    """What the session holds besides the judgements of this prompt and model; empty if nothing."""
    if not report.unused:
        return ""
    from diptych.prefer.session.answers import counted

    reasons = ", ".join(f"{count} ({reason})" for reason, count in report.unused.items())
    used = counted(report.used, report.skips)
    return f"{used} of this session count for this prompt and model; others do not: {reasons}"


def _next_steps(session: Session, flags: str) -> Verbatim:
    """How to continue, and how to take the best away, with the flags that hold for this run only."""
    from diptych.prefer.decoders.protocols import Configures

    folder = shlex.quote(str(session.ledger.folder)) + flags
    name = _free_name(session.ledger.folder.name)
    what = f"the best image as {name}.png"
    if isinstance(session.decoder, Configures):
        what += f", and its settings as {name}.yaml"
    when = "" if session.fitted is not None else ", once some images are judged"
    # Of settings, the best one has always been judged.
    when += "" if isinstance(session.decoder, Configures) else " (--seen: one that you have judged)"
    return steps(
        ("To continue", f"diptych prefer label {folder}"),
        (f"To save {what}{when}", f"diptych prefer best {folder} --out {shlex.quote(f'{name}.png')}"),
    )


def _free_name(name: str) -> str:
    """The name, with a number if the image or the settings of that name are there already."""
    number, found = 1, name
    while any(Path(f"{found}{suffix}").exists() for suffix in (".png", ".yaml")):
        number += 1
        found = f"{name}-{number}"
    return found


class _Labelling:
    """The screens of a session, one after the other, until q or the end of the input."""

    def __init__(self, session: Session, status: Status) -> None:
        from diptych.prefer.decoders.protocols import Configures

        self.session, self.status, self.screens = session, status, 0
        self.help = f"{HELP}\n{FIT_HELP}" if isinstance(session.decoder, Configures) else HELP
        self._waiting: list[Sequence[Candidate]] = []
        self._judged: list[Sequence[Candidate]] = []
        self._looking = False
        self._states: dict[tuple[str, ...], str] = {}

    @property
    def report(self) -> Counts:
        """How many judgements count for this prompt and model, and how many do not."""
        session = self.session
        use_legacy = session.options.use_legacy
        return session.ledger.observations(session.frame, session.dimension, use_legacy=use_legacy).report

    def run(self) -> None:
        """Show screens, those first that earlier runs left without an answer, and take answers."""
        self._waiting = list(reversed(self.session.unanswered))
        self._states = {_ids(screen): ", which has no answer yet" for screen in self._waiting}
        if len(self._waiting) > 1:
            names = ", ".join(f"{self._name(_ids(each))}{_whose(each)}" for each in reversed(self._waiting))
            print(printable(f"{len(self._waiting)} screens have no answer yet and come first, in this order: {names}"))
        screen = self._next()
        while screen:
            drop_what_was_typed()
            self._print(screen)
            screen = self._judge(screen)

    def _next(self) -> Sequence[Candidate]:
        """A screen that waits to be shown again, or a new one."""
        if self._waiting:
            return self._waiting.pop()
        single = self.session.options.batch == 1
        settle(self.session)
        with self.status.doing("making one image" if single else "making a screen of images"):
            screen = (self.session.queue.take(),) if single else self.session.ask()
        self.screens += 1
        self._states[_ids(screen)] = ""
        return screen

    def _name(self, names: Sequence[str]) -> str:
        """What a screen is called: its number, or the images where they were not first shown together."""
        number = self.session.ledger.screen_of(names)
        if number is not None:
            return f"screen {number}"
        return f"image{'s' if len(names) > 1 else ''} {', '.join(names)}"

    def _print(self, screen: Sequence[Candidate]) -> None:
        """The name of the screen, and one line for each image: number, id, value, fit and settings where it has them,
        and its file.
        """
        from diptych.prefer.decoders.protocols import config_of, measured_text
        from diptych.prefer.session.answers import counted
        from diptych.prefer.session.state import DOUBT

        names = _ids(screen)
        print(printable(f"\n{self._name(names)}{_whose(screen)}{self._states.get(names, ' again')}"))
        self._states[names] = " again"
        values, fitted, old = self._values(screen)
        for number, (candidate, value) in enumerate(zip(screen, values, strict=True), start=1):
            shown = "n/a" if value != value else f"{value:.2f}"
            settings = config_of(self.session.decoder, candidate.latent)
            parts = [f"{number}  image {candidate.id}", f"value {shown}", measured_text(candidate)]
            parts += [f"{name}={cell(setting)}" for name, setting in settings.items()]
            parts.append(str(self.session.ledger.image_file(candidate.id)))
            print(printable("  ".join(filter(None, parts))))
        if (sheet := write_sheet(screen, self.session.ledger.folder)) is not None:
            print(printable(f"{'all of them' if len(screen) > 1 else 'the image of this screen'}: {sheet}"))
        if fitted.train is not None:
            if old:
                print(f"values of the fit of {counted(fitted.fitted_to)}; a new fit is running")
            if fitted.doubt:
                print(printable(f"{DOUBT}: {fitted.doubt}"))

    def _values(self, screen: Sequence[Candidate]) -> tuple[list[float], Scores, bool]:
        """Values of images, the scores of their fit, and whether judgements were added or undone since."""
        ledger = self.session.ledger
        while True:
            position = self.session.state.fit_position
            values, scores = self.session.score(screen)[0].tolist(), self.session.scores()
            if self.session.state.fit_position == position:
                return values, scores, position < ledger.last_change(ledger.position)

    def _judge(self, screen: Sequence[Candidate]) -> Sequence[Candidate]:
        """Take answers on a screen; returns the next one, which is empty at the end."""
        from diptych.prefer.session.answers import counted

        while True:
            report = self.report
            count = counted(report.used, report.skips)
            print(printable(f"[{self._name(_ids(screen))}; {count} so far] > "), end="", flush=True)
            line = sys.stdin.readline()
            if not line:
                print()
            answers = line.split()
            last = bool(answers) and answers[-1].lower() == "q"
            if not line or (last and len(answers) == 1):
                return ()
            try:
                if last:
                    self._told(screen, answers[:-1])
                    return ()
                if answers and (found := self._answered(screen, answers)) is not None:
                    return found
            except InputError as error:
                print(error)

    def _answered(self, screen: Sequence[Candidate], answers: Sequence[str]) -> Sequence[Candidate] | None:
        """Do what a line says; returns the next screen, or None if this one is still to be judged. Nothing is stored
        when part of the line is wrong.
        """
        first = answers[0].lower()
        if first in ("?", "h", "help"):
            print(self.help)
            return None
        if first in ("u", "a"):
            if first == "u" and len(answers) > 1:
                raise InputError(repr(" ".join(answers)), "undo stands alone", "u")
            return self._undone(screen) if first == "u" else self._again(screen, answers[1:])
        self._told(screen, answers)
        self._judged.append(screen)
        self._looking = False
        return self._next()

    def _told(self, screen: Sequence[Candidate], answers: Sequence[str]) -> None:
        """Store the judgements of a line."""
        said = [judgement for answer in answers for judgement in read_answer(answer.lower(), screen)]
        check_consistent(said, screen)
        self.session.tell(*said)
        for waiting in self._waiting:  # The next run begins with what was shown after the last answer.
            self.session.show(*waiting)

    def _undone(self, screen: Sequence[Candidate]) -> Sequence[Candidate]:
        from diptych.prefer.session.answers import counted

        undone = self.session.take_back()
        whose = f" From {undone.whose}." if undone.whose else ""
        skips = sum(judgement.kind == "skip" for judgement in undone.judgements)
        what = counted(len(undone.judgements) - skips, skips)
        ids = self.session.ledger.screen(undone.screen) or undone.ids
        print(printable(f"taken back: {what} of {self._name(ids)}.{whose}"))
        if self._judged and _ids(self._judged[-1]) == ids:
            self._judged.pop()
        if _ids(screen) != ids:  # Two undone answers may belong to one screen.
            self._wait(screen)
        return self.session.show(*(self.session.ledger.candidate(name) for name in ids))

    def _again(self, screen: Sequence[Candidate], words: Sequence[str]) -> Sequence[Candidate]:
        """The images that words name, or the screen before; where that is shown already, the one that waits."""
        if not words and self._looking:
            self._looking = False
            return self._waiting.pop()
        ledger = self.session.ledger
        names = self._named(words) or self._before(screen)
        if not names:
            raise InputError("'a'", "no other screen of this prompt and model is judged", "an answer to this one first")
        shown = self.session.show(*(ledger.candidate(name) for name in dict.fromkeys(names)))
        self._wait(screen)
        self._looking = True
        return shown

    def _before(self, screen: Sequence[Candidate]) -> tuple[str, ...]:
        """Ids of the screen that was judged last, in this run or, before its first answer, in earlier ones."""
        from diptych.prefer.session.answers import last_judged

        if self._judged:
            return _ids(self._judged[-1])
        return last_judged(self.session.ledger, self.session.frame, self.session.dimension, _ids(screen))

    def _wait(self, screen: Sequence[Candidate]) -> None:
        """Show a screen later, unless it was shown again only to be looked at."""
        if not self._looking:
            self._waiting.append(screen)
        self._looking = False

    def _named(self, words: Sequence[str]) -> list[str]:
        """Ids of the images that words name as they are printed: ``screen 3``, ``image 000003-1``, or the id alone."""
        names: list[str] = []
        rest = iter(words)
        for word in rest:
            if word.lower() == "screen":
                number = next(rest, "")
                ledger = self.session.ledger
                found = ledger.numbered(int(number)) if number.isdecimal() else ()
                if not found:
                    known = f"a number from 1 to {ledger.last_number}"
                    raise InputError(f"a screen {number}".rstrip(), "was not shown in this session", known)
                names += found
            elif word.lower().rstrip("s") != "image":
                name = word.rstrip(",")
                if self.session.ledger.image_file(name) is None:
                    raise InputError(f"a {name}", "no image of this session has that id", "an id, such as 000003-1")
                names.append(name)
        return names


def _whose(screen: Sequence[Candidate]) -> str:
    """In brackets, what a screen of an image of the person's own is."""
    made = {str(candidate.provenance.get("proposal")) for candidate in screen}
    return f" (your {made.pop()})" if made in ({"upload"}, {"match"}) else ""


def _since(now: int, before: int) -> str:
    """A count, and how it changed in this run, which can also undo what earlier ones stored."""
    return f"{now}, {now - before} more than before" if now >= before else f"{now}; this run took back {before - now}"


def _ids(screen: Sequence[Candidate]) -> tuple[str, ...]:
    return tuple(candidate.id for candidate in screen)


def check_consistent(said: Sequence[Judgement], screen: Sequence[Candidate]) -> None:
    """Refuse a line that judges an image twice, or names two as the best: it is a slip of the hand.

    Raises
    ------
    InputError
        It does.
    """
    numbers = {candidate.id: number for number, candidate in enumerate(screen, start=1)}
    judged = [judgement.ids[0] for judgement in said if judgement.kind in ("rate", "stars", "skip")]
    for name in judged:
        if judged.count(name) > 1:
            raise InputError(
                "line", f"judges image {numbers[name]} twice", "one answer for each image", "Answer again."
            )
    best = [judgement.ids[0] for judgement in said if judgement.kind == "best"]
    tied = [name for judgement in said if judgement.kind == "tie" for name in judgement.ids]
    if len(best) > 1:
        raise InputError("line", f"names {len(best)} images as the best", "one of them", "Answer again.")
    if best and best[0] in tied:
        what = f"image {numbers[best[0]]} is the best, and as good as another"
        raise InputError("line", what, "one of the two answers", "Answer again.")


def read_answer(answer: str, screen: Sequence[Candidate]) -> list[Judgement]:
    """The judgements of one answer on a screen.

    Raises
    ------
    InputError
        It is no answer, or names an image that is not there.
    """
    from diptych.prefer.judgement import Judgement

    found = _ANSWER.fullmatch(answer)
    letter, digits, weight = found.groups() if found else ("", "", None)
    numbers = [int(digit) for digit in digits]
    pairs = letter == "t"
    if pairs and not numbers and len(screen) == 2:
        numbers = [1, 2]
    if pairs and len(set(numbers)) != 2:
        raise InputError(repr(answer), *_which_tie(numbers, len(screen)))
    if not (letter or numbers) or len(numbers) > 1 + pairs:
        raise InputError(repr(answer), "is not an answer", "g, b, s, a number or t12, for example; ? lists them all")
    if weight is not None and letter == "s":
        raise InputError(repr(answer), "a skip has no weight", "s")
    heavy = 1.0 if weight is None else float(weight)
    if not letter and len(screen) == 1:
        if numbers[0] > 5:
            raise InputError(repr(answer), "one image has stars", "1 to 5")
        return [Judgement.stars(screen[0], numbers[0], heavy)]
    if max(numbers, default=0) > len(screen):
        raise InputError(
            repr(answer), f"the screen has {len(screen)} image{'s' if len(screen) > 1 else ''}", "a number up to that"
        )
    meant = [screen[number - 1] for number in numbers] or list(screen)
    if pairs:
        return [Judgement.tie(meant[0], meant[1], heavy)]
    if not letter:
        return [Judgement.choose(meant[0], screen, heavy)]
    return [Judgement.skip(one) if letter == "s" else Judgement.rate(one, letter == "g", heavy) for one in meant]


def _which_tie(numbers: Sequence[int], images: int) -> tuple[str, str]:
    """What is wrong with a tie that does not name two images of a screen, and what is expected."""
    if images == 1:
        return "the screen has one image, and a tie needs two", "g, b, s, or 1 to 5 stars"
    if numbers:
        return "does not name two different images", "t12, for example: images 1 and 2 are equally good"
    return f"does not say which two of the {images} images", "t12, for example: images 1 and 2 are equally good"
