"""The faults of a torture run and their probabilities: nearly every kind that the emulator has.

About one submit in seven, one query in nine and one download in seven meets a fault. Left out are
`unauthorized` for queries, because a refused key pauses all of them for half a minute on purpose;
`price_changed`, which can overrun a budget by one job; `wrong_status`, because the SDK takes a 429
to mean that nothing was charged; and `bad_output`, after which there is nothing to download.
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
    "bad_gzip": 0.001,
    "compressed value=br": 0.001,
    "compressed value=zstd": 0.001,
    "success_false": 0.001,
    "success_false accepted=true": 0.001,
    "key_echo": 0.001,
    "error status=408": 0.001,
    "error status=409 accepted=true": 0.001,
    "missing_request_id": 0.002,
    "nested": 0.001,
    "bad_request_id": 0.001,
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
    "compressed": 0.002,
    "closes_after": 0.002,
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
        "bad_gzip": 0.001,
        "compressed": 0.002,
        "compressed value=br": 0.001,
        "compressed value=zstd": 0.001,
        "closes_after": 0.002,
        "success_false": 0.001,
        "key_echo": 0.001,
        "error status=409": 0.001,
        "error status=408": 0.001,
        "nested": 0.001,
        "other_job": 0.002,
        "trimmed_prompt": 0.002,
        "bad_error": 0.003,
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
        "html status=520": 0.002,
        "closes_after": 0.005,
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
        "wrong_range": 0.005,
        "etag_changed": 0.005,
        "wrong_content_type": 0.002,
    },
    "job_faults": {"failed": 0.02, "cancelled": 0.01, "stuck": 0.001},
}
"""Arguments of `EmulatorOptions`."""

BUCKET: Faults = {
    "submit_faults": {"drop_after_accept": 0.01, "500 accepted=true": 0.005, "html": 0.005},
    "media_faults": MODERATE["media_faults"],
    "job_faults": {"failed": 0.02, "cancelled": 0.01},
}
"""The same for batches into a bucket, where the downloads are what matters."""
