"""Injection: chooses which fault happens to which request.

A fault comes from a script (the next matching requests get it) or from a seeded probability. This
module only chooses; the request log records the choice.
"""

from collections.abc import Callable, Mapping, Sequence
from random import Random

from attrs import define

from seedance_async.emulator.fault_kinds import OPERATIONS
from seedance_async.emulator.faults import Fault, Rates, as_fault


def _check(operation: str, fault: Fault) -> None:
    if operation not in OPERATIONS:
        raise ValueError(f"no such operation: {operation!r}; choose from {sorted(OPERATIONS)}")
    if operation not in fault.spec.operations:
        raise ValueError(f"the fault {fault.kind} cannot happen to {operation}")
    if fault.first is not None and operation != "poll":
        raise ValueError(f"`first` counts polls; it does not apply to {operation}")


class FaultRates:
    """The probabilities of one operation's faults.

    Raises:
        ValueError: a fault cannot happen to this operation, or probabilities are negative or add
            up to more than 1.
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
        # The second draw happens only if the first gave nothing, so its odds are scaled up.
        self._late = [(fault, rate / missed) for fault, rate in given if not fault.is_early]

    def roll(self, random: Random, *, early: bool) -> Fault | None:
        """One random draw, among the faults at arrival or among the others."""
        rates = self._early if early else self._late
        if not rates:
            return None
        rolled = random.random()
        for fault, rate in rates:
            if rolled < rate:
                return fault
            rolled -= rate
        return None


@define(eq=False)
class Script:
    """A fault that the next matching requests get. ``remaining=None``: all of them."""

    operation: str
    fault: Fault
    remaining: int | None
    match: str | None

    def wants(self, operation: str, subjects: Sequence[str]) -> bool:
        """Whether this request matches the script."""
        if operation != self.operation:
            return False
        return self.match is None or any(self.match in subject for subject in subjects)

    def use(self) -> None:
        """Count one use."""
        if self.remaining is not None:
            self.remaining -= 1


class Faults:
    """The faults to inject; can be changed at any time."""

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
        """Give the next ``times`` matching requests this fault; ``None`` means all of them.

        Args:
            operation: submit, poll, cancel, models, media, job or webhook.
            fault: what goes wrong.
            times: how often.
            match: part of the request id or the prompt. Neither is known when a submit arrives,
                so ``drop_before_read`` takes no match there.

        Raises:
            ValueError: the fault cannot happen to this operation.
        """
        made = as_fault(fault)
        _check(operation, made)
        if match is not None and operation == "submit" and made.spec.stage == "arrival":
            raise ValueError(
                f"{made.kind} happens before the prompt is read, so it cannot be matched"
            )
        script = Script(operation, made, times, match)
        self._scripts.append(script)
        return script

    def clear(self) -> None:
        """Remove all scripts and probabilities."""
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
            operation: the operation that is called.
            subjects: the request id and the prompt, where known.
            early: draw among the faults that act before the request is read, or the others.
            applies: whether a fault can act on this request; a script waits until it can.
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
