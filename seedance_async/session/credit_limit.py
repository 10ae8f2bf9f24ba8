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
from collections.abc import Awaitable, Callable, Iterable, Sequence

import attrs

from seedance_async.api.errors import BudgetExceededError, SeedanceError
from seedance_async.api.models import ModelInfo
from seedance_async.api.request import GenerationRequest

_log = logging.getLogger(__name__)

#: What a price depends on; see `GenerationRequest.kind`.
Kind = tuple[str, int | None, str | None, str]


@attrs.frozen(eq=False)
class Reservation:
    """Credits reserved for one submit that is about to be sent, ended by `settle` or `release`.

    Attributes:
        kind: of the request that they are for.
        credits: the dearest price seen for such a request, or an estimate; None if there is
            nothing to go by.
    """

    kind: Kind
    credits: int | None


class PriceTable:
    """What jobs have cost, by model, duration, resolution and mode; the dearest charge counts."""

    def __init__(self) -> None:
        self._prices: dict[Kind, int] = {}
        self._listed: tuple[ModelInfo, ...] = ()

    def __len__(self) -> int:
        return len(self._prices)

    def learn(self, kind: Kind, charged: int) -> None:
        """A request of this kind was charged this many credits."""
        self._prices[kind] = max(charged, self._prices.get(kind, 0))

    def price(self, kind: Kind) -> int | None:
        """The most that a request of this kind was charged, or None."""
        return self._prices.get(kind)

    def estimate(self, kind: Kind) -> int | None:
        """A guess for a kind not seen yet; None if there is nothing to go by.

        The highest price per second, seen or listed, times the duration: for the same model and
        resolution if possible, else the highest seen at all.
        """
        known = self.price(kind)
        if known is not None:
            return known
        model, duration, resolution, _ = kind
        rates = [(seen, price / seen[1]) for seen, price in self._prices.items() if seen[1]]
        alike = [rate for seen, rate in rates if (seen[0], seen[2]) == (model, resolution)]
        best = self._listed_rates(model, resolution) + (alike or [rate for _, rate in rates])
        return None if not best or duration is None else math.ceil(max(best) * duration)

    def list_models(self, models: Iterable[ModelInfo]) -> None:
        """What the server says of its prices: a bound until one is charged."""
        self._listed = tuple(models)

    def _listed_rates(self, model: str, resolution: str | None) -> list[float]:
        if resolution is None:  # the server's default, which is not documented
            return []
        rates = (each.credits_per_second(resolution) for each in self._listed if each.id == model)
        return [rate for rate in rates if rate is not None]


@attrs.frozen
class Spending:
    """What earlier runs have spent.

    Attributes:
        spent: what was charged, or may have been, as far as prices are known.
        prices: what is known about prices.
        unpriced: kinds of requests that may have been charged though nothing tells how much; each
            counts as spent once a price like it is known.
    """

    spent: int = 0
    prices: PriceTable = attrs.field(factory=PriceTable)
    unpriced: Sequence[Kind] = ()


class CreditLimit:
    """Keeps the sum of all charges at or below `max_credits`.

    What may have been charged counts as spent: by its price, else by an estimate, else as
    everything that was left. A charge above everything that was left, which a price never seen or
    just raised can cause, is logged and is the last one.

    Args:
        max_credits: the limit.
        before: what counts as spent from the start.
        list_models: asks the server for its list of models, once, when no price is known yet.
    """

    def __init__(
        self,
        max_credits: int,
        before: Spending | None = None,
        *,
        list_models: Callable[[], Awaitable[list[ModelInfo]]] | None = None,
    ) -> None:
        before, self._list_models = before or Spending(), list_models
        self._limit, self._spent, self._prices = max_credits, before.spent, before.prices
        self._unpriced = list(before.unpriced)
        self._turn = asyncio.Lock()
        self._count_unpriced()

    def __repr__(self) -> str:
        busy = ", one submit in progress" if self._turn.locked() else ""
        return f"<CreditLimit {self._spent} of {self._limit} spent{busy}>"

    @property
    def limits(self) -> dict[str, int]:
        """The limit as a journal enforces it, over all sessions that share it."""
        return {"": self._limit}

    @property
    def spent(self) -> int:
        """Credits charged, or perhaps charged."""
        return self._spent

    async def reserve(self, request: GenerationRequest) -> Reservation:
        """Reserve the price of a request; waits while another submit is in progress.

        Raises:
            BudgetExceededError: it does not fit.
        """
        await self._turn.acquire()
        try:
            estimate = await self._estimate(request)
        except BaseException:
            self._turn.release()
            raise
        needed = max(1, estimate or 0)
        if self._spent + needed > self._limit:
            self._turn.release()
            known = self._prices.price(request.kind) is not None
            raise BudgetExceededError(
                max_credits=self._limit, spent=self._spent, needed=needed, known=known
            )
        return Reservation(request.kind, estimate)

    async def _estimate(self, request: GenerationRequest) -> int | None:
        """What a request is likely to cost; None if there is nothing to go by."""
        if self._prices.price(request.kind) is None and self._list_models is not None:
            ask, self._list_models = self._list_models, None
            try:
                self._prices.list_models(await ask())
            except SeedanceError as error:
                _log.info("the list of models could not be read: %s", error)
        return self._prices.estimate(request.kind)

    def settle(self, reservation: Reservation, charged: int | None) -> None:
        """The submit was accepted, or may have been; None if the charge is unknown."""
        left = self._limit - self._spent
        if charged is not None:
            self._spent += charged
            self._prices.learn(reservation.kind, charged)
            self._count_unpriced()
            if charged > left:
                _log.warning(
                    "a submit was charged %d credits where %d of %d were left, at a price not "
                    "seen before; no more is sent",
                    charged,
                    left,
                    self._limit,
                )
        else:
            self._spent += left if reservation.credits is None else reservation.credits
        self._turn.release()

    def release(self, reservation: Reservation) -> None:
        """The submit was refused or never sent: nothing was spent."""
        self._turn.release()

    def _count_unpriced(self) -> None:
        """Count what may have been charged earlier, as far as prices are known by now."""
        still_unknown = []
        for kind in self._unpriced:
            estimate = self._prices.estimate(kind)
            if estimate is None:
                still_unknown.append(kind)
            else:
                self._spent += estimate
        self._unpriced = still_unknown
