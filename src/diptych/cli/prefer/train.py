"""``prefer train`` and ``simulate``."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from cyclopts import Parameter

from diptych.cli.generate import verb
from diptych.cli.output import Report, table
from diptych.cli.prefer import Folder, given_options, home_of, logged, open_ledger, opened_session
from diptych.errors import InputError, UnavailableError
from diptych.prefer.options import SessionOptions
from diptych.runtime.logging import LOGGER
from diptych.runtime.option_fields import Choices
from diptych.runtime.progress import Progress

if TYPE_CHECKING:
    from diptych.prefer.judgement import Frame, Observations
    from diptych.prefer.ledger.ledger import Ledger
    from diptych.prefer.session.session import Session
    from diptych.prefer.utility import Utility

ValueModel = Literal["contrastive", "ridge", "logistic", "xgboost", "distance", "cosine"]


@verb(SessionOptions)
@logged
def train(
    folder: Folder = None,
    /,
    *,
    value_model: Annotated[ValueModel, Parameter(help="The model.")] = "xgboost",
    n_estimators: Annotated[int, Parameter(help="Trees of xgboost.")] = 50,
    max_depth: Annotated[int, Parameter(help="Depth of a tree of xgboost.")] = 3,
    anchor: Annotated[
        Literal["prompt"] | None, Parameter(help="Rows of row folders are differences from the anchor of this.")
    ] = None,
    save: Annotated[bool, Parameter(help="Write the model.", negative="--no-save")] = True,
    model_dir: Annotated[Path, Parameter(help="Folder to write it to.")] = Path(),
    choices: Choices,
) -> Report:
    """Train on the judgements of a session, or on the row folders of a prompt where there is no session."""
    from diptych.prefer.exchange.predecessor import prompt_hash
    from diptych.prefer.exchange.utility_files import save_model

    if n_estimators < 1 or max_depth < 1:
        raise InputError(f"--n-estimators {n_estimators} --max-depth {max_depth}", expected="1 or more of both")
    if value_model == "xgboost" and find_spec("xgboost") is None:
        raise UnavailableError(
            "train: xgboost is not installed; run `pip install 'diptych[prefer]'`, or choose another --value-model."
        )
    home = home_of(folder, choices)
    with _stored(home, choices, anchor) as (ledger, prompt, use_legacy):
        observations = _largest(ledger, prompt, use_legacy, home)
        model, status, seconds = _fit(value_model, n_estimators, max_depth, observations)
        fitted = model.fitted
        if fitted is None:
            raise InputError(home, f"{value_model} cannot be trained ({status})", remedy="Judge more images.")
        count, tag = len(observations.terms), "xgb" if value_model == "xgboost" else value_model
        lam = "" if (found := getattr(fitted, "lam", None)) is None else f" lam={found:g}"
        LOGGER.info(
            "[train-summary] %s rows=%d%s n_estimators=%d ms=%.0f", tag, count, lam, n_estimators, 1000 * seconds
        )
        name = f"{'xgb' if value_model == 'xgboost' else value_model}_model_{prompt_hash(prompt)}"
        about = {"model": value_model, "prompt": prompt, "rows": str(count)}
        files = save_model(fitted, model_dir, name, about) if save else []
        train_score = fitted.train
    data = {
        "model": value_model,
        "rows": count,
        "dimension": fitted.dimension,
        "train": [train_score.hits, train_score.total],
    }
    shown = {
        "model": value_model,
        "judgements": str(observations.report),
        "dimension": fitted.dimension,
        "training agreement": str(train_score),
        "seconds": seconds,
    }
    return Report(
        {**data, "seconds": seconds, "files": files}, [table({**shown, "files": [str(file) for file in files]})]
    )


@verb(SessionOptions)
@logged
def simulate(
    folder: Folder = None,
    /,
    *,
    labels: Annotated[int, Parameter(help="Images to be judged.")] = 100,
    person: Annotated[int, Parameter(help="Seed of the person.")] = 0,
    add: Annotated[
        bool, Parameter(help="Also into a session that a person judged; the judgements are marked.", negative=())
    ] = False,
    choices: Choices,
) -> Report:
    """Let a simulated person with a random linear utility rate images; report the true utility of the best one. The
    judgements are marked as simulated, and a session that a person judged is refused.
    """
    from diptych.prefer.decoders import spread_points
    from diptych.prefer.judgement import Judgement
    from diptych.prefer.person import LinearPerson
    from diptych.prefer.session.answers import SIMULATED

    if labels < 1:
        raise InputError(f"--labels {labels}", expected="1 or more")
    with (
        opened_session(folder, choices, create=True, synchronous=True) as (session, status),
        status.doing("simulating"),
    ):
        refuse_persons(session, add=add)
        usual = spread_points(session.decoder) if session.decoder.space == "cube" else None
        someone, shown, said = LinearPerson(session.dimension, person, usual), [], 0
        while said < labels:
            for candidate in session.ask(min(session.options.batch, labels - said)):
                shown.append(someone.utility(candidate))
                session.tell(Judgement.rate(candidate, good=someone.rate(candidate)), source=SIMULATED)
                said += 1
            status(Progress("judgements", said, labels))
        known = session.fitted is not None
        recommended = someone.utility(session.best()) if known else float("nan")
        data = {
            "session": str(session.ledger.folder),
            "rows": session.rows,
            "dimension": session.dimension,
            "status": session.state.status,
        }
        found = {"recommended_sigma": recommended, "shown_sigma": float(np.mean(shown[-20:]))}
        told = {"judgements" if name == "rows" else name: value for name, value in data.items()}
        return Report({**data, **found}, [table({**told, **found}), str(session.scores())])


def refuse_persons(session: Session, *, add: bool) -> None:
    """Raise InputError if the session has judgements of a person, unless simulated ones may be added to them."""
    from diptych.prefer.session.answers import SIMULATED

    real = sum(said.source != SIMULATED for said in session.ledger.judgements())
    if real and not add:
        raise InputError(
            session.ledger.folder,
            f"has {real} judgements of a person",
            "a folder of its own for simulated judgements",
            "Name another folder, or pass --add to mix them.",
        )


@contextmanager
def _stored(home: Path, choices: Choices, anchor: Literal["prompt"] | None) -> Iterator[tuple[Ledger, str, bool]]:
    """The ledger of a session, or one that holds its row folders for the time being; the prompt; whether imported rows
    are used.
    """
    from diptych.prefer.exchange.row_folders import import_rows
    from diptych.prefer.ledger.ledger import Ledger
    from diptych.prefer.ledger.store import NAME
    from diptych.prefer.session.folder import merged, prompt_of, read_settings

    options = merged(read_settings(home), given_options(choices))
    if (home / NAME).is_file():
        with open_ledger(home) as ledger:
            yield ledger, prompt_of(ledger, options) or "", options.use_legacy
        return
    if options.prompt is None:
        raise InputError(home, "has no session, and no prompt is given", "--prompt with the prompt of the row folders")
    with tempfile.TemporaryDirectory() as scratch, Ledger.open(scratch) as ledger:
        import_rows(ledger, home, options.prompt, anchor=anchor)
        yield ledger, options.prompt, True


def _largest(ledger: Ledger, prompt: str, use_legacy: bool, home: Path) -> Observations:
    """The judgements of a prompt, of the frame and dimension with the most judgements."""
    frames: dict[tuple[Frame, int], None] = {}
    for said in ledger.judgements():
        candidate = ledger.candidate(said.judgement.ids[0], image=False)
        if candidate.frame.prompt == prompt:
            frames[candidate.frame, candidate.dimension] = None
    found = [ledger.observations(frame, dimension, use_legacy=use_legacy) for frame, dimension in frames]
    best = max(found, key=lambda one: len(one.terms), default=None)
    if best is None or not best.terms:
        why = f" ({best.report})" if best is not None else ""
        raise InputError(
            home,
            f"holds no judgements of {prompt!r} to train on{why}",
            remedy="Judge some images, or pass the prompt of the judgements it holds.",
        )
    return best


def _fit(name: str, trees: int, depth: int, observations: Observations) -> tuple[Utility, str, float]:
    from diptych.prefer import utility

    options: dict[str, Any] = {"trees": trees, "depth": depth} if name == "xgboost" else {}
    model = utility.make_utility(name, **options)
    began = time.perf_counter()
    status = model.fit(observations)
    return model, status, time.perf_counter() - began
