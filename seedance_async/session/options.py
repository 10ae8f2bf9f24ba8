"""The options of a session, each written once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from seedance_async.api.backoff import Backoff
from seedance_async.api.client import ClientOptions
from seedance_async.api.option_fields import (
    count,
    flag,
    function,
    is_a,
    named_counts,
    positive,
    seconds,
    whole,
)
from seedance_async.jobs.polling.adaptive import LearnedPolls
from seedance_async.webhooks import WebhookReceiver

if TYPE_CHECKING:
    from seedance_async.api.local_media import Uploader
    from seedance_async.jobs.events import Event
    from seedance_async.journal import Journal


def _poll_rate(given: SessionOptions) -> float:
    """Enough to poll each job every two seconds, within what one process can do."""
    jobs = given.max_in_flight
    return max(20.0, min(jobs, 2000) / 2) if isinstance(jobs, int) else 20.0  # refused later


def _learned_if_none(poll: Backoff | LearnedPolls | None) -> Backoff | LearnedPolls:
    return LearnedPolls() if poll is None else poll


@attrs.frozen(kw_only=True, eq=False, repr=False)
class SessionOptions(ClientOptions):
    """The options of a `SeedanceSession`, besides those of a `SeedanceClient`.

    Args:
        max_in_flight: jobs between submit and their end, at every instant. One that is no longer
            waited for counts until it is known to have ended, or for an hour (for `job_timeout` if
            that is longer).
        max_downloads: downloads at once.
        poll: when a job is polled. By default with exponential backoff up to about five seconds,
            and once a dozen similar jobs have ended, around the time when they tend to end. A
            `Backoff` is used as it is.
        poll_rate: polls per second over all jobs. By default half of `max_in_flight`, from 20 to
            1,000. If it is too low, all intervals grow alike; see `SessionStats.poll_stretch`.
        job_timeout: seconds of processing after which the session stops waiting for a job, plus
            up to a minute for a final poll. The time in the server's queue does not count.
        queue_timeout: the same for a job that is still queued, in seconds from acceptance.
        poll_failure_timeout: seconds of nothing but failed polls after which the session stops
            waiting for a job.
        cancel_on_error: cancel the remote jobs when the block is left by an exception.
        journal: a file, or a `Journal`: the durable record of the run. A run that is killed and
            started again with the same requests resumes its own jobs and submits only what was
            never sent. Requests are recognised by their content and by how often it occurred;
            give `submit` a key where that is not what makes a job the same.
        read_journal: read the whole journal when the session is opened. Without that, one with many
            thousands of jobs is opened as quickly as an empty one, and each job is looked up when
            it comes up; but a stream whose credits are used up does not know whether jobs of
            earlier runs are still to come in its input, and `attach` needs a token to know the key.
            With `webhooks` it is read all the same, unless it is shared.
        media_key: gives each media URL the text by which its medium is known again, where the URL
            itself changes: `without_query` for signed URLs. By default, the whole URL.
        uploader: puts a file from this machine where the API can fetch it: an async function of a
            `LocalMedium` that returns a public URL, or one of `seedance_async.media`. Requests may
            then have such files as media. Each content is uploaded once, when a job that needs it
            is about to be submitted, and a job is known again by the content, whatever its URL.
        max_credits: a limit on the sum of all charges, those of earlier runs in the journal
            included. What may have been charged counts.
        budgets: named limits on credits, of tenants for example: `submit(…, budget="acme")` counts
            for that one, and for `max_credits`. With a journal they hold over all its runs.
        max_uncertain_in_a_row: uncertain submits, one after the other, after which a stream or a
            batch submits no more: each may have been charged.
        max_abandoned_in_a_row: jobs that the session stopped waiting for, one after the other,
            after which nothing more is submitted until one of them is known to have ended.
        resubmit_uncertain: submit again what an earlier run left uncertain. It may pay twice.
        webhooks: where the application receives callbacks. Each job without a `webhook_url` of its
            own is called back there. A callback makes the next poll come sooner, and lets an
            uncertain job continue once a query has confirmed the id in it. With a journal, those
            of jobs that an earlier process submitted are expected, too.
        on_event: called on the event loop with each `Event`, in order and as it happens, except
            that the outcome of a submit is on disk first. It must not block. What it raises is
            logged and affects no job.
        poll_patience: the former name of `poll_failure_timeout`.
    """

    max_in_flight: int = count(20)
    max_downloads: int = count(4)
    poll: Backoff | LearnedPolls = attrs.field(
        default=LearnedPolls(),
        converter=_learned_if_none,
        validator=is_a(Backoff, LearnedPolls),
    )
    poll_rate: float = attrs.field(
        default=attrs.Factory(_poll_rate, takes_self=True), validator=positive
    )
    job_timeout: float = seconds(3600.0)
    queue_timeout: float = seconds(86_400.0)
    poll_patience: float | None = attrs.field(
        default=None, validator=attrs.validators.optional(positive)
    )
    poll_failure_timeout: float = attrs.field(
        default=attrs.Factory(lambda given: given.poll_patience or 900.0, takes_self=True),
        validator=positive,
    )
    cancel_on_error: bool = flag(False)
    journal: Journal | str | Path | None = None
    read_journal: bool = flag(True)
    media_key: Callable[[str], str] | None = attrs.field(
        default=None, validator=attrs.validators.optional(function)
    )
    uploader: Uploader | None = attrs.field(
        default=None, validator=attrs.validators.optional(function)
    )
    max_credits: int | None = attrs.field(default=None, validator=attrs.validators.optional(whole))
    budgets: Mapping[str, int] | None = attrs.field(
        default=None, validator=attrs.validators.optional(named_counts)
    )
    max_uncertain_in_a_row: int = count(10)
    max_abandoned_in_a_row: int = count(10)
    resubmit_uncertain: bool = flag(False)
    webhooks: WebhookReceiver | None = None
    on_event: Callable[[Event], object] | None = None
