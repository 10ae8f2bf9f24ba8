"""What the attempts in a journal have cost, and whether one more fits in its limits."""

from __future__ import annotations

from seedance_async.api.errors import BudgetExceededError
from seedance_async.journal.contract import CreditsInUseError, Intent
from seedance_async.journal.owners import Owners
from seedance_async.journal.statements import Statements

#: So many attempts that count for a limit may be in doubt at a price that nobody knows: one that
#: was broken off, and one that tries once more. Those that a person has settled do not count.
MOST_UNPRICED = 2

#: Sessions send at the same time under a limit only while there is room for so many times what they
#: may cost: should prices rise just then, it is not passed by several jobs.
SURPRISE = 10

_UNPRICED = "credits_charged IS NULL AND credits_reserved IS NULL AND state <> 'refused'"
_SENDING = (
    "SELECT owner, CASE WHEN kind IN (SELECT kind FROM prices) THEN credits_reserved END "
    "FROM attempts WHERE state = 'sending' AND ? IN ('', budget)"
)
_LIMITED_UNPRICED = (
    f"SELECT count(*) FROM attempts WHERE is_limited AND {_UNPRICED} "  # noqa: S608
    "AND (job IS NOT NULL OR state = 'accepted') AND ? IN ('', budget)"
)


class Spending:
    """The sums and prices in a journal.

    Args:
        sql: the database.
        owners: tells who is alive.
    """

    def __init__(self, sql: Statements, owners: Owners) -> None:
        self._sql, self._owners = sql, owners
        self._prices: dict[str, int] = {}  # that this session has recorded

    def rolled_back(self) -> None:
        """What this session has recorded since the last commit is not on record."""
        self._prices.clear()

    def spent(self, budget: str) -> int:
        """See `Journal.spent`."""
        return self._sql.value("SELECT spent FROM budgets WHERE name = ?", budget) or 0

    def prices(self) -> dict[str, int]:
        """See `Journal.prices`."""
        return dict(self._sql.rows("SELECT kind, credits FROM prices"))

    def charges(self, origin: str) -> dict[str, int]:
        """By kind, the most that an API charged for one attempt."""
        return dict(
            self._sql.rows(
                "SELECT kind, max(credits_charged) FROM attempts WHERE kind <> '' "
                "AND credits_charged IS NOT NULL AND origin IN (?, '') GROUP BY kind",
                origin,
            )
        )

    def unpriced(self) -> dict[str, int]:
        """See `Journal.unpriced`."""
        return dict(
            self._sql.rows(
                f"SELECT kind, count(*) FROM attempts WHERE {_UNPRICED} GROUP BY kind"  # noqa: S608
            )
        )

    def price(self, kind: str, credits: int) -> None:
        """See `Journal.price`."""
        self._sql.run(
            f"UPDATE attempts SET credits_reserved = ? WHERE kind = ? AND {_UNPRICED}",  # noqa: S608
            credits,
            kind,
        )

    def learn(self, kind: str, credits: int) -> None:
        """An attempt was charged: what those like it may have cost is known if this is dearer."""
        if credits <= self._prices.get(kind, -1):
            return
        self._prices[kind] = credits
        self._sql.run(
            "INSERT INTO prices VALUES (?, ?) ON CONFLICT (kind) DO UPDATE "
            "SET credits = excluded.credits WHERE prices.credits < excluded.credits",
            kind,
            credits,
        )
        self.price(kind, credits)

    def reserve(self, intent: Intent) -> int | None:
        """What an attempt may cost, if it fits in all its limits.

        Raises:
            BudgetExceededError: it does not fit in one of its limits.
            CreditsInUseError: another session is sending a submit under one of them.
        """
        credits, is_seen = self._dearest(intent)
        for budget, limit in intent.limits.items():
            room = self._room(budget, limit, credits)
            if self._owners.is_shared:
                self._check_turn(budget, room, credits if is_seen else None)
        return credits

    def dearest(self, intent: Intent) -> int | None:
        """What an attempt may cost; another session may have seen a price that this one has not."""
        return self._dearest(intent)[0]

    def _dearest(self, intent: Intent) -> tuple[int | None, bool]:
        """The same, and whether one like it was charged before."""
        seen = self._sql.value("SELECT credits FROM prices WHERE kind = ?", intent.kind)
        known = [price for price in (intent.credits, seen) if price is not None]
        return max(known, default=None), seen is not None

    def _room(self, budget: str, limit: int, credits: int | None) -> int:
        """What is left of a limit. Raises BudgetExceededError if an attempt does not fit in it."""
        spent, needed = self.spent(budget), max(1, credits or 0)
        known, fits = credits is not None, spent + needed <= limit
        unpriced = 0 if known or not fits else self._sql.value(_LIMITED_UNPRICED, budget)
        if not fits or unpriced >= MOST_UNPRICED:  # else each start would risk one more
            raise BudgetExceededError(
                max_credits=limit, spent=spent, needed=needed, known=known, unpriced=unpriced
            )
        return limit - spent

    def _check_turn(self, budget: str, room: int, price: int | None) -> None:
        """Raise CreditsInUseError if what other sessions are sending has to be known first.

        So it has if nobody knows what this attempt or one of theirs costs, or near the limit.
        """
        sending = self._sql.rows(_SENDING, budget)
        alive = self._owners.living(owner for owner, _ in sending)
        costs = [cost for owner, cost in sending if owner in alive]
        prices = [price, *costs]
        if costs and not (all(prices) and SURPRISE * sum(filter(None, prices)) <= room):
            raise CreditsInUseError("another session is sending a submit", path=self._sql.path)
