"""A session that learns when its jobs end: what the planner is given, and what takes precedence."""

import asyncio
import random
from itertools import pairwise

import pytest

from seedance_async import Backoff, GenerationRequest, JobTimeoutError, LearnedPolls
from seedance_async.jobs.polling import poller
from seedance_async.jobs.polling.adaptive import PlainPolls
from tests.support.fakes import error_reply, operation_of, reply

pytestmark = pytest.mark.virtual_time

#: With few polls, so that much depends on where they are.
SPARSE = LearnedPolls(backoff=Backoff())


def draft(number):
    return GenerationRequest(f"draft {number}", duration=4, resolution="480p")


async def lag_and_polls(session, api, request):
    """Seconds between the end of a job and its notice, and the status queries that it took."""
    job = await session.submit(request)
    begun, polls = api.jobs[job.request_id], api.count("get")
    await job
    return asyncio.get_running_loop().time() - begun - api.seconds, api.count("get") - polls


async def test_after_some_jobs_the_end_of_the_next_one_of_their_kind_is_noticed_sooner(
    make_session, api
):
    api.seconds, api.queues = 97.0, False
    plain = {}
    async with make_session(poll=Backoff()) as session:
        lag, polls = await lag_and_polls(session, api, draft(0))
        plain = {"lag": lag, "polls": polls}
    async with make_session(poll=SPARSE) as session:
        for _ in range(20):
            await session.run([draft(number) for number in range(5)])
        lag, polls = await lag_and_polls(session, api, draft(1))
        other = GenerationRequest("a film", duration=15, resolution="720p")
        other_lag, other_polls = await lag_and_polls(session, api, other)
    assert lag < 3
    assert polls <= plain["polls"] + 2
    assert other_polls == plain["polls"], "nothing is known about another kind yet"
    assert other_lag > 3


@pytest.mark.parametrize("unit", [1.0, 0.01])
async def test_jobs_that_all_take_the_same_time_are_polled_only_around_it(make_session, api, unit):
    api.seconds = 97.0 * unit
    backoff = Backoff(initial=2 * unit, maximum=30 * unit, floor=0.01 * unit)
    async with make_session(poll=LearnedPolls(backoff=backoff)) as session:
        for _ in range(20):
            await session.run([draft(number) for number in range(5)])
        seen = [await lag_and_polls(session, api, draft(number)) for number in range(10)]
    lags, polls = zip(*seen, strict=True)
    assert sum(lags) / 10 < 1 * unit
    assert sum(polls) / 10 <= 5, "plain backoff makes eight or nine"


async def test_a_job_on_a_service_that_became_slower_is_not_polled_without_bounds(
    make_session, api
):
    api.seconds = 30.0
    async with make_session(rng=random.Random(5), poll=SPARSE) as session:
        for _ in range(20):
            await session.run([draft(number) for number in range(5)])
        api.seconds = 300.0
        _, first = await lag_and_polls(session, api, draft(1))
    async with make_session(poll=Backoff()) as session:
        _, plain = await lag_and_polls(session, api, draft(2))
    assert first <= 4 + 2 * plain + 1, "the bound that holds whatever was learned"


async def test_a_retry_after_of_the_server_takes_precedence_over_what_was_learned(
    make_session, api
):
    asked = reply(
        body={"success": True, "requestId": "req_0", "status": "processing"},
        headers={"retry-after": "45"},
    )
    times = []

    async def note(request):
        times.append(asyncio.get_running_loop().time())
        return asked if len(times) == 1 else None

    api.seconds = 30.0
    api.script["get"] += [note, note]
    async with make_session() as session:
        await session.generate(draft(0))
    assert times[1] - times[0] == pytest.approx(45.0, abs=0.1)


@pytest.mark.parametrize("hint", ["0", "-3", "soon", "1e999", "99999999999"])
async def test_a_senseless_retry_after_neither_floods_the_server_nor_loses_the_job(
    make_session, api, hint
):
    body = {"success": True, "requestId": "req_0", "status": "processing"}
    api.script["get"] += [reply(body=body, headers={"retry-after": hint})] * 20
    api.seconds = 2000.0
    async with make_session(poll_failure_timeout=100.0) as session:
        job = await session.submit(draft(0))
        await asyncio.sleep(2001.0)
        assert api.count("get") <= 500
        assert (await job).status == "succeeded"


async def test_a_retry_after_of_zero_still_waits_half_a_second(make_session, api):
    body = {"success": True, "requestId": "req_0", "status": "processing"}
    asked_at = []

    async def answer(request):
        asked_at.append(asyncio.get_running_loop().time())
        return reply(body=body, headers={"retry-after": "0"})

    api.script["get"] += [answer] * 10
    async with make_session() as session:
        await session.generate(draft(0))
    assert min(later - earlier for earlier, later in pairwise(asked_at)) >= 0.499


async def test_a_retry_after_applies_to_the_next_poll_only(make_session, api):
    body = {"success": True, "requestId": "req_0", "status": "processing"}
    api.script["get"] += [reply(body=body, headers={"retry-after": "1"})] * 3
    api.script["get"] += [error_reply(502)] * 1000
    async with make_session(poll=SPARSE) as session:
        job = await session.submit(draft(0))
        await asyncio.sleep(600)
        assert api.count("get") <= 30, "not one a second while every poll fails"
        api.script["get"].clear()
        await job


class Recorder(PlainPolls):
    """`PollTimes` that record what polls have shown."""

    def __init__(self, backoff, seen):
        super().__init__(backoff)
        self.seen = seen

    def running(self, kind, after, by, *, queued=False):
        self.seen.append(("running", after, by))

    def finished(self, kind, after, by):
        self.seen.append(("finished", after, by))


async def test_a_job_is_polled_more_rarely_while_it_is_queued(make_session, api):
    api.seconds, polls = 90.0, []
    for queues in (True, False):
        api.queues = queues
        async with make_session(poll=LearnedPolls()) as session:
            lag, made = await lag_and_polls(session, api, draft(0))
        assert lag < 5
        polls.append(made)
    assert polls[0] <= polls[1] - 3, "half of the time it is queued"


@pytest.fixture
def seen(monkeypatch):
    """What polls have shown in this test."""
    seen = []
    monkeypatch.setattr(poller, "poll_times", lambda backoff: Recorder(backoff, seen))
    return seen


async def test_each_poll_is_learned_from_together_with_the_one_before(make_session, api, seen):
    api.seconds = 30.0
    async with make_session(poll=Backoff(jitter=0)) as session:
        await session.generate(draft(0))
    whats, afters, bys = zip(*seen, strict=True)
    assert whats == ("running",) * (len(whats) - 1) + ("finished",)
    assert afters == (0.0, *bys[:-1])
    assert bys[-2] < 30.0 <= bys[-1]


async def test_an_end_reported_by_a_delayed_poll_is_not_taken_for_an_early_one(
    make_session, api, seen
):
    """The poll waits at the gate because another one was refused: it is sent after the end."""
    api.seconds = 60.0

    async def refuse(request):
        return error_reply(429, retry_after="50")

    poll = Backoff(initial=40, maximum=40, jitter=0)
    async with make_session(poll=poll, max_connections=3) as session:
        api.script["get"] += [refuse]
        await session.submit(draft(0))
        await asyncio.sleep(1)
        await session.submit(draft(1))
    ends = [by for what, _, by in seen if what == "finished"]
    assert len(ends) == 2
    assert min(ends) >= 60.0


async def test_the_deadline_holds_whatever_was_learned(make_session, api):
    api.queues = False
    api.seconds = 80.0
    async with make_session(job_timeout=100.0, poll=LearnedPolls(stretch=10)) as session:
        for _ in range(10):
            await session.run([draft(number) for number in range(5)])
        api.seconds = 1e6
        began = asyncio.get_running_loop().time()
        with pytest.raises(JobTimeoutError):
            await session.generate(draft(1))
        assert asyncio.get_running_loop().time() - began == pytest.approx(100.0, abs=1.0)


async def test_a_job_accepted_in_another_session_is_polled_by_plain_backoff(make_session, api):
    api.seconds = 97.0
    async with make_session(poll=SPARSE) as session:
        for _ in range(20):
            await session.run([draft(number) for number in range(5)])
        api.jobs["req_old"] = asyncio.get_running_loop().time() - 50
        before = len(api.sent)
        await (await session.attach("req_old"))
        polls = [r for r in api.sent[before:] if operation_of(r) == "get"]
    assert 5 <= len(polls) <= 9
