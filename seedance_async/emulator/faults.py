"""Faults: owns what can go wrong, and decides which request it happens to.

A fault comes from a script (the next matching requests get it) or from a seeded probability. This
module only chooses; ``wire`` and the routes carry it out, and the request log records it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from types import MappingProxyType
from typing import Any, Literal

from attrs import define, field, fields_dict, frozen

Operation = Literal["submit", "poll", "cancel", "models", "media", "job", "webhook"]
Stage = Literal["delay", "arrival", "instead", "wire", "body", "media", "job", "webhook"]
RetryForm = Literal["seconds", "date", "garbage", "absent"]

API: frozenset[str] = frozenset({"submit", "poll", "cancel", "models"})
HTTP: frozenset[str] = API | {"media"}
OPERATIONS: frozenset[str] = HTTP | {"job", "webhook"}


@frozen
class Kind:
    """A kind of fault: where it can happen and when it acts.

    ``stage``: ``arrival`` before the request is read; ``instead`` of the work (after it with
    ``accepted=True``); ``wire`` and ``body`` after the work, on the answer; ``job`` and
    ``webhook`` later. ``hides`` says that the client cannot read the answer, so that a submit is
    recorded as not answered.
    """

    stage: Stage
    operations: frozenset[str]
    hides: bool
    meaning: str


def _kind(stage: Stage, operations: Iterable[str], meaning: str, *, hides: bool = False) -> Kind:
    return Kind(stage, frozenset(operations), hides, meaning)


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "latency": _kind("delay", HTTP, "only the delay"),
        "drop_before_read": _kind(
            "arrival", HTTP, "closed before the body is read; nothing charged", hides=True
        ),
        "drop_before_accept": _kind(
            "instead", HTTP, "read whole, then closed; nothing charged", hides=True
        ),
        "drop_after_accept": _kind(
            "wire", HTTP, "done and charged, then closed without an answer", hides=True
        ),
        "rate_limited": _kind(
            "instead", HTTP, "429, Retry-After by retry_form; never charged", hides=True
        ),
        "500": _kind("instead", HTTP, "500 with the API's error body", hides=True),
        "502": _kind("instead", HTTP, "502 with a gateway's HTML", hides=True),
        "503": _kind("instead", HTTP, "503, bare", hides=True),
        "503_refused": _kind(
            "instead", HTTP, "503 with Retry-After and the API's error body", hides=True
        ),
        "504": _kind("instead", HTTP, "504 with a gateway's HTML", hides=True),
        "unauthorized": _kind("instead", API, "401 although the key is right", hides=True),
        "not_found": _kind("instead", ("poll", "cancel", "media"), "404 although it exists"),
        "expired": _kind("instead", ("media",), "403, as from an expired signature"),
        "gone": _kind("instead", ("media",), "410"),
        "html": _kind("instead", HTTP, "200 with an HTML page", hides=True),
        "redirect": _kind("instead", HTTP, "307 (media: 302) to value", hides=True),
        "truncated": _kind("wire", HTTP, "the body is cut after `at` bytes", hides=True),
        "wrong_content_type": _kind("wire", HTTP, "the right body labelled value or text/plain"),
        "slow_body": _kind("wire", HTTP, "the body trickles, `seconds` between pieces"),
        "huge_body": _kind("wire", API, "the answer padded to `size` bytes", hides=True),
        "gzip_bomb": _kind("wire", API, "the same, compressed to a thousandth", hides=True),
        "missing_request_id": _kind(
            "body", ("submit", "poll", "cancel"), "no requestId in the answer", hides=True
        ),
        "duplicate_request_id": _kind(
            "body", ("submit",), "the requestId of another job", hides=True
        ),
        "evil_request_id": _kind("body", ("submit",), "a job whose id is a hostile path"),
        "bad_credits": _kind(
            "body", ("submit",), "creditsCharged missing, negative, a float or a string"
        ),
        "unknown_status": _kind("body", ("submit", "poll"), 'a status like "rendering"'),
        "odd_case": _kind("body", API - {"models"}, 'a status like "Succeeded", "canceled"'),
        "regressed": _kind("body", ("poll",), "processing again after an end was told"),
        "extra_fields": _kind("body", API, "fields nobody has documented"),
        "missing_fields": _kind("body", ("poll", "models"), "optional fields left out"),
        "null_fields": _kind("body", ("poll", "models"), "optional fields null"),
        "range_ignored": _kind("media", ("media",), "200 and the whole file for a Range"),
        "etag_changed": _kind("media", ("media",), "a different ETag than before"),
        "failed": _kind("job", ("job",), "the job fails with code and message"),
        "stuck": _kind("job", ("job",), "the job processes for ever"),
        "cancelled": _kind("job", ("job",), "the server cancels the job"),
        "never": _kind("webhook", ("webhook",), "no callback"),
        "duplicate": _kind("webhook", ("webhook",), "the callback comes twice"),
        "out_of_order": _kind("webhook", ("webhook",), "the end first, processing after it"),
        "before_answer": _kind("webhook", ("webhook",), "the end before the submit's answer"),
        "forged": _kind("webhook", ("webhook",), "a forged callback before the true one"),
    }
)
"""Every kind of fault by name."""


@frozen
class Fault:
    """One thing that goes wrong. ``Fault("502", accepted=True)``.

    Attributes:
        kind: a name of ``KINDS``.
        accepted: the request is done (a submit charged) behind an ``instead`` fault.
        seconds: delay before the answer; for ``slow_body`` also between two pieces.
        virtual: ``seconds`` are virtual ones.
        reset: a dropped connection ends with RST instead of FIN.
        at: bytes of the body that are sent before it is cut; ``None`` is half of it. A negative
            number cuts inside the headers.
        chunked, lengthless: the cut body is chunked, or has no length at all, so that nobody
            can tell that it was cut; by default Content-Length promises the whole.
        retry_after: seconds in the Retry-After header.
        retry_form: how that header is written, if at all.
        first: only the first so many requests about each job (``not_found``: how long an
            accepted job is not yet visible).
        value: what is put in, where the kind puts something in.
        status: the status of a ``redirect``.
        code, message: the error of a failed job or an error answer.
        size: bytes of a ``huge_body`` or of an unpacked ``gzip_bomb``.
    """

    kind: str = field()
    accepted: bool = False
    seconds: float = 0.0
    virtual: bool = False
    reset: bool = False
    at: int | None = None
    chunked: bool = False
    lengthless: bool = False
    retry_after: float = 1.0
    retry_form: RetryForm = "seconds"
    first: int | None = None
    value: Any = None
    status: int | None = None
    code: str | None = None
    message: str | None = None
    size: int = 8 * 1024 * 1024

    @kind.validator
    def _known(self, _attribute: object, kind: str) -> None:
        if kind not in KINDS:
            raise ValueError(f"no such fault: {kind!r}; there are {', '.join(KINDS)}")

    @classmethod
    def parse(cls, text: str) -> "Fault":
        """A fault from words, for a command line: ``502 accepted=true seconds=0.5``.

        Raises:
            ValueError: for an unknown kind or field, or a value that doesn't fit.
        """
        kind, *settings = text.split()
        return cls(kind, **dict(_setting(each) for each in settings))

    @property
    def spec(self) -> Kind:
        """The kind's entry in ``KINDS``."""
        return KINDS[self.kind]

    @property
    def is_early(self) -> bool:
        """Whether it acts before the request is read."""
        return self.spec.stage == "arrival"

    @property
    def replaces_work(self) -> bool:
        """Whether the request is answered without being done."""
        return self.spec.stage == "instead" and not self.accepted

    @property
    def hides_answer(self) -> bool:
        """Whether the client is kept from a readable answer."""
        return self.spec.hides


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    known = fields_dict(Fault)
    if not equals or name == "kind" or name not in known:
        raise ValueError(f"no such setting of a fault: {text!r}")
    return name, _READERS.get(str(known[name].type), str)(value)


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(f"neither true nor false: {text!r}")
    return text.lower() == "true"


_READERS: Mapping[str, Any] = MappingProxyType(
    {str(bool): _truth, str(float): float, str(int): int, str(int | None): int}
)

Rates = Mapping[str | Fault, float]
"""Probabilities of faults: a ``Fault``, or the words that ``Fault.parse`` takes."""


def as_fault(fault: "str | Fault") -> Fault:
    """The fault itself, or the one that the words name."""
    return Fault.parse(fault) if isinstance(fault, str) else fault


def _check(operation: str, fault: Fault) -> None:
    if operation not in OPERATIONS:
        raise ValueError(f"no such operation: {operation!r}; there are {sorted(OPERATIONS)}")
    if operation not in fault.spec.operations:
        raise ValueError(f"the fault {fault.kind} does not happen to {operation}")


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
