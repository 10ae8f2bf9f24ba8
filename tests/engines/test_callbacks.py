"""Callbacks that arrive where no worker is, or one that does not have the job."""

import asyncio
import contextlib
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from seedance_async import GenerationRequest, WebhookReceiver
from seedance_async.engines.callbacks import Callbacks
from seedance_async.journal import PostgresJournal
from tests.session.test_webhook_callbacks import BASE, SELDOM, path_of, payload
from tests.support.ledger import charged

pytestmark = pytest.mark.asyncio(loop_scope="module")


@contextlib.asynccontextmanager
async def balanced():
    """An address at which callbacks arrive, and what receives them in the end, once it is there."""
    receivers = []

    async def handle(request):
        return await receivers[0].aiohttp_handler(request)

    app = web.Application()
    app.router.add_post("/hooks/{nonce}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/hooks", receivers
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_a_web_application_without_a_worker_receives_callbacks_for_those_who_have_one(
    engine, emulator, make_requests, monkeypatch
):
    monkeypatch.setattr("seedance_async.session.passed_on.LOOK_EVERY", 0.05)
    first, lost = make_requests(2)
    async with balanced() as (url, receivers):
        receivers.append(WebhookReceiver(url))
        worker = engine.worker(poll=SELDOM, webhooks=WebhookReceiver(url))
        async with asyncio.timeout(20), engine.queue(webhooks=receivers[0]) as queue, worker:
            await queue.enqueue([first], run="autumn")
            [told] = [each async for each in queue.results(run="autumn")]
            assert told.state == "succeeded", "it is not polled for an hour otherwise"

            emulator.faults.script("submit", "drop_after_accept")
            [key] = await queue.enqueue([lost], run="winter")
            [told] = [each async for each in queue.results(run="winter")]
            assert (told.state, told.sent) == ("uncertain", True)
            while (await worker._session.recorded(key)).request_id is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await queue.again(run="winter", keys=[key])
            [told] = [each async for each in queue.results(run="winter")]
            assert told.state == "succeeded"
        assert all(each.status == 200 for each in emulator.webhooks)
        late = urlsplit(emulator.webhooks[-1].url).path
        assert receivers[0].receive(late, payload()) == 404, "the queue has been left"
    assert charged(emulator, [first, lost]) == {1: 2}


async def test_a_web_application_notes_callbacks_in_postgres_too(
    postgres_dsn, make_session, api, monkeypatch
):
    monkeypatch.setattr("seedance_async.session.passed_on.LOOK_EVERY", 0.05)
    api.seconds = 0.0
    elsewhere = WebhookReceiver(BASE)
    callbacks = Callbacks(elsewhere, postgres_dsn)
    options = {"journal": PostgresJournal(postgres_dsn), "webhooks": WebhookReceiver(BASE)}
    await callbacks.start()
    async with asyncio.timeout(20), make_session(poll=SELDOM, **options) as session:
        job = await session.submit(GenerationRequest("a river"))
        assert elsewhere.receive(path_of(api), payload()) == 200
        await callbacks.aclose()
        assert (await job).request_id == "req_0"
