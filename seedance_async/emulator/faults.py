"""A fault: the value that describes what goes wrong, and how it is parsed from text.

``injection`` decides which request it happens to; ``wire`` and the routes carry it out.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, get_args

from attrs import field, fields_dict, frozen
from attrs.validators import in_

from seedance_async.emulator.fault_kinds import ENCODINGS, KINDS, NOTHING_CHARGED, Kind

Framing = Literal["length", "chunked", "ended", "close"]
RetryForm = Literal["seconds", "date", "garbage", "absent"]


@frozen
class Fault:
    """One thing that goes wrong. ``Fault("502", accepted=True)``.

    Attributes:
        kind: a name of ``KINDS``.
        accepted: the request is carried out (a submit charged) behind the answer of an ``instead``
            fault, or before the delay of a ``latency``.
        seconds: delay, with any kind; ``slow_body`` pauses this long after each piece.
        virtual: ``seconds`` are virtual seconds.
        reset: a dropped connection ends with RST instead of FIN.
        at: bytes of the body that are sent before it is cut; ``None``: half of it. A negative
            number cuts inside the headers.
        framing: how a cut body ends. ``length``: Content-Length promises the whole;
            ``chunked``: inside a chunk; ``ended``: chunked and properly ended, so the cut cannot be
            noticed; ``close``: without a length, so it cannot be noticed either.
        retry_after: seconds in the Retry-After header.
        retry_form: how that header is written, if at all; ``garbage``: value, or nonsense.
        skew: seconds by which the server's clock is ahead, with retry_form ``date``.
        first: only the first polls of each job, this many (``not_found``: an accepted job that is
            not yet visible).
        value: what the kind inserts, if it inserts something.
        status: the status of a ``redirect``, ``error``, ``html``, ``key_echo`` or ``wrong_status``.
        code, message: the error of a failed job or an error response.
        size: bytes of a ``huge_body`` or of an unpacked ``gzip_bomb``.
    """

    kind: str = field()
    accepted: bool = False
    seconds: float = field(default=0.0, converter=float)
    virtual: bool = False
    reset: bool = False
    at: int | None = None
    framing: Framing = field(default="length", validator=in_(get_args(Framing)))
    retry_after: float = field(default=1.0, converter=float)
    retry_form: RetryForm = field(default="seconds", validator=in_(get_args(RetryForm)))
    skew: float = field(default=0.0, converter=float)
    first: int | None = None
    value: Any = None
    status: int | None = None
    code: str | None = None
    message: str | None = None
    size: int = field(default=8 * 1024 * 1024, converter=int)

    @kind.validator
    def _known(self, _attribute: object, kind: str) -> None:
        if kind not in KINDS:
            raise ValueError(f"no such fault: {kind!r}; choose from {', '.join(KINDS)}")

    def __attrs_post_init__(self) -> None:
        if self.accepted and self.kind in NOTHING_CHARGED:
            raise ValueError(f"{self.kind} means that nothing is charged: not accepted=True")
        if self.kind == "compressed" and self.value not in (None, *ENCODINGS):
            raise ValueError(f"value is none of {', '.join(ENCODINGS)}: {self.value!r}")

    @classmethod
    def parse(cls, text: str) -> "Fault":
        """Parse a fault from text, as on a command line: ``502 accepted=true seconds=0.5``.

        Raises:
            ValueError: an unknown kind or field, or a value that does not fit.
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
        """Whether the request is answered without being carried out."""
        return self.spec.stage == "instead" and not self.accepted

    @property
    def hides_answer(self) -> bool:
        """Whether the client cannot read the outcome of its request."""
        if self.spec.stage == "instead":
            return self.accepted or self.kind == "drop_before_accept"
        return self.spec.hides

    @property
    def delays_work(self) -> bool:
        """Whether its delay comes before the work rather than between work and answer."""
        return self.replaces_work or (self.spec.stage == "delay" and not self.accepted)


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    known = fields_dict(Fault)
    if not equals or name == "kind" or name not in known:
        raise ValueError(f"no such setting of a fault: {text!r}")
    return name, _READERS.get(str(known[name].type), str)(value)


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(f"neither true nor false: {text!r}")
    return text.lower() == "true"


_READERS: Mapping[str, Any] = MappingProxyType(
    {str(bool): _boolean, str(float): float, str(int): int, str(int | None): int}
)

Rates = Mapping[str | Fault, float]
"""Probabilities of faults: each a ``Fault``, or text that ``Fault.parse`` takes."""


def as_fault(fault: "str | Fault") -> Fault:
    """The fault itself, or the one that the text names."""
    return Fault.parse(fault) if isinstance(fault, str) else fault
