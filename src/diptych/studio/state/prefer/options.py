"""Options of a session as fields of the side panel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from diptych.prefer.decoders.registry import DECODERS
from diptych.prefer.exchange.predecessor import prompt_hash
from diptych.prefer.options import SessionOptions
from diptych.prefer.propose import PROPOSALS
from diptych.prefer.session.factory import DEFAULTS
from diptych.prefer.session.session import Session
from diptych.prefer.utility import UTILITIES
from diptych.runtime.option_fields import OptionField, option_fields

PROMPT_SHOWN = 30
"""Characters of a recent prompt in the list."""

ASYNC = {"ridge": "Train Ridge async", "xgboost": "Train XGBoost async"}
"""Value models with a switch: off, the next pictures wait for the fit."""


def decoder_fields(name: str) -> list[OptionField]:
    """The options of a decoder."""
    return option_fields(DECODERS[name].options)


def utility_fields(name: str) -> list[OptionField]:
    """The parameters of a value model."""
    return option_fields(UTILITIES[name].options)


def proposal_fields(name: str) -> list[OptionField]:
    """The parameters of a proposal."""
    return option_fields(PROPOSALS[name].options)


def utilities(space: str) -> list[str]:
    """Value models of a space."""
    return [entry.name for entry in UTILITIES.entries() if entry.space == space]


def proposals(space: str) -> list[str]:
    """Proposals of a space."""
    return [entry.name for entry in PROPOSALS.entries() if entry.space == space]


def chosen(session: Session) -> tuple[str, str]:
    """Value model and proposal of a session, the defaults of its space where none is named."""
    first, second = DEFAULTS[session.decoder.space]
    return session.options.utility or first, session.options.proposal or second


def default_proposal(session: Session) -> str:
    """The proposal of the session's space if none is named."""
    return DEFAULTS[session.decoder.space][1]


def value_of(session: Session, field: OptionField) -> Any:
    """What the session stores for an option, or its default."""
    options = session.options
    if field.name in SessionOptions.model_fields:
        return getattr(options, field.name)
    return (options.model_extra or {}).get(field.name, field.default)


def changes(session: Session, given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the values that differ from what is in effect; None unsets an option."""
    stored = session.options.model_dump(exclude_unset=True)
    effect = session.options.resolved()
    utility, proposal = chosen(session)
    effect |= {"utility": utility, "proposal": proposal}
    return {
        name: value
        for name, value in given.items()
        if (value is None and name in stored) or (value is not None and value != effect.get(name, object()))
    }


def recent(prompts: Iterable[str]) -> dict[str, str]:
    """Prompts by themselves, each with its hash and its first characters."""
    return {prompt: f"{prompt_hash(prompt)}: {prompt[:PROMPT_SHOWN]}" for prompt in dict.fromkeys(prompts) if prompt}


def guidance_text(session: Session) -> str:
    """The guidance that is in effect: 0.00 for turbo models, whatever was asked for."""
    return f"{session.frame.guidance:.2f}"


def health_text(url: str) -> str:
    """Whether a remote decoder answers; takes up to 2 s: call it in a thread."""
    from diptych.errors import DiptychError
    from diptych.prefer.decoders.remote import health

    try:
        found = health(url)
    except DiptychError as error:
        return f"no answer: {error}"
    return f"ok: {', '.join(f'{key} {value}' for key, value in found.items() if isinstance(value, str | int | float))}"
