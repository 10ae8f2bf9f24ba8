"""How long a call waits for a service that accepts nothing, or behind others; on virtual time."""

import asyncio

import pytest

from seedance_async import (
    AuthenticationError,
    Backoff,
    BadRequestError,
    GenerationRequest,
    RateLimitError,
    SeedanceError,
    TransportError,
)
from tests.support.fakes import LOST, NOT_SENT, FakeAPI, accepted, error_reply

pytestmark = pytest.mark.virtual_time

HOUR = 3600.0


async def reach(client, api):
    """A host that was reached once is waited for longer."""
    answer, api.answer = api.answer, api.models(None)
    await client.models()
    api.answer = answer
    api.sent.clear()


def requests(count):
    return [GenerationRequest(f"prompt {number}", duration=5) for number in range(count)]


class Unchanging(FakeAPI):
    """Gives every call the same answer, `answer_after` seconds later."""

    def __init__(self, answer, **options):
        super().__init__(**options)
        self.answer = answer

    async def send(self, request, *, on_sent=None):
        self.sent.append(request)
        if self.answer is not NOT_SENT and on_sent is not None:
            on_sent()
        await asyncio.sleep(self.answer_after)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Limited(FakeAPI):
    """Accepts this many concurrent jobs, and refuses others for a second."""

    def __init__(self, limit, **options):
        super().__init__(**options)
        self.limit = limit

    def create(self, request):
        if self.active >= self.limit:
            return error_reply(429, retry_after="1")
        return super().create(request)


class Choosy(FakeAPI):
    """Refuses one prompt forever."""

    def create(self, request):
        if b"prompt 0" in request.body:
            return error_reply(429)
        return super().create(request)


async def ends_of(calls):
    """When each call ended, in seconds from now, and its result or error."""
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def end(call):
        try:
            what = await call
        except SeedanceError as error:
            what = error
        return loop.time() - began, what

    return await asyncio.gather(*map(end, calls))


@pytest.mark.parametrize("count", [1, 20, 200])
@pytest.mark.parametrize("retry_after", ["", "60", "300"])
async def test_all_calls_fail_once_a_rate_limit_has_accepted_nothing_for_an_hour(
    make_client, count, retry_after
):
    api = Unchanging(error_reply(429, retry_after=retry_after))
    async with make_client(transport=api) as client:
        ends = await ends_of([client.create(request) for request in requests(count)])
    assert {type(what) for _, what in ends} == {RateLimitError}
    longest_pause = 0 if retry_after else 20  # of our own
    assert 0.9 * HOUR < max(when for when, _ in ends) <= HOUR + longest_pause


@pytest.mark.parametrize("failure", [NOT_SENT, LOST])
async def test_all_calls_fail_once_an_outage_exceeds_their_timeout(make_client, failure):
    api = Unchanging(failure, answer_after=15.0)
    async with make_client(transport=api) as client:
        await reach(client, api)
        ends = await ends_of([client.create(request) for request in requests(300)])
    last = max(when for when, _ in ends)
    assert 550 < last < 660, "the last attempts take 15 seconds and pause for 20"
    unsent = [what for _, what in ends if isinstance(what, TransportError)]
    assert len(unsent) > 150
    assert {error.delivered for error in unsent} == {"no"}
    assert len(api.sent) < 100


async def test_a_later_call_has_its_own_timeout(make_client):
    api = Unchanging(NOT_SENT)
    async with make_client(transport=api) as client:
        await reach(client, api)
        first = asyncio.ensure_future(ends_of([client.create(r) for r in requests(20)]))
        await asyncio.sleep(500)
        (later, _), *_ = await ends_of([client.create(requests(1)[0])])
        await first
    assert later > 500


@pytest.mark.parametrize("operation", ["get", "cancel"])
async def test_queries_fail_at_once_when_the_server_asks_for_too_long_a_wait(
    make_client, operation
):
    api = Unchanging(error_reply(429, retry_after="86400"), answer_after=0.1)
    async with make_client(transport=api, max_connections=2) as client:
        ask = getattr(client, operation)
        ends = await ends_of([ask(f"req_{number}") for number in range(50)])
    assert max(when for when, _ in ends) < 1
    assert len(api.sent) <= 2


async def test_polls_wait_even_then(make_client, api):
    """They are repeated anyway, so they need not fail."""
    api.jobs["req_1"] = 0.0
    api.script["get"] += [error_reply(429, retry_after="86400")]
    async with make_client() as client:
        polls = [client.get_once("req_1") for _ in range(3)]
        first, *others = await asyncio.gather(*polls, return_exceptions=True)
    assert isinstance(first, RateLimitError)
    assert [other.status for other in others] == ["succeeded"] * 2


@pytest.mark.parametrize(("limit", "seconds"), [(1, 300.0), (2, 300.0), (5, 600.0)])
async def test_a_batch_completes_however_long_a_small_tier_takes(make_session, limit, seconds):
    api = Limited(limit, seconds=seconds, answer_after=0.1)
    async with make_session(transport=api, max_in_flight=50, poll=Backoff()) as session:
        result = await session.run(requests(40 * limit))
        assert len(result.succeeded) == 40 * limit
        assert limit <= session.stats().submit_limit <= limit + 2  # ends are reported late
    assert sum(sent.charges for sent in api.sent) <= 15 * 40 * limit


async def test_a_call_that_alone_is_refused_fails_too(make_client):
    loop = asyncio.get_running_loop()
    async with make_client(transport=Choosy()) as client:
        refused = asyncio.ensure_future(client.create(requests(1)[0]))
        while not refused.done() and loop.time() < 4 * HOUR:
            await client.create(GenerationRequest("another", duration=5))
            await asyncio.sleep(10)
        refused.cancel()
        assert HOUR < loop.time() < 3 * HOUR
        with pytest.raises(RateLimitError):
            await refused


async def test_a_rejection_with_a_retry_after_concerns_one_job_alone(make_client, api):
    api.script["create"] += [NOT_SENT, error_reply(400, retry_after="86400")]
    async with make_client(max_connections=1) as client:
        ends = await ends_of([client.create(request) for request in requests(20)])
    assert [type(what) for _, what in ends].count(BadRequestError) == 1
    assert len(api.jobs) == 19


async def test_any_answer_ends_an_outage(make_client, api):
    api.script["create"] += [NOT_SENT, error_reply(400)]
    async with make_client() as client:
        with pytest.raises(BadRequestError):
            await client.create(requests(1)[0])
        assert client.submit_gate.trouble.failing_since > asyncio.get_running_loop().time()


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [(error_reply(401), 30.0), (error_reply(403, "unauthorized"), 30.0), (error_reply(403), 0.0)],
)
async def test_polls_pause_for_a_refused_key_and_not_for_a_refused_job(
    make_client, api, answer, seconds
):
    api.jobs["req_1"] = 0.0
    api.script["get"].append(answer)
    async with make_client() as client:
        with pytest.raises(AuthenticationError):
            await client.get_once("req_1")
        began = asyncio.get_running_loop().time()
        await client.get_once("req_1")
        assert asyncio.get_running_loop().time() - began == pytest.approx(seconds)


async def test_an_id_that_is_already_known_does_not_count_as_another_job(make_session, api):
    """Otherwise the number of running jobs would be too high from then on."""
    api.script["create"] += [accepted("req_0"), accepted("req_0")]
    api.jobs["req_0"] = 0.0
    async with make_session() as session:
        result = await session.run(requests(2))
        assert [job.state for job in result] == ["succeeded", "uncertain"]
        assert ", 0 running," in repr(session.client.submit_gate)


@pytest.mark.parametrize("trouble", [NOT_SENT, error_reply(429)])
async def test_time_while_the_loop_is_blocked_counts_towards_no_timeout(make_client, api, trouble):
    """A laptop that sleeps, say: when it wakes, the network is not up yet."""
    loop = asyncio.get_running_loop()
    api.answer_after = 1.0
    api.script["create"] += [trouble] * 60
    async with make_client() as client:
        await client.models()  # it was there before
        creating = [asyncio.ensure_future(client.create(request)) for request in requests(100)]
        await asyncio.sleep(3)
        assert api.script["create"]
        loop.block(4000)
        await asyncio.gather(*creating)
    assert len(api.jobs) == 100
