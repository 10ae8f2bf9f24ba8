"""Injection: owns the choice of what goes wrong with which request.

A fault comes from a script (the next matching requests get it) or from a seeded probability. This
module only chooses; the request log records what was chosen.
"""

from collections.abc import Callable, Mapping, Sequence
from random import Random

from attrs import define

from .faults import Fault, Rates, as_fault
from .kinds import OPERATIONS


def _check(operation: str, fault: Fault) -> None:
    if operation not in OPERATIONS:
        raise ValueError(f"no such operation: {operation!r}; there are {sorted(OPERATIONS)}")
    if operation not in fault.spec.operations:
        raise ValueError(f"the fault {fault.kind} does not happen to {operation}")
    if fault.first is not None and operation != "poll":
        raise ValueError(f"`first` counts polls: not for {operation}")


class FaultRates:
    """The probabilities of one operation's faults.

    Raises:
        ValueError: for a fault that this operation can't have, or probabilities that are
            negative or add up to more than 1.
    """

    def __init__(self, operation: str, rates: Rates) -> None:
        given = [(as_fault(fault), float(rate)) for fault, rate in rates.items()]
        for fault, rate in given:
            _check(operation, fault)
            if not rate >= 0:
                raise ValueError(f"a negative probability of {fault.kind} for {operation}")
        if sum(rate for _, rate in given) > 1 + 1e-9:
            raise ValueError(f"the probabilities of the faults of {operation} exceed 1")
        self._early = [(fault, rate) for fault, rate in given if fault.is_early]
        missed = 1 - sum(rate for _, rate in self._early)
        # The second throw happens only if the first gave nothing: scaled to the same odds.
        self._late = [(fault, rate / missed) for fault, rate in given if not fault.is_early]

    def roll(self, random: Random, *, early: bool) -> Fault | None:
        """One throw of the dice, for the faults at arrival or for the others."""
        rates = self._early if early else self._late
        if not rates:
            return None
        thrown = random.random()
        for fault, rate in rates:
            if thrown < rate:
                return fault
            thrown -= rate
        return None


@define(eq=False)
class Script:
    """A fault that the next matching requests get. ``remaining=None``: all of them."""

    operation: str
    fault: Fault
    remaining: int | None
    match: str | None

    def wants(self, operation: str, subjects: Sequence[str]) -> bool:
        """Whether this request is one of those that the script waits for."""
        if operation != self.operation:
            return False
        return self.match is None or any(self.match in subject for subject in subjects)

    def use(self) -> None:
        """Count one use."""
        if self.remaining is not None:
            self.remaining -= 1


class Faults:
    """What goes wrong from now on; can be changed at any time."""

    def __init__(self, random: Random, rates: Mapping[str, Rates] | None = None) -> None:
        self._random = random
        self._scripts: list[Script] = []
        self._rates: dict[str, FaultRates] = {}
        for operation, of_operation in (rates or {}).items():
            self.set_rates(operation, of_operation)

    def __repr__(self) -> str:
        waiting = [f"{each.operation}: {each.fault.kind}" for each in self._scripts]
        return f"<Faults scripted [{', '.join(waiting)}], rates for {sorted(self._rates)}>"

    def set_rates(self, operation: str, rates: Rates) -> None:
        """Replace the probabilities of one operation."""
        self._rates[operation] = FaultRates(operation, rates)

    def script(
        self,
        operation: str,
        fault: "str | Fault",
        *,
        times: int | None = 1,
        match: str | None = None,
    ) -> Script:
        """Give the next ``times`` matching requests this fault; ``None`` is all of them.

        Args:
            operation: submit, poll, cancel, models, media, job or webhook.
            fault: what happens.
            times: how often.
            match: a part of the request id or the prompt. At the arrival of a submit neither
                is known, so ``drop_before_read`` takes no match there.

        Raises:
            ValueError: for a fault that can't happen to this operation.
        """
        made = as_fault(fault)
        _check(operation, made)
        if match is not None and operation == "submit" and made.spec.stage == "arrival":
            raise ValueError(f"{made.kind} happens before the prompt is read: no match possible")
        script = Script(operation, made, times, match)
        self._scripts.append(script)
        return script

    def clear(self) -> None:
        """Forget all scripts and probabilities."""
        self._scripts.clear()
        self._rates.clear()

    def draw(
        self,
        operation: str,
        *subjects: str,
        early: bool = False,
        applies: Callable[[Fault], bool] = lambda fault: True,
    ) -> Fault | None:
        """The fault of this request, if any.

        Args:
            operation: what is asked for.
            subjects: the request id and the prompt, as far as they are known.
            early: draw among the faults that act before the request is read, or the others.
            applies: whether a fault could act here at all; a script waits until it can.
        """
        fault = self._scripted(operation, subjects, early, applies)
        if fault is not None:
            return fault
        rates = self._rates.get(operation)
        rolled = rates.roll(self._random, early=early) if rates else None
        return rolled if rolled is not None and applies(rolled) else None

    def _scripted(
        self,
        operation: str,
        subjects: Sequence[str],
        early: bool,
        applies: Callable[[Fault], bool],
    ) -> Fault | None:
        for script in self._scripts:
            fault = script.fault
            if fault.is_early == early and script.wants(operation, subjects) and applies(fault):
                script.use()
                if script.remaining == 0:
                    self._scripts.remove(script)
                return fault
        return None
