"""What a run would do and cost, judged by its journal, before anything is sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from seedance_async.api.request import GenerationRequest
from seedance_async.session.journaling import price_table, spent_on

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
) -> Forecast:
    """What a run of these requests would do and cost, if it began now.

    Args:
        entries: the journal's.
        requests: in the order of the run; one may come with a key, as a pair.
        resubmit_uncertain: the session's option.
    """
    from seedance_async.journal import match_entries  # with SQLite behind it: only if needed

    found = match_entries(entries, requests)
    anew = {"rejected"} | ({"submitting", "uncertain"} if resubmit_uncertain else set())
    new = [
        request[1] if isinstance(request, tuple) else request
        for request, entry in zip(requests, found, strict=True)
        if entry is None or entry.state in anew
    ]
    prices = price_table(entries)
    costs = [prices.estimate(request) for request in new]
    priced = [cost for cost in costs if cost is not None]
    return Forecast(
        to_submit=len(new),
        known=Counter(entry.state for entry in found if entry is not None),
        credits=sum(priced),
        unpriced=len(costs) - len(priced),
    )


def spent(entries: Sequence[JournalEntry], of: Sequence[JournalEntry]) -> int:
    """What some of a journal's jobs were charged, or may have been.

    Args:
        entries: all of the journal's, for their prices.
        of: those that are asked about.
    """
    prices = price_table(entries)
    return sum(spent_on(entry, prices) for entry in of)
