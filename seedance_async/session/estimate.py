"""What a run would do and cost, judged by its journal and by prices, before anything is sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from seedance_async.api.prepared_request import MediaKey
from seedance_async.api.request import GenerationRequest, Kind
from seedance_async.session.credit_limit import PriceTable

if TYPE_CHECKING:
    from seedance_async.journal import JournalEntry


@attrs.frozen
class Plan:
    """What a run of some requests would do, given a journal.

    Attributes:
        new: the positions of the requests that would be submitted.
        known: how many the journal knows, by the state of their entries.
    """

    new: tuple[int, ...]
    known: Counter[str]


@attrs.frozen
class Cost:
    """What a request is expected to cost.

    Attributes:
        credits: as many; None if nothing tells.
        is_ceiling: whether that is the most it can be, because the request leaves to the server
            what its price depends on.
    """

    credits: int | None
    is_ceiling: bool = False


def plan(
    entries: Sequence[JournalEntry],
    requests: Sequence[GenerationRequest | tuple[str, GenerationRequest]],
    *,
    resubmit_uncertain: bool = False,
    media_key: MediaKey | None = None,
) -> Plan:
    """What a run of these requests would do, if it began now.

    Args:
        entries: the journal's.
        requests: in the order of the run; one may come with a key, as a pair.
        resubmit_uncertain, media_key: the session's options.
    """
    from seedance_async.journal import match_entries  # with SQLite behind it: only if needed

    found = match_entries(entries, requests, media_key=media_key)
    anew = {"rejected"} | ({"submitting", "uncertain"} if resubmit_uncertain else set())
    return Plan(
        new=tuple(
            position for position, entry in enumerate(found) if entry is None or entry.state in anew
        ),
        known=Counter(entry.state for entry in found if entry is not None),
    )


def cost_of(kind: Kind, prices: PriceTable) -> Cost:
    """What requests of a kind cost: as charged before, else as listed, else as similar ones did."""
    charged, ceiling = prices.price(kind), prices.ceiling(kind)
    if charged is not None:
        return Cost(charged)
    if ceiling is not None:
        chosen = kind[2] is not None and (kind[1] or 0) > 0
        return Cost(ceiling, is_ceiling=not chosen)
    return Cost(prices.estimate(kind))


def learn_charges(prices: PriceTable, charges: Mapping[str, int]) -> None:
    """Add what a journal says was charged, as `read_charges` gives it."""
    from seedance_async.journal import kind_in

    for text, credits in charges.items():
        prices.learn(kind_in(text), credits)
