"""The limit on credits: no submit is sent that could take the charges over it.

Prices are not documented, so they are learned from what the server charged per model, duration,
resolution and mode. Submits under a limit are sent one at a time, so that each charge is known
before the next one is sent: whatever prices do, a surprise costs one job at most. Nothing here
sends anything or knows what a job is.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack

import attrs

from seedance_async.api.errors import BudgetExceededError
from seedance_async.api.models import ModelInfo
from seedance_async.api.request import GenerationRequest, Kind

_log = logging.getLogger(__name__)


@attrs.frozen(eq=False)
class Reservation:
    """Credits reserved for one submit that is about to be sent, ended by `settle` or `release`.

    Attributes:
        kind: of the request that they are for.
        credits: the highest price seen for such a request, or an estimate; None if there is
            nothing to go by.
        budgets: the names of the limits that they count for.
    """

    kind: Kind
    credits: int | None
    budgets: tuple[str, ...] = ()


@attrs.define
class Budget:
    """A limit on credits, and what counts as spent of it.

    Attributes:
        limit: the most that may be spent.
        spent: credits charged, or perhaps charged.
    """

    limit: int
    spent: int = 0


class PriceTable:
    """What jobs have cost, by `GenerationRequest.kind`; the highest charge counts."""

    def __init__(self) -> None:
        self._prices: dict[Kind, int] = {}
        # The highest per second: with the same extra fields, with any, and of all. They can make
        # each job a kind of its own, so that the prices cannot be searched at each submit.
        self._rates: dict[tuple[object, ...], float] = {}
        self._listed: tuple[ModelInfo, ...] = ()

    def __len__(self) -> int:
        return len(self._prices)

    def learn(self, kind: Kind, charged: int) -> None:
        """A request of this kind was charged this many credits."""
        self._prices[kind] = max(charged, self._prices.get(kind, 0))
        duration = kind[1]
        if duration is not None and duration > 0:
            for group in _groups(kind):
                self._rates[group] = max(charged / duration, self._rates.get(group, 0.0))

    def price(self, kind: Kind) -> int | None:
        """The most that a request of this kind was charged, or None."""
        return self._prices.get(kind)

    def estimate(self, kind: Kind) -> int | None:
        """A guess for a kind not seen yet; None if there is nothing to go by.

        The highest price per second, seen or listed, times the duration: for the same model,
        resolution and extra fields if possible, then whatever the extra fields, else the highest
        seen at all.
        """
        known = self.price(kind)
        if known is not None:
            return known
        model, duration, resolution = kind[:3]
        seen = [self._rates[group] for group in _groups(kind) if group in self._rates]
        best = self._listed_rates(model, resolution) + seen[:1]
        if not best or duration is None or duration <= 0:
            return None
        return math.ceil(max(best) * duration)

    def list_models(self, models: Iterable[ModelInfo]) -> None:
        """What the server says of its prices: a bound until one is charged."""
        self._listed = tuple(models)

    def ceiling(self, kind: Kind) -> int | None:
        """The most that such a request costs by the listed prices; None if they do not tell.

        What the request leaves to the server counts as its longest and most expensive.
        """
        model, duration, resolution = kind[:3]
        found = next((each for each in self._listed if each.id == model), None)
        if found is None:
            return None
        sizes = found.resolutions if resolution is None else (resolution,)
        rates = [rate for rate in map(found.credits_per_second, sizes) if rate is not None]
        chosen = None if duration is None or duration <= 0 else duration  # -1: by the server
        longest = chosen or max(found.durations, default=None)
        if longest is None or not rates or len(rates) < len(sizes):
            return None
        return math.ceil(max(rates) * longest)

    def _listed_rates(self, model: str, resolution: str | None) -> list[float]:
        if resolution is None:  # the server's default, which is not documented
            return []
        rates = (each.credits_per_second(resolution) for each in self._listed if each.id == model)
        return [rate for rate in rates if rate is not None]


def _groups(kind: Kind) -> tuple[tuple[object, ...], ...]:
    """What a price per second is known for, the closest to this kind first."""
    model, _, resolution, _, *extra = kind
    return (model, resolution, "".join(extra)), (model, resolution), ()


@attrs.frozen
class Spending:
    """What earlier runs have spent.

    Attributes:
        spent: by the name of the budget, what was charged, or may have been, as far as prices are
            known; "" is everything.
        prices: what is known about prices.
        unpriced: kinds of requests that may have been charged though nothing tells how much; each
            counts as spent once a price like it is known.
    """

    spent: Mapping[str, int] = attrs.field(factory=dict)
    prices: PriceTable = attrs.field(factory=PriceTable)
    unpriced: Sequence[Kind] = ()


class CreditLimit:
    """Keeps the sum of all charges at or below each limit that they count for.

    What may have been charged counts as spent: by its price, else by an estimate, else as
    everything that was left. A charge above everything that was left, which a price never seen or
    just raised can cause, is logged and is the last one. Submits that count for the same limit are
    sent one at a time.

    Args:
        limits: by name; "" is a limit on everything.
        before: what counts as spent from the start.
        list_models: the server's list of models, as far as it can be had soon; asked for wherever
            the price of a request is not known yet, so it keeps what it has read. Never raises.

    Attributes:
        budgets: by name, the limits and what is spent of them.
    """

    def __init__(
        self,
        limits: Mapping[str, int],
        before: Spending | None = None,
        *,
        list_models: Callable[[], Awaitable[Iterable[ModelInfo]]] | None = None,
    ) -> None:
        before, self._list_models = before or Spending(), list_models
        self._prices, self._unpriced = before.prices, list(before.unpriced)
        self.budgets = {
            name: Budget(limit, before.spent.get(name, 0)) for name, limit in limits.items()
        }
        self._turns = {name: asyncio.Lock() for name in limits}
        self._count_unpriced()

    def __repr__(self) -> str:
        busy = (
            ", a submit in progress" if any(turn.locked() for turn in self._turns.values()) else ""
        )
        spent = ", ".join(
            f"{name + ': ' if name else ''}{budget.spent} of {budget.limit}"
            for name, budget in self.budgets.items()
        )
        return f"<CreditLimit {spent} spent{busy}>"

    def counted(self, budget: str | None) -> dict[str, int]:
        """The limits that a submit under a named budget, or under none, counts for."""
        names = ("",) if budget is None else ("", budget)
        return {name: self.budgets[name].limit for name in names if name in self.budgets}

    async def reserve(
        self, request: GenerationRequest, budget: str | None = None
    ) -> Reservation | None:
        """Reserve the price of a request; waits while another submit is in progress.

        Args:
            request: what is to be submitted.
            budget: the named limit that it counts for, besides that on everything.

        Returns:
            What is to be ended; None if no limit applies.

        Raises:
            BudgetExceededError: it does not fit.
        """
        names = tuple(self.counted(budget))
        if not names:
            return None
        async with AsyncExitStack() as turns:
            for name in names:
                await turns.enter_async_context(self._turns[name])
            estimate = await self._estimate(request)
            for name in names:
                self._check(self.budgets[name], request, max(1, estimate or 0))
            turns.pop_all()  # they end with the reservation
        return Reservation(request.kind, estimate, names)

    def _check(self, budget: Budget, request: GenerationRequest, needed: int) -> None:
        if budget.spent + needed > budget.limit:
            known = self._prices.price(request.kind) is not None
            raise BudgetExceededError(
                max_credits=budget.limit, spent=budget.spent, needed=needed, known=known
            )

    async def _estimate(self, request: GenerationRequest) -> int | None:
        """What a request is likely to cost; None if there is nothing to go by."""
        if self._prices.price(request.kind) is None and self._list_models is not None:
            self._prices.list_models(await self._list_models())
        return self._prices.estimate(request.kind)

    def settle(self, reservation: Reservation, charged: int | None) -> None:
        """The submit was accepted, or may have been; None if the charge is unknown."""
        for name in reservation.budgets:
            self._spend(self.budgets[name], reservation, charged)
        if charged is not None:
            self._prices.learn(reservation.kind, charged)
            self._count_unpriced()
        self.release(reservation)

    def _spend(self, budget: Budget, reservation: Reservation, charged: int | None) -> None:
        left = budget.limit - budget.spent
        if charged is None:
            budget.spent += left if reservation.credits is None else reservation.credits
            return
        budget.spent += charged
        if charged > left:
            _log.warning(
                "a submit was charged %d credits where %d of %d were left, at a price not "
                "seen before; no more is sent",
                charged,
                left,
                budget.limit,
            )

    def count_others(self, spent: Mapping[str, int]) -> None:
        """What all sessions that share the limits have spent, without the present submit."""
        for name, credits in spent.items():
            budget = self.budgets[name]
            budget.spent = max(budget.spent, credits)

    def release(self, reservation: Reservation) -> None:
        """The submit was refused or never sent: nothing was spent."""
        for name in reservation.budgets:
            self._turns[name].release()

    def _count_unpriced(self) -> None:
        """Count what may have been charged earlier, as far as prices are known by now."""
        still_unknown = []
        for kind in self._unpriced:
            estimate = self._prices.estimate(kind)
            if estimate is None:
                still_unknown.append(kind)
            elif "" in self.budgets:
                self.budgets[""].spent += estimate
        self._unpriced = still_unknown
