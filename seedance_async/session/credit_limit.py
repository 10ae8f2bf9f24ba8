"""The limit on credits: no submit is sent that could take the charges over it.

Prices are not documented, so they are learned from what the server charged per model, duration,
resolution and mode. Submits under a limit are sent one at a time, so that each charge is known
before the next one is sent: whatever prices do, a surprise costs one job at most. Nothing here
sends anything or knows what a job is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Protocol

import attrs

from seedance_async.api.errors import BudgetExceededError
from seedance_async.api.request import GenerationRequest

_log = logging.getLogger(__name__)

_Kind = tuple[str, int | None, str | None, str]


@attrs.frozen(eq=False)
class Reservation:
    """Credits reserved for one submit that is about to be sent.

    Attributes:
        request: what they are for.
        credits: the dearest price seen for such a request, or an estimate; None if there is
            nothing to go by.
    """

    request: GenerationRequest
    credits: int | None


class SpendGuard(Protocol):
    """What a session asks before each submit, and informs of the outcome.

    Each reservation is ended exactly once, by `settle` or by `release`.
    """

    async def reserve(self, request: GenerationRequest) -> Reservation:
        """Reserve the price of a request; waits while another submit is in progress.

        Raises:
            BudgetExceededError: it does not fit.
        """

    def settle(self, reservation: Reservation, charged: int | None) -> None:
        """The submit was accepted, or may have been; None if the charge is unknown."""

    def release(self, reservation: Reservation) -> None:
        """The submit was refused or never sent: nothing was spent."""


class PriceTable:
    """What jobs have cost, by model, duration, resolution and mode; the dearest charge counts."""

    def __init__(self) -> None:
        self._prices: dict[_Kind, int] = {}

    def __len__(self) -> int:
        return len(self._prices)

    def learn(self, request: GenerationRequest, charged: int) -> None:
        """A request like this was charged this many credits."""
        self._prices[request.kind] = max(charged, self._prices.get(request.kind, 0))

    def price(self, request: GenerationRequest) -> int | None:
        """The most that a request like this was charged, or None."""
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

    What may have been charged counts as spent: by its price, else by an estimate, else as
    everything that was left. A charge above everything that was left, which a price never seen or
    just raised can cause, is logged and is the last one.

    Args:
        max_credits: the limit.
        spent: what counts as spent from the start.
        prices: what is known about prices.
        unpriced: requests that may have been charged, though nothing tells how much; each counts
            as spent once a price like it is known.
    """

    def __init__(
        self,
        max_credits: int,
        *,
        spent: int = 0,
        prices: PriceTable | None = None,
        unpriced: Iterable[GenerationRequest] = (),
    ) -> None:
        self._limit, self._spent = max_credits, spent
        self._prices = prices or PriceTable()
        self._unpriced = list(unpriced)
        self._turn = asyncio.Lock()
        self._count_unpriced()

    def __repr__(self) -> str:
        busy = ", one submit in progress" if self._turn.locked() else ""
        return f"<CreditLimit {self._spent} of {self._limit} spent{busy}>"

    @property
    def spent(self) -> int:
        """Credits charged, or perhaps charged."""
        return self._spent

    async def reserve(self, request: GenerationRequest) -> Reservation:
        """See `SpendGuard.reserve`."""
        await self._turn.acquire()
        estimate = self._prices.estimate(request)
        needed = max(1, estimate or 0)
        if self._spent + needed > self._limit:
            self._turn.release()
            known = self._prices.price(request) is not None
            raise BudgetExceededError(
                max_credits=self._limit, spent=self._spent, needed=needed, known=known
            )
        return Reservation(request, estimate)

    def settle(self, reservation: Reservation, charged: int | None) -> None:
        """See `SpendGuard.settle`."""
        left = self._limit - self._spent
        if charged is not None:
            self._spent += charged
            self._prices.learn(reservation.request, charged)
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
        """See `SpendGuard.release`."""
        self._turn.release()

    def _count_unpriced(self) -> None:
        """Count what may have been charged earlier, as far as prices are known by now."""
        still_unknown = []
        for request in self._unpriced:
            estimate = self._prices.estimate(request)
            if estimate is None:
                still_unknown.append(request)
            else:
                self._spent += estimate
        self._unpriced = still_unknown
