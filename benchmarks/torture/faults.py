"""What goes wrong in a torture run, and how often: every kind of fault that the emulator knows.

About one submit in ten, one query in twelve and one transfer in eight meets a fault. Left out is
`unauthorized` for queries: a refused key halts all of them for half a minute, on purpose.
"""

from __future__ import annotations

from collections.abc import Mapping

from seedance_async.emulator.faults import Rates

Faults = Mapping[str, Rates]

_LOST_ANSWERS: Rates = {
    "drop_before_read": 0.004,
    "drop_before_read reset=true": 0.004,
    "drop_before_accept": 0.004,
    "drop_after_accept": 0.008,
    "drop_after_accept reset=true": 0.004,
    "html": 0.002,
    "html accepted=true": 0.002,
    "redirect": 0.002,
    "redirect accepted=true": 0.002,
    "500": 0.002,
    "500 accepted=true": 0.002,
    "502": 0.002,
    "502 accepted=true": 0.002,
    "503": 0.002,
    "503 accepted=true": 0.002,
    "504": 0.002,
    "504 accepted=true": 0.002,
    "huge_body size=2000000": 0.001,
    "huge_headers": 0.002,
    "gzip_bomb size=4000000": 0.001,
    "missing_request_id": 0.002,
    "duplicate_request_id": 0.003,
    "truncated": 0.004,
    "truncated at=-5": 0.002,
    "truncated at=20": 0.002,
    "truncated framing=chunked": 0.002,
    "truncated framing=ended": 0.002,
    "truncated framing=close": 0.002,
}
_REFUSALS: Rates = {
    "rate_limited retry_after=0.05": 0.008,
    "rate_limited retry_form=garbage": 0.002,
    "rate_limited retry_form=absent": 0.002,
    "rate_limited retry_form=date retry_after=0 skew=3600": 0.002,
    "503_refused retry_after=0.05": 0.004,
    "unauthorized": 0.0005,
}
_ODD_ANSWERS: Rates = {
    "latency seconds=0.3": 0.005,
    "latency seconds=0.3 accepted=true": 0.01,
    "slow_body seconds=0.01": 0.003,
    "wrong_content_type": 0.003,
    "evil_request_id": 0.003,
    "bad_credits": 0.003,
    "unknown_status": 0.002,
    "odd_case": 0.002,
    "extra_fields": 0.002,
}

MODERATE: Faults = {
    "submit_faults": {**_LOST_ANSWERS, **_REFUSALS, **_ODD_ANSWERS},
    "poll_faults": {
        "drop_before_read": 0.005,
        "drop_after_accept": 0.005,
        "drop_after_accept reset=true": 0.005,
        "500": 0.005,
        "502": 0.005,
        "503": 0.003,
        "504": 0.003,
        "503_refused retry_after=0.05": 0.003,
        "html": 0.003,
        "redirect": 0.002,
        "rate_limited retry_after=0.05": 0.005,
        "rate_limited retry_form=date retry_after=0 skew=-3600": 0.001,
        "not_found first=1": 0.01,
        "truncated": 0.003,
        "truncated framing=close": 0.003,
        "huge_body size=2000000": 0.0005,
        "huge_headers": 0.001,
        "gzip_bomb size=4000000": 0.0005,
        "latency seconds=0.2": 0.005,
        "slow_body seconds=0.01": 0.002,
        "wrong_content_type": 0.002,
        "missing_request_id": 0.002,
        "unknown_status": 0.003,
        "odd_case": 0.003,
        "regressed": 0.003,
        "extra_fields": 0.002,
        "missing_fields": 0.002,
        "null_fields": 0.002,
    },
    "media_faults": {
        "drop_before_read": 0.01,
        "drop_after_accept": 0.01,
        "drop_before_accept": 0.005,
        "500": 0.005,
        "502": 0.005,
        "503": 0.005,
        "504": 0.005,
        "503_refused": 0.005,
        "rate_limited retry_after=0.05": 0.005,
        "html": 0.005,
        "redirect": 0.005,
        "not_found": 0.005,
        "expired": 0.01,
        "gone": 0.005,
        "truncated": 0.015,
        "truncated framing=chunked": 0.005,
        "truncated framing=ended": 0.005,
        "truncated framing=close": 0.01,
        "latency seconds=0.2": 0.005,
        "slow_body seconds=0.02": 0.005,
        "range_ignored": 0.005,
        "etag_changed": 0.005,
        "wrong_content_type": 0.002,
    },
    "job_faults": {"failed": 0.02, "cancelled": 0.01, "stuck": 0.001},
}
"""Arguments of `EmulatorOptions`."""
