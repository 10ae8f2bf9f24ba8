"""Webhooks: which callbacks are sent, when, and what goes wrong with them."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from seedance_async.emulator import Fault
from seedance_async.emulator.webhooks import is_loopback
from tests.support.for_each import for_each

from .conftest import Api, Start


@define
class Receiver:
    """A receiver of callbacks that answers with the given statuses."""

    url: str = ""
    statuses: list[int] = field(factory=list)
    payloads: list[bytes] = field(factory=list)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(payload) for payload in self.payloads]

    async def receive(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/json"
        self.payloads.append(await request.read())
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/hook", receiver.receive)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield receiver
    await runner.cleanup()


@pytest.fixture
async def fast(start: Start) -> Api:
    return await start(speed=10_000)


async def ended(api: Api, receiver: Receiver, **fields: Any) -> str:
    request_id = await api.accepted(webhookUrl=receiver.url, **fields)
    api.emulator.jobs.finish(request_id)
    return request_id


async def deliveries(api: Api, count: int) -> list[Any]:
    await api.emulator.wait_until(lambda: len(api.emulator.webhooks) >= count)
    return api.emulator.webhooks


async def test_the_callback_is_the_json_of_the_status_query(fast: Api, receiver: Receiver) -> None:
    request_id = await ended(fast, receiver)
    (made,) = await deliveries(fast, 1)
    assert receiver.bodies == [(await fast.poll(request_id)).data]
    assert (made.status, made.attempt, made.arrived) == (200, 1, True)
    assert made.request_id == request_id


async def test_a_job_without_a_webhook_url_sends_no_callback(fast: Api, receiver: Receiver) -> None:
    await fast.succeeded()
    await ended(fast, receiver)
    assert len(await deliveries(fast, 1)) == 1


async def test_a_callback_is_retried_a_few_times(fast: Api, receiver: Receiver) -> None:
    receiver.statuses = [500, 503]
    await ended(fast, receiver)
    assert [each.status for each in await deliveries(fast, 3)] == [500, 503, 200]
    receiver.statuses = [500] * 9
    await ended(fast, receiver)
    assert [each.attempt for each in (await deliveries(fast, 6))[3:]] == [1, 2, 3]
    receiver.statuses = [404]
    await ended(fast, receiver)
    assert [each.status for each in (await deliveries(fast, 7))[6:]] == [404]


async def test_an_unreachable_receiver_is_recorded(fast: Api) -> None:
    await ended(fast, Receiver("http://127.0.0.1:9/hook"))
    made = (await deliveries(fast, 3))[0]
    assert not made.arrived
    assert "ClientConnectorError" in made.note


async def test_no_callback_leaves_this_machine(fast: Api) -> None:
    await ended(fast, Receiver("https://your-app.com/webhooks/seedance"))
    (made,) = await deliveries(fast, 1)
    assert (made.status, made.note) == (None, "not sent: not a loopback address")


async def test_a_callback_can_be_missing(fast: Api, receiver: Receiver) -> None:
    fast.emulator.faults.script("webhook", "never")
    await ended(fast, receiver, prompt="The silent one")
    await ended(fast, receiver, prompt="The other")
    await deliveries(fast, 1)
    assert [body["prompt"] for body in receiver.bodies] == ["The other"]
    assert fast.emulator.requests.fault_count("webhook", "never") == 1


async def test_a_callback_can_come_twice(fast: Api, receiver: Receiver) -> None:
    fast.emulator.faults.script("webhook", "duplicate")
    await ended(fast, receiver)
    await deliveries(fast, 2)
    assert receiver.bodies[0] == receiver.bodies[1]


async def test_callbacks_can_come_out_of_order(fast: Api, receiver: Receiver) -> None:
    fast.emulator.faults.script("webhook", "out_of_order")
    await ended(fast, receiver)
    await deliveries(fast, 2)
    assert [body["status"] for body in receiver.bodies] == ["succeeded", "processing"]


async def test_a_forged_callback_can_come_first(fast: Api, receiver: Receiver) -> None:
    fast.emulator.faults.script("webhook", Fault("forged", value={"requestId": "req_forged"}))
    request_id = await fast.accepted(webhookUrl=receiver.url)
    fast.emulator.jobs.finish(request_id, "failed")
    await deliveries(fast, 2)
    assert [body["status"] for body in receiver.bodies] == ["succeeded", "failed"]
    assert receiver.bodies[0]["requestId"] == "req_forged"
    assert "attacker" in receiver.bodies[0]["output"]["url"]


async def test_a_callback_can_come_late_without_delaying_those_of_other_jobs(
    fast: Api, receiver: Receiver
) -> None:
    fast.emulator.faults.script("webhook", Fault("latency", seconds=5000, virtual=True), times=8)
    fast.emulator.faults.script("webhook", Fault("duplicate", seconds=0.5))
    ids = [await fast.accepted(webhookUrl=receiver.url) for _ in range(10)]
    for request_id in ids:
        fast.emulator.jobs.finish(request_id)
    on_time, *late = [each.request_id for each in await deliveries(fast, 11)]
    assert on_time == ids[-1]
    assert sorted(late) == sorted([*ids[:-1], ids[-2]])


async def test_a_late_callback_is_not_sent_after_the_stop(fast: Api, receiver: Receiver) -> None:
    fast.emulator.faults.script("webhook", Fault("latency", seconds=1, virtual=True))
    await ended(fast, receiver)
    await fast.emulator.stop()
    assert fast.emulator.webhooks == []


async def test_a_callback_can_be_cut_short(fast: Api, receiver: Receiver) -> None:
    fast.emulator.faults.script("webhook", "garbled")
    await ended(fast, receiver)
    await deliveries(fast, 2)
    cut, whole = receiver.payloads
    assert len(cut) == len(whole) // 2
    assert whole.startswith(cut)
    assert json.loads(whole)["status"] == "succeeded"


@pytest.mark.parametrize("lost", [False, True])
async def test_a_callback_can_come_before_the_answer_to_the_submit(
    fast: Api, receiver: Receiver, lost: bool
) -> None:
    fast.emulator.faults.script("webhook", "before_answer")
    if lost:
        fast.emulator.faults.script("submit", Fault("502", accepted=True))
    reply = await fast.submit(webhookUrl=receiver.url)
    assert len(receiver.bodies) == 1
    assert reply.status == (502 if lost else 200)
    assert receiver.bodies[0]["requestId"] == fast.emulator.ledger[0].request_id
    assert receiver.bodies[0]["status"] == "succeeded"


async def test_a_job_that_has_already_ended_is_called_back_before_the_answer_too(
    start: Start, receiver: Receiver
) -> None:
    api = await start(hold=False, speed=1e6)
    api.emulator.faults.script("webhook", "before_answer")
    api.emulator.faults.script("submit", Fault("latency", seconds=0.05, accepted=True))
    assert (await api.submit(webhookUrl=receiver.url)).status == 200
    assert len(receiver.bodies) == 1


async def test_stopping_abandons_undelivered_callbacks(start: Start) -> None:
    api = await start(speed=0.001)
    await ended(api, Receiver("http://127.0.0.1:9/hook"))
    await deliveries(api, 1)
    await api.emulator.stop()
    names = [task.get_coro().__qualname__ for task in asyncio.all_tasks()]
    assert not any("Webhooks" in name for name in names)


@for_each(
    ("url", "expected"),
    [
        ("http://127.0.0.1/x", True),
        ("http://127.8.8.8:80/x", True),
        ("https://localhost:8443/x", True),
        ("http://[::1]/x", True),
        ("http://127.0.0.1.example.com/x", False),
        ("http://localhost@example.com/x", False),
        ("http://10.0.0.1/x", False),
        ("http://0.0.0.0/x", False),
        ("http://[::1/x", False),
        ("", False),
    ],
)
def test_only_the_host_decides_whether_a_url_is_loopback(url: str, expected: bool) -> None:
    assert is_loopback(url) == expected


@settings(deadline=None)
@given(st.text())
def test_any_text_is_checked_without_an_exception(url: str) -> None:
    assert is_loopback(url) in (True, False)
