"""The limit on credits: no submit is sent that could take the charges over it.

Prices are not documented, so they are learned from what the server charged per model, duration,
resolution and mode. Nothing here sends anything or knows what a job is.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import attrs

from seedance_async.api.errors import BudgetExceededError
from seedance_async.api.request import GenerationRequest

_Kind = tuple[str, int | None, str | None, str]


@attrs.frozen(eq=False)
class Reservation:
    """Credits reserved for one submit that is about to be sent.

    Attributes:
        credits: how many.
        request: what they are for.
        counts: how many count as spent if the charge is never known.
        probes: whether the price is unknown, and this submit is to find it out.
    """

    credits: int
    request: GenerationRequest
    counts: int
    probes: bool = False


class SpendGuard(Protocol):
    """What a session asks before each submit, and informs of the outcome.

    Each reservation is ended exactly once, by `settle` or by `release`.
    """

    async def reserve(self, request: GenerationRequest) -> Reservation:
        """Reserve the price of a request; waits while others may free what is missing.

        Raises:
            BudgetExceededError: it does not fit, whatever the outcome of the others.
        """

    def settle(self, reservation: Reservation, charged: int | None) -> None:
        """The submit was accepted, or may have been; None counts the reservation as spent."""

    def release(self, reservation: Reservation) -> None:
        """The submit was refused or never sent: nothing was spent."""


class PriceTable:
    """What jobs have cost, by model, duration, resolution and mode; the last charge counts."""

    def __init__(self) -> None:
        self._prices: dict[_Kind, int] = {}

    def __len__(self) -> int:
        return len(self._prices)

    def learn(self, request: GenerationRequest, charged: int) -> None:
        """A request like this was charged this many credits."""
        self._prices[request.kind] = charged

    def price(self, request: GenerationRequest) -> int | None:
        """What a request like this was charged last, or None."""
        return self._prices.get(request.kind)

    def estimate(self, request: GenerationRequest) -> int | None:
        """A guess for a request of a kind not seen yet; None if there is nothing to go by.

        The highest price per second seen, for the same model and resolution if possible, times the
        duration.
        """
        known = self.price(request)
        if known is not None:
            return known
        model, duration, resolution, _ = request.kind
        rates = [(kind, price / kind[1]) for kind, price in self._prices.items() if kind[1]]
        alike = [rate for kind, rate in rates if (kind[0], kind[2]) == (model, resolution)]
        best = alike or [rate for _, rate in rates]
        return None if not best or duration is None else round(max(best) * duration)


class CreditLimit:
    """A `SpendGuard` that keeps the sum of all charges at or below `max_credits`.

    A submit of an unknown price is sent alone: everything that is left is reserved for it until it
    is answered. If an estimate says that it does not fit, it is not sent. What may have been
    charged counts as spent: by its price, else by an estimate, else as everything that was left.

    Args:
        max_credits: the limit.
        spent: what counts as spent from the start.
        prices: what is known about prices.
    """

    def __init__(
        self, max_credits: int, *, spent: int = 0, prices: PriceTable | None = None
    ) -> None:
        self._limit, self._spent, self._reserved = max_credits, spent, 0
        self._prices = prices or PriceTable()
        self._probing = False
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<CreditLimit {self._spent} spent, {self._reserved} reserved of {self._limit}>"

    @property
    def spent(self) -> int:
        """Credits charged, or perhaps charged."""
        return self._spent

    async def reserve(self, request: GenerationRequest) -> Reservation:
        """See `SpendGuard.reserve`."""
        while True:
            reservation = None if self._probing else self._try(request)
            if reservation is not None:
                self._reserved += reservation.credits
                self._probing = reservation.probes
                return reservation
            await self._changed.wait()

    def settle(self, reservation: Reservation, charged: int | None) -> None:
        """See `SpendGuard.settle`."""
        self._spent += reservation.counts if charged is None else charged
        if charged is not None:
            self._prices.learn(reservation.request, charged)
        self.release(reservation)

    def release(self, reservation: Reservation) -> None:
        """See `SpendGuard.release`."""
        self._reserved -= reservation.credits
        if reservation.probes:
            self._probing = False
        self._changed.set()
        self._changed.clear()

    def _try(self, request: GenerationRequest) -> Reservation | None:
        """A reservation if there is room now; None if there may be room later."""
        price = self._prices.price(request)
        left = self._limit - self._spent - self._reserved
        estimate = self._prices.estimate(request)
        needed = max(1, estimate or 1) if price is None else price
        if needed <= left and price is not None:
            return Reservation(price, request, price)
        if needed <= left:
            return Reservation(left, request, left if estimate is None else needed, probes=True)
        if self._spent + needed > self._limit:
            raise BudgetExceededError(
                max_credits=self._limit, spent=self._spent, needed=needed, known=price is not None
            )
        return None
