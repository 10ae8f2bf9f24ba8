"""What is known of prices: by what was charged in the folder, or ever, and by the server's list."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from seedance_async import AuthenticationError, RetryPolicy, SeedanceError, Timeouts
from seedance_async.cli.buying.purchase import Purchase
from seedance_async.cli.connection import Connection
from seedance_async.cli.history import charged
from seedance_async.cli.inputs import Line
from seedance_async.journal.reading import read_journal
from seedance_async.session.credit_limit import PriceTable
from seedance_async.session.estimate import cost_of, learn_charges

#: An estimate is not worth a long wait.
_QUICK, _SHORT = RetryPolicy(attempts=3), Timeouts(connect=5.0, request=10.0)
_NO_KEY = "without SEEDANCE_API_KEY, the server cannot be asked for its prices"


async def priced(
    connection: Connection, lines: Sequence[Line], journal: Path | str | None = None
) -> Purchase:
    """Lines that would be bought, with what they are expected to cost.

    Args:
        connection: asks the server for its prices, if nothing like these was ever charged. It
            needs a key for that.
        lines: what would be bought.
        journal: that which they belong to.

    Raises:
        AuthenticationError: nothing could be bought either.
        JournalError: the journal cannot be read.
    """
    prices, problem = PriceTable(), None
    known_to_limit = _learn_charged(
        prices, lines, journal, connection.offline_session().client.base_url
    )
    if _is_lacking(prices, lines):
        has_key = os.environ.get("SEEDANCE_API_KEY")
        problem = await _list_models(prices, connection) if has_key else _NO_KEY
    costs = [cost_of(line.request.kind, prices) for line in lines]
    return Purchase(lines, costs, problem, known_to_limit)


def _learn_charged(
    prices: PriceTable, lines: Sequence[Line], journal: Path | str | None, origin: str
) -> Collection[object]:
    """Learn what was charged in the journal; if that is not enough, in all of the user's.

    Returns:
        The kinds that were charged in this journal.
    """
    if journal is not None:
        here = read_journal(journal, lambda database: database.spending.charges(origin))
        learn_charges(prices, here or {})
    kinds = {line.request.kind for line in lines}
    found = {kind for kind in kinds if prices.price(kind) is not None}
    if found != kinds:
        for charges in charged(origin):
            learn_charges(prices, charges)
    return found


def _is_lacking(prices: PriceTable, lines: Sequence[Line]) -> bool:
    return any(prices.price(line.request.kind) is None for line in lines)


async def _list_models(prices: PriceTable, connection: Connection) -> str | None:
    """Learn what the server lists; why that failed, if it did."""
    try:
        async with connection.session(retry=_QUICK, timeouts=_SHORT) as session:
            prices.list_models(await session.client.models())
    except AuthenticationError:
        raise
    except SeedanceError as error:
        return f"the server could not be asked for its prices: {error}"
    return None
