"""The options of an emulator and their defaults."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from attrs import field, frozen
from attrs.converters import optional as optional_converter
from attrs.validators import ge, gt, in_, optional

from seedance_async.emulator.contract import AllowHttp, UnknownFields
from seedance_async.emulator.faults import Rates


@frozen(kw_only=True)
class EmulatorOptions:
    """Options of an ``Emulator``. Virtual seconds are real seconds times ``speed``.

    Attributes:
        host, port: where to listen; port 0 picks a free one.
        seed: of everything random: ids, running times, faults.
        speed: virtual seconds per real second; with 600, 90 s take 0.15 s.
        gpus: jobs that run at once.
        median_seconds, sigma: the log-normal running time of a job, in virtual seconds.
        hold: jobs start and end only by ``emulator.jobs.start`` and ``finish``.
        api_key, balance: the first account.
        refund_failed: return the credits of failed and cancelled jobs. Undocumented.
        submit_rate, submit_burst: a token bucket, submits per real second; ``None``: no limit.
        max_active: 429 while this many jobs are queued or processing; ``None``: no limit.
        allow_http: whether ``http://`` media URLs are accepted; by default for loopback hosts only.
        unknown_fields: a submit with a field that the vendor does not list is a 400, or the field
            is ignored. Undocumented.
        models: the model cards, as ``GET /models`` answers them; it enforces what they say of
            durations, aspect ratios, resolutions and prices, and takes the fields that a card names
            in ``extra``: a list of names, or JSON Schemas by name. ``None``: the documented models.
        media: ``rendered``: a clip of its own for every job; ``shared``: one clip of 240 lines for
            all jobs of the same length and format, for load tests.
        media_ttl: virtual seconds for which an output URL is valid; ``None``: it does not
            expire.
        ledger_path: a file of JSON lines that the ledger is appended to.
        submit_faults and so on: probabilities of faults by operation, ``{"502": 0.1}``.
    """

    host: str = "127.0.0.1"
    port: int = 0
    seed: int = 0
    speed: float = field(default=1.0, validator=gt(0))
    gpus: int = field(default=8, validator=ge(1))
    median_seconds: float = field(default=90.0, validator=gt(0))
    sigma: float = field(default=0.35, validator=ge(0))
    hold: bool = False
    api_key: str = field(default="sd2_live_emulator", repr=False)
    balance: int = 1_000_000_000
    refund_failed: bool = False
    submit_rate: float | None = field(default=None, validator=optional(gt(0)))
    submit_burst: int = field(default=10, validator=ge(1))
    max_active: int | None = field(default=None, validator=optional(ge(1)))
    allow_http: AllowHttp = "loopback"
    unknown_fields: UnknownFields = field(default="refused", validator=in_(get_args(UnknownFields)))
    models: Sequence[Mapping[str, Any]] | None = None
    media: Literal["rendered", "shared"] = field(
        default="rendered", validator=in_(("rendered", "shared"))
    )
    media_ttl: float | None = field(default=None, validator=optional(gt(0)))
    ledger_path: Path | None = field(default=None, converter=optional_converter(Path))
    submit_faults: Rates = field(factory=dict)
    poll_faults: Rates = field(factory=dict)
    cancel_faults: Rates = field(factory=dict)
    models_faults: Rates = field(factory=dict)
    media_faults: Rates = field(factory=dict)
    job_faults: Rates = field(factory=dict)
    webhook_faults: Rates = field(factory=dict)

    def fault_rates(self) -> Mapping[str, Rates]:
        """The probabilities by operation."""
        return {
            "submit": self.submit_faults,
            "poll": self.poll_faults,
            "cancel": self.cancel_faults,
            "models": self.models_faults,
            "media": self.media_faults,
            "job": self.job_faults,
            "webhook": self.webhook_faults,
        }
