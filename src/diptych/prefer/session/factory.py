"""Builds the decoder, utility model and proposal of a session from its options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diptych.errors import InputError
from diptych.prefer.decoders.protocols import Decoder, attend, checked, close, cube_of
from diptych.prefer.decoders.registry import DECODERS, build_decoder
from diptych.prefer.ledger.ledger import Ledger
from diptych.prefer.options import SessionOptions
from diptych.prefer.propose import PROPOSALS, Proposal
from diptych.prefer.session.fitting import Fitting
from diptych.prefer.session.worker import Worker
from diptych.prefer.utility import UTILITIES, Utility
from diptych.runtime.interrupts import Cancel
from diptych.runtime.jobs.context import silent
from diptych.runtime.registry import NoOptions, Registry

DEFAULTS = {"sphere": ("contrastive", "tempered"), "cube": ("surface", "thompson")}
"""Utility model and proposal of each space, if none are named."""

PATIENCE = 0.5
"""Seconds that closing a session waits for a decode."""

SPACES = {"sphere": "latents on a sphere", "cube": "settings in a cube"}


def open_parts(
    options: SessionOptions,
    decoder: str | Decoder | None,
    utility: str | Utility | None,
    proposal: str | Proposal | None,
) -> tuple[Decoder, Utility, Proposal]:
    """Decoder, utility and proposal: the objects that are given, and those that the options name for the others.

    Raises
    ------
    InputError
        If an object is not a decoder, or a part is for the other space.
    """
    by_name = decoder is None or isinstance(decoder, str)
    opened = open_decoder(options) if by_name else checked(decoder, type(decoder).__name__)
    model = open_utility(options, opened) if utility is None or isinstance(utility, str) else utility
    method = open_proposal(options, opened) if proposal is None or isinstance(proposal, str) else proposal
    check_spaces(opened, model, method)
    return opened, model, method


def open_decoder(options: SessionOptions) -> Decoder:
    """The decoder that the options name."""
    kind = DECODERS[options.decoder]
    return build_decoder(kind, options.own("decoder"), options.prompt, options.negative_prompt)


def open_utility(options: SessionOptions, decoder: Decoder) -> Utility:
    """A new utility model: the one that the options name, or the default of the decoder's space."""
    name = options.utility or DEFAULTS[decoder.space][0]
    return UTILITIES[name].build(_own(options, "utility", UTILITIES, name), cube_of(decoder))


def open_proposal(options: SessionOptions, decoder: Decoder) -> Proposal:
    """The proposal that the options name, or the default of the decoder's space."""
    name = options.proposal or DEFAULTS[decoder.space][1]
    return PROPOSALS[name].build(_own(options, "proposal", PROPOSALS, name))


def check_spaces(decoder: Decoder, utility: Utility, proposal: Proposal) -> None:
    """Raise InputError if the utility model or the proposal is registered for the other space."""
    parts: tuple[tuple[str, str, Registry[Any]], ...] = (
        ("utility", utility.name, UTILITIES),
        ("proposal", proposal.name, PROPOSALS),
    )
    for index, (what, name, registry) in enumerate(parts):
        if name in registry and registry[name].space != decoder.space:
            raise InputError(
                f"{what} {name!r}",
                f"is for {SPACES[registry[name].space]}",
                f"one for {SPACES[decoder.space]}, the space of the decoder {decoder.name}",
                f"Choose {DEFAULTS[decoder.space][index]!r}.",
            )


def shut(
    fitting: Fitting,
    decoding: Worker,
    workers: Sequence[Worker],
    ledger: Ledger,
    decoder: Decoder,
    owned: bool,
    cancel: Cancel,
) -> None:
    """Stop the decode that runs, if the decoder can, close the workers, then the ledger, and the decoder if it was
    opened for this session (``owned``).

    A decode that cannot be stopped within :data:`PATIENCE` goes on in its thread, and its image is discarded: nothing
    is lost, because it was not shown. The decoder is closed after it.
    """
    cancel.request()
    fitting.close()
    decoding.close(PATIENCE)
    for worker in workers:
        worker.close()
    ledger.close()

    def release() -> None:
        attend(decoder, silent, Cancel())
        if owned:
            close(decoder)

    decoding.at_end(release)


def _own(options: SessionOptions, field: str, registry: Registry[Any], name: str) -> Any:
    """Options of the named extension: those given, or its defaults where the field is None."""
    found = options.own(field)
    return registry[name].options() if isinstance(found, NoOptions) else found
