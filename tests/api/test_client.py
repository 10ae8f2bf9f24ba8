"""The client's HTTP behaviour: what goes over the wire, and what each answer becomes."""

import asyncio
import json
import random

import aiohttp
import pytest

from seedance_async import (
    APIError,
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    ConflictError,
    GenerationRequest,
    GenerationStatus,
    InsufficientCreditsError,
    InvalidRequestError,
    NotFoundError,
    RateLimitError,
    ResponseFormatError,
    RetryPolicy,
    SeedanceClient,
    SubmitUncertainError,
    TransportError,
)
from tests.conftest import KEY, SEED
from tests.support.fakes import LOST, NOT_SENT, error_reply
from tests.support.http_mock import MockedHTTP

API = "https://api.example"
SUBMIT = f"{API}/api/open/v1/video/generations"
JOB = f"{SUBMIT}/req_1"
ACCEPTED = {"success": True, "requestId": "req_1", "status": "queued", "creditsCharged": 64}
TOLD = {"success": True, "requestId": "req_1", "status": "processing", "error": None}
REQUEST = GenerationRequest(
    "a river", media_urls=["https://example.com/a.jpg"], aspect_ratio="16:9", duration=5
)


@pytest.fixture
def http():
    with MockedHTTP() as mocked:
        yield mocked


@pytest.fixture
async def client(http):
    async with SeedanceClient(
        KEY, API, retry=RetryPolicy(attempts=3), rng=random.Random(SEED)
    ) as made:
        yield made


def error_body(code="some_code", message="some words"):
    return {"success": False, "error": {"code": code, "message": message}}


# --- what goes over the wire ---------------------------------------------------------------------


async def test_create_posts_the_documented_body_with_the_key(http, client):
    http.post(SUBMIT, payload=ACCEPTED)
    submission = await client.create(REQUEST)
    assert (submission.request_id, submission.credits_charged) == ("req_1", 64)
    assert submission.status is GenerationStatus.QUEUED
    (call,) = http.calls
    assert json.loads(call.kwargs["data"]) == {
        "prompt": "a river",
        "model": "seedance-2.0",
        "mediaUrls": ["https://example.com/a.jpg"],
        "aspectRatio": "16:9",
        "duration": 5,
    }
    assert call.kwargs["headers"]["Authorization"] == f"Bearer {KEY}"
    assert call.kwargs["headers"]["Content-Type"] == "application/json"
    assert call.kwargs["allow_redirects"] is False


async def test_get_cancel_and_models_call_their_endpoints(http, client):
    http.get(JOB, payload=TOLD)
    http.post(f"{JOB}/cancel", payload={**TOLD, "status": "cancelled"})
    http.get(f"{API}/api/open/v1/models", payload={"success": True, "data": [{"id": "m"}]})
    assert (await client.get("req_1")).status is GenerationStatus.PROCESSING
    assert (await client.cancel("req_1")).status is GenerationStatus.CANCELLED
    assert [model.id for model in await client.models()] == ["m"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (aiohttp.ServerDisconnectedError(), SubmitUncertainError),
        (aiohttp.ClientPayloadError("cut short"), SubmitUncertainError),
        (aiohttp.InvalidURL("no URL"), TransportError),
    ],
    ids=["disconnected", "cut short", "never sent"],
)
async def test_what_a_mocked_submit_raises_counts_as_sent_unless_its_class_says_no(
    http, client, error, kind
):
    http.post(SUBMIT, exception=error)
    with pytest.raises(kind):
        await client.create(REQUEST)
    assert http.call_count == 1


async def test_a_mocked_connection_that_fails_is_tried_again(http, client):
    http.post(SUBMIT, exception=aiohttp.ConnectionTimeoutError("hangs"))
    http.post(SUBMIT, payload=ACCEPTED)
    assert (await client.create(REQUEST)).request_id == "req_1"


async def test_a_wrong_content_type_does_not_matter(http, client):
    http.post(SUBMIT, body=json.dumps(ACCEPTED), content_type="text/plain")
    assert (await client.create(REQUEST)).request_id == "req_1"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequestError),
        (401, AuthenticationError),
        (402, InsufficientCreditsError),
        (403, AuthenticationError),
        (404, NotFoundError),
        (413, APIError),
        (422, BadRequestError),
    ],
)
async def test_a_refused_submit_raises_and_is_sent_once(http, client, status, kind):
    http.post(SUBMIT, status=status, payload=error_body("a_code", "told why"))
    with pytest.raises(kind, match="told why") as caught:
        await client.create(REQUEST)
    assert (caught.value.status, caught.value.code) == (status, "a_code")
    assert http.call_count == 1


@pytest.mark.parametrize("status", [302, 307, 408, 409, 425, 500, 502, 503, 504, 599])
async def test_an_ambiguous_status_makes_the_submit_uncertain_and_is_sent_once(
    http, client, status
):
    http.post(SUBMIT, status=status, payload=error_body(), repeat=True)
    with pytest.raises(SubmitUncertainError, match=str(status)) as caught:
        await client.create(REQUEST)
    assert caught.value.request == REQUEST
    assert http.call_count == 1


@pytest.mark.parametrize(
    "made",
    [
        {"payload": {"success": True, "status": "queued"}},
        {"payload": {"success": True, "requestId": 7}},
        {"payload": {"success": True, "requestId": ""}},
        {"payload": ["req_1"]},
        {"body": "<html>Welcome to the hotel</html>", "content_type": "text/html"},
        {"body": ""},
        {"status": 503, "payload": error_body()},
        {"status": 503, "body": "busy", "headers": {"Retry-After": "1"}},
    ],
)
async def test_an_answer_without_a_usable_id_makes_the_submit_uncertain(http, client, made):
    http.post(SUBMIT, repeat=True, **made)
    with pytest.raises(SubmitUncertainError):
        await client.create(REQUEST)
    assert http.call_count == 1


@pytest.mark.parametrize("status", [429, 503])
async def test_a_refusal_for_now_is_waited_out_and_sent_again(http, client, status):
    http.post(SUBMIT, status=status, payload=error_body(), headers={"Retry-After": "0"})
    http.post(SUBMIT, payload=ACCEPTED)
    assert (await client.create(REQUEST)).request_id == "req_1"


async def test_a_query_is_repeated_after_a_server_error_and_a_foreign_answer(http, client):
    http.get(JOB, status=500)
    http.get(JOB, body="<html>")
    http.get(JOB, payload=TOLD)
    assert (await client.get("req_1")).status == "processing"


async def test_an_answer_about_another_job_is_never_taken(http, client):
    http.get(JOB, payload={**TOLD, "requestId": "req_2"}, repeat=True)
    with pytest.raises(ResponseFormatError, match="req_2"):
        await client.get("req_1")


async def test_a_bad_request_id_is_refused_before_anything_is_sent(http, client):
    for request_id in ("", "a\nb", "x" * 2000):
        with pytest.raises(ValueError, match="request id"):
            await client.get(request_id)
    assert not http.requests


async def test_a_bad_request_is_refused_before_anything_is_sent(http, client):
    with pytest.raises(InvalidRequestError):
        await client.create(GenerationRequest(""))
    assert not http.requests


def test_a_client_without_a_key_says_how_to_give_one(monkeypatch):
    monkeypatch.delenv("SEEDANCE_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="SEEDANCE_API_KEY"):
        SeedanceClient()


async def test_a_client_shows_no_secret(client):
    assert KEY not in repr(client) + repr(vars(client))


# --- retries, on virtual time --------------------------------------------------------------------


@pytest.mark.virtual_time
class TestRetries:
    async def test_an_undelivered_submit_is_tried_until_its_time_is_over(self, make_client, api):
        """However often: an outage must not use up the attempts of a whole batch."""
        api.script["create"] += [NOT_SENT] * 1000
        async with make_client(retry=RetryPolicy(attempts=2, timeout=300)) as client:
            await client.models()  # it is there
            began = asyncio.get_running_loop().time()
            with pytest.raises(TransportError) as caught:
                await client.create(REQUEST)
        assert caught.value.delivered == "no"
        assert 250 < asyncio.get_running_loop().time() - began <= 300

    async def test_an_outage_is_met_by_one_submit_at_a_time(self, make_client, api):
        api.script["create"] += [NOT_SENT] * 60
        async with make_client() as client:
            await client.models()  # it was there before
            await asyncio.gather(*(client.create(REQUEST) for _ in range(40)))
        assert len(api.jobs) == 40

    async def test_a_service_that_answers_nothing_is_not_fed_the_whole_batch(
        self, make_client, api
    ):
        """Each of these may be charged: after the first few they go one at a time, ever slower."""
        api.script["create"] += [LOST] * 1000
        async with make_client(max_connections=4) as client:
            creating = [asyncio.ensure_future(client.create(REQUEST)) for _ in range(200)]
            await asyncio.sleep(500)
            assert api.count("create") < 80
            for task in creating:
                task.cancel()
            results = await asyncio.gather(*creating, return_exceptions=True)
        assert {type(r) for r in results} == {SubmitUncertainError, asyncio.CancelledError}

    async def test_a_failing_call_ends_when_its_time_is_over(self, make_client, api):
        api.script["get"] += [LOST] * 1000
        began = asyncio.get_running_loop().time()
        async with make_client(retry=RetryPolicy(attempts=1000, timeout=60)) as client:
            with pytest.raises(TransportError):
                await client.get("req_1")
        assert 30 < asyncio.get_running_loop().time() - began <= 60

    async def test_a_certificate_error_is_never_tried_again(self, make_client, api):
        api.script["create"] += [TransportError("bad", delivered="no", transient=False)] * 2
        async with make_client() as client:
            with pytest.raises(TransportError):
                await client.create(REQUEST)
        assert len(api.script["create"]) == 1

    async def test_refusals_by_a_rate_limit_burn_no_attempts(self, make_client, api):
        api.script["create"] += [error_reply(429, retry_after="5")] * 50
        async with make_client(retry=RetryPolicy(attempts=2)) as client:
            assert (await client.create(REQUEST)).request_id == "req_0"

    async def test_an_endless_rate_limit_is_not_waited_for_endlessly(self, make_client, api):
        api.script["create"] += [error_reply(429, retry_after="60")] * 1000
        async with make_client(retry=RetryPolicy(throttle_timeout=600)) as client:
            began = asyncio.get_running_loop().time()
            with pytest.raises(RateLimitError):
                await client.create(REQUEST)
            assert asyncio.get_running_loop().time() - began <= 600

    async def test_a_429_without_a_delay_is_backed_off_from(self, make_client, api):
        api.script["create"] += [error_reply(429)] * 6
        began = asyncio.get_running_loop().time()
        async with make_client() as client:
            await client.create(REQUEST)
        assert asyncio.get_running_loop().time() - began > 1

    async def test_the_gate_closes_for_all_and_opens_slowly(self, make_client, api):
        """After a refusal one submit goes first; the others follow when it has come through."""
        api.answer_after = 1.0
        api.script["create"] += [error_reply(429, retry_after="10")]
        async with make_client(max_connections=8) as client:
            await asyncio.gather(*(client.create(REQUEST) for _ in range(30)))
            assert client.submit_gate.refusals == 1
        assert api.count("create") == 31

    async def test_a_poll_asked_to_wait_too_long_waits_no_longer_than_the_limit(
        self, make_client, api
    ):
        api.jobs["req_1"] = 0.0
        api.script["get"] += [error_reply(429, retry_after="86400")]
        async with make_client(retry=RetryPolicy(max_retry_after=100)) as client:
            with pytest.raises(RateLimitError):
                await client.get_once("req_1")
            began = asyncio.get_running_loop().time()
            await client.get_once("req_1")
            assert asyncio.get_running_loop().time() - began == pytest.approx(100)

    async def test_a_cancellation_is_repeated_until_it_is_answered(self, make_client, api):
        api.script["cancel"] += [LOST, NOT_SENT, error_reply(500)]
        async with make_client() as client:
            assert (await client.cancel("req_1")).status == "cancelled"

    async def test_a_cancellation_that_comes_too_late_raises_a_conflict(self, make_client, api):
        api.script["cancel"].append(error_reply(409))
        async with make_client() as client:
            with pytest.raises(ConflictError):
                await client.cancel("req_1")

    async def test_the_id_learned_for_a_cancelled_caller_is_logged(self, make_client, api, caplog):
        api.answer_after = 2.0
        async with make_client() as client:
            creating = asyncio.ensure_future(client.create(REQUEST))
            await asyncio.sleep(1)
            creating.cancel()
            with pytest.raises(asyncio.CancelledError):
                await creating
        assert "accepted: job req_0" in caplog.text

    async def test_so_is_the_uncertainty_left_when_the_client_is_closed(
        self, make_client, api, caplog
    ):
        api.answer_after = 200.0
        async with make_client() as client:
            creating = asyncio.ensure_future(client.create(REQUEST))
            await asyncio.sleep(1)
            creating.cancel()
            with pytest.raises(asyncio.CancelledError):
                await creating
        assert "may have been accepted" in caplog.text

    async def test_an_unexpected_error_after_sending_is_uncertain_too(self, make_client, api):
        api.script["create"].append(MemoryError("no room"))
        async with make_client() as client:
            with pytest.raises(SubmitUncertainError, match="no room"):
                await client.create(REQUEST)

    async def test_a_post_that_is_cancelled_from_below_before_it_is_sent_is_not_uncertain(
        self, make_client, api
    ):
        """As a connector does to those that wait for a connection when it is closed."""

        async def closed(*_, **__):
            raise asyncio.CancelledError

        async with make_client() as client:
            api.send = closed
            with pytest.raises(TransportError) as caught:
                await client.create(REQUEST)
        assert caught.value.delivered == "no"

    async def test_the_task_of_a_post_killed_by_a_shutdown_leaves_an_uncertain_submit(
        self, make_client, api
    ):
        api.answer_after = 2.0
        async with make_client() as client:
            creating = asyncio.ensure_future(client.create(REQUEST))
            await asyncio.sleep(1)
            others = asyncio.all_tasks() - {asyncio.current_task(), creating}
            for task in others:
                task.cancel()
            with pytest.raises(SubmitUncertainError, match="cancelled before the answer"):
                await creating
