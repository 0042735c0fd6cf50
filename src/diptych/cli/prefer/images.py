"""``prefer upload`` and ``match``: images of one's own in a session."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from diptych.cli.generate import verb
from diptych.cli.output import Report, Verbatim, steps, table
from diptych.cli.prefer import Folder, logged, opened_session, repeated
from diptych.cli.scans import Overwrite
from diptych.errors import InputError
from diptych.prefer.options import SessionOptions
from diptych.runtime.files import check_output
from diptych.runtime.option_fields import Choices
from diptych.runtime.progress import Progress

if TYPE_CHECKING:
    from diptych.prefer.judgement import Candidate
    from diptych.prefer.session.session import Session

Image = Annotated[Path, Parameter(name="--image", help="A PNG, JPEG or WebP file.")]


@verb(SessionOptions)
@logged
def upload(
    folder: Folder = None,
    /,
    *,
    image: Image,
    share: Annotated[float, Parameter(help="Share of your image in the blend, 0 to 1; the rest is the anchor.")] = 0.5,
    choices: Choices,
) -> Report:
    """Blend an image of your own with the anchor; `label` then shows the blend first, to be judged."""
    from diptych.prefer.exchange.pictures import load_image
    from diptych.prefer.match import colours_lost

    pixels = load_image(image)  # before a session is made
    with opened_session(folder, choices, create=True) as (session, status):
        with status.doing("decoding the blend"):
            shown = session.upload(pixels, share)
        data = {"id": shown.id, "file": str(session.ledger.image_file(shown.id)), "share": share}
        lost = colours_lost(session.decoder)
        judge = _how_to_judge(session, shown, repeated(session.ledger.folder, choices))
    told = {"image": shown.id, "file": data["file"], "share": f"{share:g} of your image, the rest is the anchor"}
    return Report({**data, "note": lost}, [table(told), *filter(None, [lost]), judge])


@verb(SessionOptions)
@logged
def match(
    folder: Folder = None,
    /,
    *,
    image: Image,
    decodes: Annotated[int, Parameter(help="Images to try.")] = 300,
    out: Annotated[Path, Parameter(help="The .png file to write; it holds the latent, too.")] = Path("match.png"),
    overwrite: Overwrite = False,
    choices: Choices,
) -> Report:
    """Search for the latent whose image resembles one of yours most; it is shown in the session, and saved."""
    from diptych.prefer.exchange.pictures import load_image, save_picture

    if decodes < 1:
        raise InputError(f"--decodes {decodes}", expected="1 or more")
    check_output(out, (".png",), overwrite=overwrite)
    pixels = load_image(image)  # before a session is made
    with opened_session(folder, choices, create=True) as (session, status):
        with status.doing("searching"):
            search = session.match(pixels)
            for number in range(decodes):
                status(Progress("images", number, decodes))
                search.step()
            shown = session.show(session.decode(search.best.latent, proposal="match", decodes=decodes))[0]
        save_picture(shown, out)
        first, last = (error**0.5 for error in (search.errors[0], search.best.error))
        data = {"id": shown.id, "file": str(out), "first_error_grey_levels": first, "error_grey_levels": last}
        judge = _how_to_judge(session, shown, repeated(session.ledger.folder, choices))
    told = {
        "image": shown.id,
        "file": str(out),
        "difference": f"{last:.1f} grey levels (root mean square; {first:.1f} at the first try)",
    }
    return Report(data, [table(told), judge])


def _how_to_judge(session: Session, shown: Candidate, flags: str) -> Verbatim:
    """The command that shows the image first, or, if it was judged before, the answer that shows it again."""
    first = next(iter(session.unanswered), ())
    how = "it comes first" if [one.id for one in first] == [shown.id] else f"answer: a image {shown.id}"
    command = f"diptych prefer label {shlex.quote(str(session.ledger.folder))}{flags}"
    return steps((f"To judge it ({how})", command))
