"""What a run would do and cost, judged by its journal, before anything is sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import attrs

from seedance_async.api.prepared_request import MediaKey
from seedance_async.api.request import GenerationRequest
from seedance_async.session.credit_limit import PriceTable

if TYPE_CHECKING:
    from seedance_async.journal import JournalEntry


@attrs.frozen
class Forecast:
    """What a run of some requests would do, given a journal.

    Attributes:
        to_submit: how many would be submitted.
        known: how many the journal knows, by the state of their entries.
        credits: what those to submit would cost; an estimate if a price was not seen before.
        unpriced: how many of those to submit are not in `credits`, for lack of any price.
    """

    to_submit: int
    known: Counter[str]
    credits: int
    unpriced: int


def forecast(
    entries: Sequence[JournalEntry],
    requests: Sequence[GenerationRequest | tuple[str, GenerationRequest]],
    *,
    resubmit_uncertain: bool = False,
    media_key: MediaKey | None = None,
) -> Forecast:
    """What a run of these requests would do and cost, if it began now.

    Args:
        entries: the journal's.
        requests: in the order of the run; one may come with a key, as a pair.
        resubmit_uncertain, media_key: the session's options.
    """
    from seedance_async.journal import match_entries  # with SQLite behind it: only if needed

    found = match_entries(entries, requests, media_key=media_key)
    anew = {"rejected"} | ({"submitting", "uncertain"} if resubmit_uncertain else set())
    new = [
        request[1] if isinstance(request, tuple) else request
        for request, entry in zip(requests, found, strict=True)
        if entry is None or entry.state in anew
    ]
    prices = price_table(entries)
    costs = [prices.estimate(request.kind) for request in new]
    priced = [cost for cost in costs if cost is not None]
    return Forecast(
        to_submit=len(new),
        known=Counter(entry.state for entry in found if entry is not None),
        credits=sum(priced),
        unpriced=len(costs) - len(priced),
    )


def price_table(entries: Iterable[JournalEntry]) -> PriceTable:
    """The prices that the jobs of these entries were charged."""
    from seedance_async.journal import request_in

    prices = PriceTable()
    for entry in entries:
        request = request_in(entry) if entry.credits_charged is not None else None
        if request is not None and entry.credits_charged is not None:
            prices.learn(request.kind, entry.credits_charged)
    return prices
