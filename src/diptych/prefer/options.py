"""Options of a session: those of :meth:`diptych.prefer.session.session.Session.open` and of ``diptych prefer``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import Field

from diptych.prefer.decoders.registry import DECODERS
from diptych.prefer.propose.registry import PROPOSALS
from diptych.prefer.utility import UTILITIES
from diptych.runtime.registry import Registry, SelectingOptions


class SessionOptions(SelectingOptions):
    """What is generated, and how it is learned and proposed. A session stores these options and uses them when it is
    resumed.

    The options of the decoder, the utility and the proposal are given beside these fields.
    """

    registries: ClassVar[Mapping[str, Registry[Any]]] = {
        "decoder": DECODERS,
        "utility": UTILITIES,
        "proposal": PROPOSALS,
    }

    prompt: str | None = Field(
        None, description="What the images show; judgements of one prompt are fitted together. Needed for diffusion"
    )
    negative_prompt: str | None = Field(None, description="What the images should not show; no effect at guidance 0")
    decoder: str = Field(
        "synthetic", description="synthetic, diffusion, remote, reconstruction, or one of an installed package"
    )
    utility: str | None = Field(
        None,
        description="contrastive (the default for images), ridge, logistic, xgboost, distance, cosine, surface (the "
        "default for settings), or one of an installed package",
    )
    proposal: str | None = Field(
        None,
        description="tempered (the default for images), around, random-anchor, line, hill, pair, breed, legacy, "
        "thompson (the default for settings), or one of an installed package",
    )
    batch: int = Field(4, ge=1, le=64, description="Images on a screen")
    queue: int = Field(6, ge=1, le=64, description="Images decoded ahead in a queue")
    fit_interval: float = Field(0.0, ge=0, description="Shortest time between the starts of two fits, s")
    use_legacy: bool = Field(False, description="Use imported rows in the fits")
    warm_start: str | None = Field(
        None, description="Another prompt of this session, whose fit guides proposals until this prompt has its own"
    )
    start: int | None = Field(
        None,
        ge=0,
        description="Seed of the anchor, from which some proposals move; without it the anchor is that of the prompt",
    )
    seed: int = Field(0, ge=0, description="Seed of the proposals")

    def normalised(self) -> Self:
        """The same options as the chosen extensions validate them, for instance with absolute paths."""
        own: dict[str, Any] = {}
        for field in self.registries:
            own |= self.own(field).model_dump(exclude_unset=True)
        return self.with_changes(**own)

    def chosen(self, field: str) -> Any:
        """The extension that ``field`` names; None where the field is None, or names an object that was given in place
        of a name.
        """
        name = getattr(self, field)
        return super().chosen(field) if name is None or name in self.registries[field] else None

    def _unknown(self, key: str, known: set[str]) -> str:
        for field, registry in self.registries.items():
            if (name := getattr(self, field)) is not None and name not in registry:
                return f"{registry.kind} {name!r} is not known; expected one of {', '.join(registry.names())}"
        return super()._unknown(key, known)


def without_effect(*kept: str) -> tuple[str, ...]:
    """The options of a session that have no effect on a command that uses only the fields ``kept``: the other fields,
    and the options of the extensions that they name.
    """
    fields = SessionOptions.model_fields
    used, unused = set(kept), {name for name in fields if name not in kept}
    for field, registry in SessionOptions.registries.items():
        names = {name for model in registry.option_models().values() for name in model.model_fields}
        (used if field in kept else unused).update(names)
    return tuple(sorted(unused - used))


def without_replaced(stored: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Stored options without those of a decoder, utility or proposal that ``given`` replaces."""
    kept = dict(stored)
    for field, registry in SessionOptions.registries.items():
        old = stored.get(field, SessionOptions.model_fields[field].default)
        if field in given and given[field] != old and old in registry:
            for key in registry[old].options.model_fields:
                kept.pop(key, None)
    return kept
