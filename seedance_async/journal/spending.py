"""What the attempts in a journal have cost, and whether one more fits in its limits."""

from __future__ import annotations

from seedance_async.api.errors import BudgetExceededError
from seedance_async.journal.contract import CreditsInUseError, Intent
from seedance_async.journal.owners import Owners
from seedance_async.journal.statements import Statements

#: Under a limit, so many attempts may be in doubt at a price that nobody knows: one that was broken
#: off, and one that tries once more.
MOST_UNPRICED = 2

_UNPRICED = "credits_charged IS NULL AND credits_reserved IS NULL AND state <> 'refused'"
_LIMITED_UNPRICED = f"SELECT count(*) FROM attempts WHERE is_limited AND {_UNPRICED}"  # noqa: S608


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
        credits = self.dearest(intent)
        for budget, limit in intent.limits.items():
            self._check_limit(budget, limit, credits)
        return credits

    def dearest(self, intent: Intent) -> int | None:
        """What an attempt may cost; another session may have seen a price that this one has not."""
        seen = self._sql.value("SELECT credits FROM prices WHERE kind = ?", intent.kind)
        known = [price for price in (intent.credits, seen) if price is not None]
        return max(known, default=None)

    def _check_limit(self, budget: str, limit: int, credits: int | None) -> None:
        """Raise unless an attempt fits in a budget, and no other session tries one just now."""
        spent, needed = self.spent(budget), max(1, credits or 0)
        if credits is None and self._sql.value(_LIMITED_UNPRICED) >= MOST_UNPRICED:
            spent = limit  # else each start would risk one more
        if spent + needed > limit:
            raise BudgetExceededError(
                max_credits=limit, spent=spent, needed=needed, known=credits is not None
            )
        if not self._owners.is_shared:
            return
        sending = self._sql.rows(
            "SELECT DISTINCT owner FROM attempts WHERE state = 'sending' AND ? IN ('', budget)",
            budget,
        )
        if self._owners.any_alive(owner for (owner,) in sending):
            raise CreditsInUseError("another session is sending a submit", path=self._sql.path)
