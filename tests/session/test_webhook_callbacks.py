"""Callbacks are hints: without a query they change nothing, and no job needs them."""

import asyncio
import json
import logging
from contextlib import asynccontextmanager

import httpx
import pytest
from aiohttp import ClientSession, web

from seedance_async import (
    Backoff,
    ConfigurationError,
    GenerationFailedError,
    GenerationRequest,
    JobState,
    SubmitUncertainError,
    WebhookReceiver,
)
from seedance_async.emulator import Emulator, EmulatorOptions, Fault
from seedance_async.journal import fingerprint, read_entries
from seedance_async.session.webhook_callbacks import CANDIDATES, LOOKUPS
from tests.session.test_end_to_end import SMALL, session_to
from tests.support.fakes import LOST, accepted, error_reply, told
from tests.support.memory_journal import MemoryJournal
from tests.support.through import through

BASE = "https://app.example/hooks/seedance"
REQUEST = GenerationRequest("a river")

#: So rare that no job is polled during a test: every query is made because of a callback.
SELDOM = Backoff(initial=3000, maximum=3000, jitter=0.1)

virtual_time = pytest.mark.virtual_time


@pytest.fixture
def receiver():
    return WebhookReceiver(BASE)


@pytest.fixture
def session(make_session, receiver):
    return make_session(webhooks=receiver, poll=SELDOM)


def payload(request_id="req_0", status="succeeded"):
    return json.dumps({"success": True, "requestId": request_id, "status": status}).encode()


def sent_path(request):
    """The path of the callback URL in this submit."""
    url = json.loads(request.body)["webhookUrl"]
    assert url.startswith(f"{BASE}/")
    return url.removeprefix("https://app.example")


def path_of(api, number=0):
    return sent_path([request for request in api.sent if request.charges][number])


def calls_back(receiver, *bodies, then):
    """A submit whose callbacks arrive before its response."""

    async def answer(request):
        for body in bodies:
            assert receiver.receive(sent_path(request), body) == 200
        return then

    return answer


async def turns(count=20):
    """Let whatever is ready run."""
    for _ in range(count):
        await asyncio.sleep(0)


# --- forged callbacks -----------------------------------------------------------------------------


@virtual_time
async def test_a_callback_with_an_unknown_nonce_is_answered_404_and_changes_nothing(
    session, receiver, api
):
    async with session:
        job = await session.submit(REQUEST)
        near = path_of(api)[:-1] + ("x" if path_of(api)[-1] != "x" else "y")
        for path in (
            near,
            "/hooks/seedance/",
            "",
            "/",
            path_of(api) + "/",
            path_of(api) + "é\ud800",
        ):
            assert receiver.receive(path, payload()) == 404
        await turns()
        assert (api.count("get"), job.state) == (0, "queued")


@virtual_time
async def test_a_false_status_only_makes_the_query_come_sooner(session, receiver, api):
    async with session:
        job = await session.submit(REQUEST)
        assert receiver.receive(path_of(api), payload(status="succeeded")) == 200
        await turns()
        assert (api.count("get"), job.state) == (1, "queued")
        assert job.generation.output_url is None


@virtual_time
async def test_an_id_that_contradicts_the_known_one_changes_nothing_and_is_logged_once(
    session, receiver, api, caplog
):
    async with session:
        job = await session.submit(REQUEST)
        for _ in range(5):
            assert receiver.receive(path_of(api), payload("req_forged")) == 200
        await turns()
        assert (api.count("get"), job.request_id) == (0, "req_0")
    assert caplog.text.count("req_forged") == 1


@virtual_time
@pytest.mark.parametrize("prompt", ["another", None])
async def test_an_uncertain_job_does_not_take_the_id_of_another_prompt(
    session, receiver, api, caplog, prompt
):
    api.script["create"].append(LOST)
    api.script["get"].append(told("req_7", "succeeded", prompt=prompt))
    async with session:
        (job,) = await session.run([REQUEST])
        assert receiver.receive(path_of(api), payload("req_7")) == 200
        await turns()
        assert (api.count("get"), job.state) == (1, "uncertain")
    assert "req_7" in caplog.text


@virtual_time
async def test_an_uncertain_job_does_not_take_the_id_of_another_job_that_has_ended(
    session, receiver, api, caplog
):
    async with session:
        first = await session.submit(REQUEST)
        await asyncio.sleep(api.seconds)
        receiver.receive(path_of(api), payload())
        await first
        api.script["create"].append(LOST)
        api.script["get"].append(told("req_0", "succeeded", prompt=REQUEST.prompt))
        (job,) = await session.run([REQUEST])
        assert receiver.receive(path_of(api, 1), payload("req_0")) == 200
        await turns()
        assert (job.state, job.request_id) == ("uncertain", None)
    assert "'req_0', which is not its id" in caplog.text


# --- repeated callbacks ---------------------------------------------------------------------------


@virtual_time
async def test_a_repeated_callback_is_always_answered_200_and_does_nothing_more(
    session, receiver, api
):
    async with session:
        job = await session.submit(REQUEST)
        await asyncio.sleep(api.seconds)
        for _ in range(5):
            assert receiver.receive(path_of(api), payload()) == 200
        generation = await job
        for status in ("succeeded", "failed", "processing"):
            assert receiver.receive(path_of(api), payload(status=status)) == 200
        await turns()
        assert api.count("get") == 1
        assert job.result() is generation
        assert session.stats().counts[JobState.SUCCEEDED] == 1


@virtual_time
async def test_a_known_nonce_causes_a_bounded_number_of_queries(session, receiver, api):
    async with session:
        await session.submit(REQUEST)
        for _ in range(50):
            assert receiver.receive(path_of(api), payload()) == 200
            await turns()
        assert api.count("get") == LOOKUPS


# --- callbacks before the response, or instead of it ----------------------------------------------


@virtual_time
async def test_a_callback_before_the_response_to_the_submit_is_kept_for_it(session, receiver, api):
    api.seconds = 0.0
    api.script["create"].append(calls_back(receiver, payload(), then=None))
    async with session:
        began = asyncio.get_running_loop().time()
        await session.generate(REQUEST)
        assert asyncio.get_running_loop().time() - began < 1
    assert (api.count("create"), api.count("get")) == (1, 1)


@virtual_time
async def test_of_the_ids_before_the_response_only_the_jobs_own_counts(
    session, receiver, api, caplog
):
    lies = [payload(f"req_lie_{number}") for number in range(9)]
    api.script["create"].append(calls_back(receiver, *lies, then=accepted("req_0")))
    async with session:
        job = await session.submit(REQUEST)
        await turns()
        assert (job.request_id, api.count("get")) == ("req_0", 0)
        api.jobs["req_0"] = 0.0
    assert caplog.text.count("req_lie") == 1


@virtual_time
async def test_a_callback_repairs_a_submit_whose_response_is_lost(session, receiver, api, caplog):
    api.seconds = 0.0
    api.jobs["req_7"] = 0.0
    api.script["create"].append(calls_back(receiver, payload("req_7"), then=LOST))
    api.script["get"].append(told("req_7", "succeeded", prompt=REQUEST.prompt))
    async with session:
        with pytest.raises(SubmitUncertainError) as caught:
            await session.submit(REQUEST, key="mine")
        assert caught.value.request is REQUEST, "it has no nonce"
        job = await session.attach('{"v": 1, "request_id": "req_7", "key": "mine"}')
        assert (await job).request_id == "req_7"
    assert (api.count("create"), job.key) == (1, "mine")


@virtual_time
async def test_an_uncertain_job_goes_on_once_a_callback_has_its_id_and_a_query_confirms_it(
    session, receiver, api, caplog
):
    api.jobs["req_7"] = asyncio.get_running_loop().time()
    api.script["create"].append(LOST)
    api.script["get"].append(told("req_7", "processing", prompt=REQUEST.prompt))
    async with session:
        (job,) = await session.run([REQUEST])
        assert isinstance(job.error, SubmitUncertainError)
        for _ in range(3):
            assert receiver.receive(path_of(api), payload("req_7")) == 200
        await turns()
        assert job.error is None
        assert (await session.attach("req_7")).key == job.key
        assert (await job).output_url == "https://media.example/req_7.mp4"
        assert session.stats().counts[JobState.UNCERTAIN] == 0
        assert "0 expected" in repr(receiver)
    assert api.count("create") == 1
    assert "goes on: a callback named its id, req_7" in caplog.text


@virtual_time
async def test_an_id_that_cannot_be_queried_yet_is_queried_again(session, receiver, api):
    api.jobs["req_7"] = 0.0
    api.script["create"].append(LOST)
    api.script["get"] += [error_reply(404), LOST, error_reply(503)]
    api.script["get"].append(told("req_7", "processing", prompt=REQUEST.prompt))
    async with session:
        (job,) = await session.run([REQUEST])
        receiver.receive(path_of(api), payload("req_7"))  # the session waits for its query
    assert (job.state, job.request_id) == ("succeeded", "req_7")


@virtual_time
async def test_a_forged_id_does_not_keep_the_true_one_from_being_found(session, receiver, api):
    api.jobs["req_7"] = 0.0
    api.script["create"].append(LOST)
    api.script["get"] += [error_reply(404), told("req_7", "processing", prompt=REQUEST.prompt)]
    async with session:
        (job,) = await session.run([REQUEST])
        for each in ("req_forged", "req_7"):
            receiver.receive(path_of(api), payload(each))
    assert (job.state, job.request_id) == ("succeeded", "req_7")


@virtual_time
async def test_a_repaired_job_is_in_the_journal(make_session, receiver, api):
    api.jobs["req_7"] = 0.0
    api.script["create"].append(LOST)
    api.script["get"].append(told("req_7", "processing", prompt=REQUEST.prompt))
    journal = MemoryJournal()
    async with make_session(webhooks=receiver, poll=SELDOM, journal=journal) as session:
        (job,) = await session.run([REQUEST])
        receiver.receive(path_of(api), payload("req_7"))
        await turns()
        await job
        entry = await journal.find(job.key)
    assert (entry.state, entry.request_id) == ("succeeded", "req_7")
    assert entry.fingerprint == fingerprint(REQUEST)
    assert "webhookUrl" not in entry.request


@pytest.mark.parametrize("comes", ["before the request", "after it"])
async def test_a_callback_settles_the_uncertain_submit_of_an_earlier_process(
    make_session, api, tmp_path, comes
):
    api.jobs["req_7"], api.seconds = 0.0, 0.0
    api.script["create"].append(LOST)
    path = tmp_path / "run.db"
    async with make_session(webhooks=WebhookReceiver(BASE), journal=path) as session:
        (job,) = await session.run([REQUEST])
        assert isinstance(job.error, SubmitUncertainError)
    api.script["get"].append(told("req_7", "processing", prompt=REQUEST.prompt))
    receiver = WebhookReceiver(BASE)
    async with make_session(webhooks=receiver, journal=path) as session:
        if comes == "before the request":
            assert receiver.receive(path_of(api), payload("req_7")) == 200
        (job,) = await session.run([REQUEST])
        if comes == "after it":
            assert receiver.receive(path_of(api), payload("req_7")) == 200
    assert (job.state, job.request_id) == ("succeeded", "req_7")
    assert api.count("create") == 1
    (entry,) = read_entries(path)
    assert (entry.state, entry.request_id) == ("succeeded", "req_7")
    assert "0 expected" in repr(receiver)


async def test_the_nonces_of_two_journals_differ_for_equal_requests(make_session, api, tmp_path):
    for name in ("a.db", "b.db"):
        journal = tmp_path / name
        async with make_session(webhooks=WebhookReceiver(BASE), journal=journal) as session:
            await session.submit(REQUEST, key="mine")
            api.seconds = 0
    assert path_of(api, 0) != path_of(api, 1)


async def test_callbacks_hasten_the_polls_of_a_job_that_an_earlier_process_submitted(
    make_session, api, tmp_path
):
    path = tmp_path / "run.db"
    with pytest.raises(LookupError):
        async with make_session(webhooks=WebhookReceiver(BASE), poll=SELDOM, journal=path) as first:
            await first.submit(REQUEST)
            raise LookupError
    polled = asyncio.Event()

    async def still_queued(_):
        polled.set()
        return told("req_0", "queued")

    api.script["get"] += [still_queued, told("req_0", "succeeded")]
    receiver = WebhookReceiver(BASE)
    async with make_session(webhooks=receiver, poll=SELDOM, journal=path) as second:
        job = await second.submit(REQUEST)
        await polled.wait()
        assert receiver.receive(path_of(api), payload("req_0")) == 200
        assert (await job).request_id == "req_0", "it is not polled for an hour otherwise"
    assert api.count("create") == 1


@virtual_time
async def test_a_job_that_was_attached_by_hand_ends_as_usual(session, receiver, api):
    api.jobs["req_7"] = 0.0
    api.script["create"].append(LOST)
    async with session:
        (job,) = await session.run([REQUEST])
        await (await session.attach(json.dumps({"v": 1, "request_id": "req_7", "key": job.key})))
        assert repr(receiver) == f"<WebhookReceiver {BASE}, 0 expected>"


# --- no callbacks ---------------------------------------------------------------------------------


@virtual_time
async def test_a_job_ends_without_any_callback(make_session, receiver):
    async with make_session(webhooks=receiver) as session:
        assert (await session.generate(REQUEST)).request_id == "req_0"


# --- floods ---------------------------------------------------------------------------------------


@virtual_time
async def test_a_flood_of_ids_for_an_uncertain_job_causes_few_queries(
    session, receiver, api, caplog
):
    api.script["create"].append(LOST)
    api.script["get"] += [error_reply(404)] * 1000
    async with session:
        (job,) = await session.run([REQUEST])
        for number in range(500):
            assert receiver.receive(path_of(api), payload(f"req_{number}")) == 200
        await turns()
        assert api.count("get") == 1, "one at a time"
    assert (api.count("get"), job.state) == (LOOKUPS, "uncertain")
    asked = {request.path for request in api.sent if not request.charges}
    assert len(asked) <= CANDIDATES + 1


@virtual_time
async def test_a_huge_body_and_one_without_an_id_are_refused(session, receiver, api):
    async with session:
        await session.submit(REQUEST)
        path = path_of(api)
        assert receiver.receive(path, b" " * 65537) == 413
        bad = [b"", b"{", b"[]", b"1", b"null", b'"requestId"', b"\xff", b"[" * 60000, b"{}"]
        bad += [
            b'{"requestId": %s}' % value for value in (b"1", b'""', b'".."', b"[]", b"9" * 9999)
        ]
        assert [receiver.receive(path, body) for body in bad] == [400] * len(bad)
        await turns()
        assert api.count("get") == 0


# --- nonces ---------------------------------------------------------------------------------------


@virtual_time
async def test_a_request_with_its_own_webhook_url_keeps_it(session, receiver, api):
    async with session:
        await session.submit(GenerationRequest("a", webhook_url="https://own.example/x"))
        assert json.loads(api.sent[0].body)["webhookUrl"] == "https://own.example/x"
        assert "0 expected" in repr(receiver)


@virtual_time
async def test_without_a_receiver_no_callback_is_requested(make_session, api):
    async with make_session() as session:
        await session.submit(REQUEST)
    assert "webhookUrl" not in json.loads(api.sent[0].body)


@virtual_time
async def test_every_job_has_its_own_nonce_until_it_ends(make_session, receiver, api):
    async with make_session(webhooks=receiver) as session:
        jobs = [await session.submit(REQUEST) for _ in range(3)]
        assert len({path_of(api, number) for number in range(3)}) == 3
        assert "3 expected" in repr(receiver)
        for job in jobs:
            await job
        assert "0 expected" in repr(receiver)


@virtual_time
async def test_a_submit_that_was_refused_or_never_sent_leaves_no_nonce(make_session, receiver, api):
    async with make_session(webhooks=receiver, max_connections=1) as session:
        api.script["create"].append(error_reply(400))
        await session.run([REQUEST])
        async with through(session.client.submit_gate):
            task = asyncio.create_task(session.submit(REQUEST))
            await turns()
            assert "1 expected" in repr(receiver)
            task.cancel()
            await asyncio.wait({task})
        assert "0 expected" in repr(receiver)
    assert api.count("create") == 1


@virtual_time
async def test_a_session_that_ends_drops_its_nonces_and_cancels_its_queries(session, receiver, api):
    async def never(request):
        await asyncio.Event().wait()

    api.script["create"].append(LOST)
    api.script["get"].append(never)
    with pytest.raises(KeyError):
        async with session:
            await session.run([REQUEST])
            await session.submit(REQUEST)
            receiver.receive(path_of(api), payload())
            await turns()
            assert api.count("get") == 1
            raise KeyError
    assert "0 expected" in repr(receiver)
    assert receiver.receive(path_of(api), payload()) == 404


def test_a_local_receiver_is_refused_where_the_api_is_not_local(make_session):
    with pytest.raises(ConfigurationError, match="must be"):
        make_session(webhooks=WebhookReceiver("http://127.0.0.1:80/hooks"))


# --- over HTTP ------------------------------------------------------------------------------------


@asynccontextmanager
async def serving(max_body=65536):
    """A receiver behind a real server on loopback."""
    receivers = []

    async def handle(request):
        return await receivers[0].aiohttp_handler(request)

    app = web.Application()
    app.router.add_post("/hooks/{nonce}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/hooks"
    receivers.append(WebhookReceiver(url, max_body=max_body))
    try:
        yield receivers[0]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def running(poll=SELDOM, **options):
    """An emulator, and a session that it calls back."""
    options = {"speed": 2000, "seed": 7, "media": "shared"} | options
    async with (
        asyncio.timeout(30),
        serving() as receiver,
        Emulator(EmulatorOptions(**options)) as emulator,
        session_to(emulator, webhooks=receiver, poll=poll) as session,
    ):
        yield emulator, session


def requests(count):
    return [GenerationRequest(f"prompt {number}", **SMALL) for number in range(count)]


@pytest.mark.parametrize("fault", [None, "duplicate", "out_of_order", "before_answer", "forged"])
async def test_callbacks_end_jobs_that_are_hardly_polled_whatever_their_faults(fault):
    faults = {fault: 1.0} if fault else {}
    async with running(webhook_faults=faults) as (emulator, session):
        batch = await session.run(requests(20))
        assert batch.counts == {JobState.SUCCEEDED: 20}
        assert not any("attacker" in job.generation.output_url for job in batch)
        assert emulator.requests.count("poll") <= 20 * LOOKUPS
        assert all(each.status == 200 for each in emulator.webhooks)
        assert set(emulator.ledger.charged_prompts().values()) == {1}


async def test_a_forged_id_over_http_is_ignored_and_the_true_one_ends_the_job():
    async with running(hold=True) as (emulator, session):
        emulator.faults.script("webhook", Fault("forged", value={"requestId": "req_forged"}))
        job = await session.submit(REQUEST)
        emulator.jobs.finish(job.request_id, "failed")
        with pytest.raises(GenerationFailedError):
            await job.wait(20)
        assert emulator.requests.count("poll", 404) == 0


async def test_callbacks_that_never_come_are_not_missed():
    quick = Backoff(initial=0.02, maximum=0.2)
    async with running(quick, webhook_faults={"never": 1.0}) as (emulator, session):
        assert (await session.run(requests(5))).counts == {JobState.SUCCEEDED: 5}
        assert emulator.webhooks == []


@pytest.mark.parametrize("early", [False, True])
async def test_a_callback_repairs_a_lost_response_and_the_job_is_charged_once(
    tmp_path, early, caplog
):
    caplog.set_level(logging.WARNING)
    async with running() as (emulator, session):
        emulator.faults.script("submit", "drop_after_accept")
        if early:
            emulator.faults.script("webhook", "before_answer")
        (job,) = await session.run(requests(1))
        await emulator.wait_until(lambda: job.state is not JobState.UNCERTAIN)
        path = await job.download(tmp_path / "river.mp4")
        (entry,) = emulator.ledger
        assert (entry.answered, entry.request_id) == (False, job.request_id)
        assert emulator.requests.count("submit") == 1
        assert path.stat().st_size > 0
    assert "goes on: a callback named its id" in caplog.text


async def test_a_flood_of_unknown_nonces_causes_no_query():
    async with running(hold=True) as (emulator, session), ClientSession() as http:
        job = await session.submit(REQUEST)
        url = emulator.jobs[job.request_id].body["webhookUrl"]
        base = url.rpartition("/")[0]
        for number in range(200):
            async with http.post(f"{base}/{number}", data=payload(job.request_id)) as answer:
                assert answer.status == 404
        async with http.post(url, data=b" " * 300_000) as answer:
            assert answer.status == 413
        async with http.post(url, data=b"not gzip", headers={"Content-Encoding": "gzip"}) as answer:
            assert answer.status == 400
        assert emulator.requests.count("poll") == 0
        emulator.jobs.finish(job.request_id)


def asgi_client(receiver):
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(receiver.asgi), base_url="https://app.example"
    )


@virtual_time
async def test_the_asgi_application_receives_callbacks_too(session, receiver, api):
    async with session, asgi_client(receiver) as http:
        job = await session.submit(REQUEST)
        await asyncio.sleep(api.seconds)
        path = path_of(api)
        answers = [
            await http.get(path),
            await http.post("/hooks/seedance/x", content=payload()),
            await http.post(path, content=b" " * 70_000),
            await http.post(path, content=b"{}"),
            await http.post(path, content=payload()),
        ]
        assert [answer.status_code for answer in answers] == [405, 404, 413, 400, 200]
        assert (await job).request_id == "req_0"
        assert api.count("get") == 1
