"""Each fault as a client sees it on the wire, and as the ledger tells it."""

import asyncio
import gzip
import json
import time
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import pytest
from attrs import frozen

from seedance_async.emulator import KINDS, Fault

from .conftest import BODY, GENERATIONS, Api, Start


@frozen
class Heard:
    """What came over a raw connection until its end, and how it ended."""

    data: bytes
    was_reset: bool

    @property
    def head(self) -> str:
        return self.data.partition(b"\r\n\r\n")[0].decode()

    @property
    def body(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[2]


async def say(api: Api, *, body: Any = BODY, path: str = GENERATIONS, announce: int = 0) -> Heard:
    """Send one POST over a raw socket and hear it to its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(api.emulator.url[-5:]))
    raw = json.dumps(body).encode()
    writer.write(
        (
            f"POST {path} HTTP/1.1\r\nHost: emulator\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {api.emulator.api_key}\r\nConnection: close\r\n"
            f"Content-Length: {len(raw) + announce}\r\n\r\n"
        ).encode()
        + raw
    )
    heard = b""
    was_reset = False
    try:
        while piece := await reader.read(65536):
            heard += piece
    except ConnectionResetError:
        was_reset = True
    writer.close()
    return Heard(heard, was_reset)


def script(api: Api, kind: str, operation: str = "submit", **fields: Any) -> None:
    api.emulator.faults.script(operation, Fault(kind, **fields))


def told(api: Api) -> tuple[Any, ...]:
    """The last entry of the ledger, as far as faults change it."""
    entry = api.emulator.ledger[-1]
    return entry.outcome, entry.status, entry.credits, entry.answered


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("drop_before_read", ("dropped", None, 0, False)),
        ("drop_before_accept", ("dropped", None, 0, False)),
        ("drop_after_accept", ("charged", 200, 40, False)),
    ],
)
async def test_a_dropped_connection_says_nothing_and_the_ledger_everything(
    api: Api, kind: str, expected: Any, reset: bool
) -> None:
    script(api, kind, reset=reset)
    heard = await say(api)
    assert heard == Heard(b"", reset)
    assert told(api) == expected
    assert api.emulator.ledger[-1].fault == kind
    assert len(api.emulator.jobs) == (kind == "drop_after_accept")
    assert api.emulator.requests.fault_count("submit", kind) == 1
    assert api.emulator.requests.by_status["submit", None] == 1
    assert (await api.submit()).status == 200


async def test_a_drop_before_the_read_does_not_wait_for_the_body(api: Api) -> None:
    script(api, "drop_before_read")
    assert (await say(api, announce=1000)).data == b""
    assert api.emulator.ledger[-1].body is None


async def test_a_client_that_leaves_within_its_body_has_not_submitted(api: Api) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", int(api.emulator.url[-5:]))
    writer.write(
        (
            f"POST {GENERATIONS} HTTP/1.1\r\nHost: emulator\r\nContent-Length: 500\r\n"
            f"Authorization: Bearer {api.emulator.api_key}\r\n\r\nhalf a bo"
        ).encode()
    )
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    await api.emulator.wait_until(lambda: api.emulator.requests.count("submit") == 1)
    assert api.emulator.requests.by_status["submit", None] == 1
    assert len(api.emulator.ledger) == 0
    assert (await api.submit()).status == 200


async def test_a_cut_answer_to_a_client_that_has_left_goes_nowhere(api: Api) -> None:
    script(api, "truncated", seconds=0.1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await api.submit()
    await api.emulator.wait_until(lambda: api.emulator.requests.count("submit") == 1)
    assert (await api.submit()).status == 200


async def test_a_client_that_left_before_the_charge_is_on_record_as_not_answered(
    api: Api,
) -> None:
    script(api, "latency", seconds=0.2)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await api.submit()
    await api.emulator.ledger.wait_for(1)
    assert told(api) == ("charged", 200, 40, False)


@pytest.mark.parametrize("accepted", [False, True])
async def test_latency_comes_before_the_charge_or_after_it(api: Api, accepted: bool) -> None:
    script(api, "latency", seconds=0.1, accepted=accepted)
    began = time.monotonic()
    asking = asyncio.create_task(api.submit())
    await api.emulator.ledger.wait_for(1)
    before = time.monotonic() - began
    assert (await asking).status == 200
    after = time.time() - api.emulator.ledger[0].time
    assert (after if accepted else before) >= 0.09


async def test_latency_can_be_virtual(start: Start) -> None:
    api = await start(speed=1000)
    script(api, "latency", seconds=100, virtual=True)
    began = time.monotonic()
    assert (await api.submit()).status == 200
    assert 0.09 <= time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("form", "check"),
    [
        ("seconds", lambda value: value == "7.5"),
        ("garbage", lambda value: value == "soon; nan"),
        ("absent", lambda value: value is None),
    ],
)
async def test_a_429_tells_when_to_come_back_in_every_form(api: Api, form: Any, check: Any) -> None:
    script(api, "rate_limited", retry_after=7.5, retry_form=form)
    reply = await api.submit()
    assert reply.status == 429
    assert reply.error["code"] == "rate_limited"
    assert check(reply.headers.get("Retry-After"))
    assert told(api) == ("refused", 429, 0, True)
    assert len(api.emulator.jobs) == 0


async def test_a_429_can_carry_an_http_date_by_a_clock_that_is_wrong(api: Api) -> None:
    script(api, "rate_limited", retry_after=30, retry_form="date", skew=86_400)
    reply = await api.submit()
    date = parsedate_to_datetime(reply.headers["Date"])
    again = parsedate_to_datetime(reply.headers["Retry-After"])
    assert (again - date).total_seconds() == 30
    assert date.timestamp() - time.time() > 86_000


@pytest.mark.parametrize("accepted", [False, True])
@pytest.mark.parametrize(
    ("kind", "content_type", "part"),
    [
        ("500", "application/json", b'"internal_error"'),
        ("502", "text/html", b"502 Bad Gateway"),
        ("503", "text/plain", b""),
        ("504", "text/html", b"504 Gateway Timeout"),
    ],
)
async def test_a_5xx_comes_with_or_without_a_charge_behind_it(
    api: Api, kind: str, content_type: str, part: bytes, accepted: bool
) -> None:
    script(api, kind, accepted=accepted)
    reply = await api.submit()
    assert reply.status == int(kind)
    assert reply.headers["Content-Type"].startswith(content_type)
    assert part in reply.body
    assert "Retry-After" not in reply.headers
    outcome = ("charged", 200, 40, False) if accepted else ("refused", int(kind), 0, True)
    assert told(api) == outcome
    assert len(api.emulator.jobs) == accepted


async def test_a_503_that_refuses_says_so_in_the_apis_own_words(api: Api) -> None:
    script(api, "503_refused", retry_after=2)
    reply = await api.submit()
    assert (reply.status, reply.headers["Retry-After"]) == (503, "2")
    assert reply.error["code"] == "service_unavailable"
    assert told(api) == ("refused", 503, 0, True)


async def test_a_fault_can_bring_its_own_code_and_message(api: Api) -> None:
    script(api, "500", code="boom", message="It went boom")
    assert (await api.submit()).error == {"code": "boom", "message": "It went boom"}
    assert api.emulator.ledger[-1].code == "boom"


async def test_html_with_a_200_is_no_answer_of_the_api(api: Api) -> None:
    script(api, "html", accepted=True)
    reply = await api.submit()
    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith("text/html")
    assert reply.body.startswith(b"<!doctype html>")
    assert told(api) == ("charged", 200, 40, False)


async def test_a_redirect_leads_elsewhere(api: Api) -> None:
    script(api, "redirect", value="http://127.0.0.1:9/there")
    reply = await api.submit()
    assert (reply.status, reply.headers["Location"]) == (307, "http://127.0.0.1:9/there")
    assert told(api) == ("refused", 307, 0, True)
    script(api, "redirect", status=301)
    assert (await api.submit()).status == 301


async def test_a_right_key_is_refused_for_a_while(api: Api) -> None:
    request_id = await api.accepted()
    api.emulator.faults.script("poll", Fault("unauthorized"), times=2)
    assert [(await api.poll(request_id)).status for _ in range(3)] == [401, 401, 200]
    assert api.emulator.requests.fault_count("poll", "unauthorized") == 2


# -- answers that are cut, padded, slow or mislabelled ------------------------------------


@pytest.mark.parametrize("framing", ["length", "chunked", "ended", "close"])
@pytest.mark.parametrize("at", [None, 0, 20, 60, 10_000])
async def test_an_answer_is_cut_at_a_byte_in_four_ways(
    api: Api, framing: Any, at: int | None
) -> None:
    script(api, "truncated", at=at, framing=framing)
    heard = await say(api)
    entry = api.emulator.ledger[-1]
    whole = json.dumps(
        {
            "success": True,
            "requestId": entry.request_id,
            "status": "queued",
            "creditsCharged": 40,
        }
    ).encode()
    expected = whole[: len(whole) // 2 if at is None else min(at, len(whole) - 1)]
    assert heard.head.startswith("HTTP/1.1 200 OK\r\n")
    assert ("Content-Length" in heard.head) == (framing == "length")
    if framing == "length":
        assert f"Content-Length: {len(whole)}" in heard.head
    if framing == "chunked":
        assert heard.body == f"{len(whole):x}\r\n".encode() + expected
    elif framing == "ended":
        assert heard.body.endswith(b"0\r\n\r\n")
        assert expected in heard.body
    else:
        assert heard.body == expected
    assert told(api) == ("charged", 200, 40, False)


async def test_the_cut_can_spare_the_request_id_or_not(api: Api) -> None:
    for at, is_there in ((20, False), (60, True)):
        script(api, "truncated", at=at)
        heard = await say(api)
        assert (str(api.emulator.ledger[-1].request_id).encode() in heard.data) == is_there


@pytest.mark.parametrize("reset", [False, True])
async def test_a_cut_can_lie_within_the_headers(api: Api, reset: bool) -> None:
    script(api, "truncated", at=-10, reset=reset)
    heard = await say(api)
    assert b"\r\n\r\n" not in heard.data
    assert heard.was_reset == reset
    if not reset:
        assert heard.data.startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    ("framing", "fails"),
    [("length", True), ("chunked", True), ("ended", False), ("close", False)],
)
async def test_a_client_library_notices_two_of_the_four_cuts(
    api: Api, framing: Any, fails: bool
) -> None:
    script(api, "truncated", "models", framing=framing)
    if fails:
        with pytest.raises(aiohttp.ClientPayloadError):
            await api.models()
    else:
        with pytest.raises(json.JSONDecodeError):
            _ = (await api.models()).data


async def test_a_body_trickles(api: Api) -> None:
    script(api, "slow_body", "models", seconds=0.01)
    began = time.monotonic()
    reply = await api.models()
    assert reply.data["success"]
    assert time.monotonic() - began >= 0.15
    assert int(reply.headers["Content-Length"]) == len(reply.body)


async def test_a_right_body_has_the_wrong_label(api: Api) -> None:
    script(api, "wrong_content_type")
    reply = await api.submit()
    assert reply.headers["Content-Type"].startswith("text/plain")
    assert reply.data["requestId"] == api.emulator.ledger[-1].request_id
    assert told(api) == ("charged", 200, 40, True)
    script(api, "wrong_content_type", value="application/xml")
    assert (await api.submit()).headers["Content-Type"].startswith("application/xml")


async def test_an_answer_is_huge_and_still_json(api: Api) -> None:
    script(api, "huge_body", size=1_000_000)
    reply = await api.submit()
    assert len(reply.body) == 1_000_000
    assert reply.data["requestId"] == api.emulator.ledger[-1].request_id
    assert told(api) == ("charged", 200, 40, False)


async def test_a_small_answer_unpacks_to_a_huge_one(api: Api) -> None:
    script(api, "gzip_bomb", size=3_000_000)
    url, key = api.emulator.url + GENERATIONS, api.emulator.api_key
    async with (
        aiohttp.ClientSession(auto_decompress=False) as http,
        http.post(url, json=BODY, headers={"Authorization": f"Bearer {key}"}) as answer,
    ):
        assert answer.headers["Content-Encoding"] == "gzip"
        packed = await answer.read()
    assert len(packed) < 30_000
    whole = gzip.decompress(packed)
    assert len(whole) == 3_000_000
    assert json.loads(whole)["requestId"] == api.emulator.ledger[-1].request_id


async def test_headers_are_huge(api: Api) -> None:
    script(api, "huge_headers")
    with pytest.raises(aiohttp.ClientResponseError):
        await api.submit()
    assert told(api) == ("charged", 200, 40, False)


# -- answers whose JSON is odd -------------------------------------------------------------


async def test_a_submit_is_answered_without_its_request_id(api: Api) -> None:
    script(api, "missing_request_id")
    reply = await api.submit()
    assert "requestId" not in reply.data
    assert told(api) == ("charged", 200, 40, False)
    assert api.emulator.ledger[-1].request_id in api.emulator.jobs


async def test_a_submit_is_answered_with_anothers_request_id(api: Api) -> None:
    script(api, "duplicate_request_id")
    first = await api.accepted()
    assert await api.accepted() == first
    assert len(api.emulator.jobs) == 2
    assert told(api) == ("charged", 200, 40, False)


async def test_hostile_request_ids_are_real_jobs(api: Api) -> None:
    api.emulator.faults.script("submit", "evil_request_id", times=None)
    ids = [await api.accepted() for _ in range(20)]
    assert len(set(ids)) == 20
    assert any("../" in each for each in ids)
    from urllib.parse import quote

    from yarl import URL

    for request_id in ids:
        path = f"{GENERATIONS}/{quote(request_id, safe='')}"
        url = URL(api.emulator.url + path, encoded=True)
        headers = {"Authorization": f"Bearer {api.emulator.api_key}"}
        async with api.http.get(url, headers=headers) as answer:
            assert (await answer.json())["requestId"] == request_id
    script(api, "evil_request_id", value="mine")


async def test_a_hostile_request_id_can_be_chosen(api: Api) -> None:
    script(api, "evil_request_id", value="../mine")
    script(api, "evil_request_id", value="../mine")
    assert [await api.accepted(), await api.accepted()] == ["../mine", "../mine-1"]


async def test_the_credits_of_an_answer_are_odd_in_many_ways(api: Api) -> None:
    api.emulator.faults.script("submit", "bad_credits", times=6)
    found = [(await api.submit()).data.get("creditsCharged", "missing") for _ in range(6)]
    assert found == [-5, 40.5, "40", True, [40], "missing"]
    script(api, "bad_credits", value=1e99)
    assert (await api.submit()).data["creditsCharged"] == 1e99
    assert all(entry.credits == 40 for entry in api.emulator.ledger)


async def test_a_status_is_unheard_of(api: Api) -> None:
    request_id = await api.accepted()
    script(api, "unknown_status", "poll")
    script(api, "unknown_status", "poll", value="paused")
    found = [(await api.poll(request_id)).data["status"] for _ in range(3)]
    assert found == ["rendering", "paused", "queued"]


@pytest.mark.parametrize(
    ("end", "spelt"), [("succeeded", "Succeeded"), ("failed", "FAILED"), ("cancelled", "canceled")]
)
async def test_a_status_is_spelt_oddly(api: Api, end: Any, spelt: str) -> None:
    request_id = await api.accepted()
    api.emulator.faults.script("poll", "odd_case", times=None)
    assert (await api.poll(request_id)).data["status"] == "QUEUED"
    api.emulator.jobs.finish(request_id, end)
    assert (await api.poll(request_id)).data["status"] == spelt


async def test_a_status_regresses_only_after_an_end_was_told(api: Api) -> None:
    request_id = await api.accepted()
    script(api, "regressed", "poll")
    assert (await api.poll(request_id)).data["status"] == "queued"
    api.emulator.jobs.finish(request_id)
    found = [(await api.poll(request_id)).data for _ in range(3)]
    assert [each["status"] for each in found] == ["succeeded", "processing", "succeeded"]
    assert found[1]["output"] is None


async def test_an_accepted_job_is_not_visible_at_first(start: Start) -> None:
    api = await start(poll_faults={Fault("not_found", first=2): 1.0})
    request_id = await api.accepted()
    assert [(await api.poll(request_id)).status for _ in range(4)] == [404, 404, 200, 200]
    assert (await api.poll("req_nobody")).status == 404
    assert api.emulator.requests.fault_count("poll", "not_found") == 2


async def test_fields_are_added_left_out_or_null(api: Api) -> None:
    request_id = await api.succeeded()
    plain = (await api.poll(request_id)).data
    for kind in ("extra_fields", "missing_fields", "null_fields"):
        script(api, kind, "poll")
    extra, missing, null = [(await api.poll(request_id)).data for _ in range(3)]
    assert extra.items() >= plain.items()
    assert extra["progress"] == 0.5
    kept = {"success", "requestId", "status", "output"}
    assert set(missing) == kept
    assert null == {name: plain[name] if name in kept else None for name in plain}


async def test_the_json_of_an_error_is_left_as_it_is(api: Api) -> None:
    script(api, "extra_fields", "poll")
    reply = await api.poll("req_nobody")
    assert reply.status == 404
    assert set(reply.data) == {"success", "error"}


async def test_a_fault_on_a_refused_request_changes_nothing_about_the_refusal(api: Api) -> None:
    script(api, "502", accepted=True)
    assert (await api.submit(model="unheard-of")).status == 400
    assert told(api) == ("invalid", 400, 0, True)
    assert api.emulator.ledger[-1].fault is None
    assert api.emulator.requests.fault_count("submit", "502") == 0
    script(api, "drop_after_accept")
    assert (await say(api, body={"model": "unheard-of"})).data == b""
    assert told(api) == ("invalid", 400, 0, False)


async def test_a_cancel_can_be_done_and_its_answer_lost(api: Api) -> None:
    request_id = await api.accepted()
    script(api, "drop_after_accept", "cancel")
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await api.cancel(request_id)
    assert api.emulator.jobs[request_id].status == "cancelled"


# -- jobs ----------------------------------------------------------------------------------


async def test_jobs_fail_stick_and_are_cancelled_by_script(start: Start) -> None:
    api = await start(hold=False, speed=1e6)
    faults, jobs = api.emulator.faults, api.emulator.jobs
    faults.script("job", Fault("failed", code="nsfw", message="No"), match="lion")
    faults.script("job", "failed", match="tiger")
    faults.script("job", "cancelled", match="bear")
    faults.script("job", "stuck", match="rock")
    ids = {
        word: await api.accepted(prompt=f"A {word}")
        for word in ("lion", "tiger", "bear", "rock", "river")
    }
    await api.emulator.wait_until(lambda: jobs.active == 1)
    found = {word: jobs[request_id].status for word, request_id in ids.items()}
    assert found == {
        "lion": "failed",
        "tiger": "failed",
        "bear": "cancelled",
        "rock": "processing",
        "river": "succeeded",
    }
    assert jobs[ids["lion"]].error == {"code": "nsfw", "message": "No"}
    assert jobs[ids["tiger"]].error["code"] == "content_moderation"
    assert api.emulator.requests.fault_count("job", "failed") == 2


def test_every_kind_says_what_it_means() -> None:
    assert all(kind.meaning and kind.operations for kind in KINDS.values())
