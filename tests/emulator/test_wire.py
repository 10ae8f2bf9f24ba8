"""Each fault as a client sees it on the wire, and as the ledger records it."""

import asyncio
import gzip
import json
import time
import zlib
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from attrs import frozen
from yarl import URL

from seedance_async.emulator import KINDS, Fault

from .conftest import BODY, GENERATIONS, Api, Start


@frozen
class Received:
    """All that came over a raw connection, and whether it was reset in the end."""

    data: bytes
    was_reset: bool

    @property
    def head(self) -> str:
        return self.data.partition(b"\r\n\r\n")[0].decode()

    @property
    def body(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[2]


async def say(
    api: Api, *, body: Any = BODY, path: str = GENERATIONS, announce: int = 0
) -> Received:
    """Send one POST over a raw socket and read until the connection is closed."""
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
    data = b""
    was_reset = False
    try:
        while piece := await reader.read(65536):
            data += piece
    except ConnectionResetError:
        was_reset = True
    writer.close()
    return Received(data, was_reset)


def script(api: Api, kind: str, operation: str = "submit", **fields: Any) -> None:
    api.emulator.faults.script(operation, Fault(kind, **fields))


def recorded(api: Api) -> tuple[Any, ...]:
    """The last entry of the ledger: the parts that faults can change."""
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
async def test_a_dropped_connection_has_no_answer_and_the_ledger_says_what_was_done(
    api: Api, kind: str, expected: Any, reset: bool
) -> None:
    script(api, kind, reset=reset)
    received = await say(api)
    assert received == Received(b"", reset)
    assert recorded(api) == expected
    assert api.emulator.ledger[-1].fault == kind
    assert len(api.emulator.jobs) == (kind == "drop_after_accept")
    assert api.emulator.requests.fault_count("submit", kind) == 1
    assert api.emulator.requests.by_status["submit", None] == 1
    assert (await api.submit()).status == 200


async def test_a_drop_before_the_read_does_not_wait_for_the_body(api: Api) -> None:
    script(api, "drop_before_read")
    assert (await say(api, announce=1000)).data == b""
    assert api.emulator.ledger[-1].body is None


async def test_a_client_that_disconnects_before_its_body_is_complete_has_not_submitted(
    api: Api,
) -> None:
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


async def test_a_cut_answer_to_a_disconnected_client_does_no_harm(api: Api) -> None:
    script(api, "truncated", seconds=0.1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await api.submit()
    await api.emulator.wait_until(lambda: api.emulator.requests.count("submit") == 1)
    assert (await api.submit()).status == 200


async def test_a_client_that_disconnects_before_the_charge_is_recorded_as_unanswered(
    api: Api,
) -> None:
    script(api, "latency", seconds=0.2)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await api.submit()
    await api.emulator.ledger.wait_for(1)
    assert recorded(api) == ("charged", 200, 40, False)


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


async def test_a_429_has_a_retry_after_of_every_form(api: Api) -> None:
    for seconds, form, header in (
        (7.5, "seconds", "7.5"),
        (86_400_000, "seconds", "86400000"),
        (-1, "seconds", "-1"),
        (7.5, "garbage", "soon; nan"),
        (7.5, "absent", None),
    ):
        script(api, "rate_limited", retry_after=seconds, retry_form=form)
        reply = await api.submit()
        assert reply.status == 429
        assert reply.error["code"] == "rate_limited"
        assert reply.headers.get("Retry-After") == header
        assert recorded(api) == ("refused", 429, 0, True)
    assert len(api.emulator.jobs) == 0


async def test_a_429_can_have_an_http_date_of_a_clock_that_is_wrong(api: Api) -> None:
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
    assert recorded(api) == outcome
    assert len(api.emulator.jobs) == accepted


async def test_a_503_that_refuses_has_the_error_body_of_the_api(api: Api) -> None:
    script(api, "503_refused", retry_after=2)
    reply = await api.submit()
    assert (reply.status, reply.headers["Retry-After"]) == (503, "2")
    assert reply.error["code"] == "service_unavailable"
    assert recorded(api) == ("refused", 503, 0, True)


async def test_a_fault_can_have_its_own_code_and_message(api: Api) -> None:
    script(api, "500", code="boom", message="It went boom")
    assert (await api.submit()).error == {"code": "boom", "message": "It went boom"}
    assert api.emulator.ledger[-1].code == "boom"


async def test_a_200_can_have_an_html_page(api: Api) -> None:
    script(api, "html", accepted=True)
    reply = await api.submit()
    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith("text/html")
    assert reply.body.startswith(b"<!doctype html>")
    assert recorded(api) == ("charged", 200, 40, False)
    script(api, "html", status=520)
    reply = await api.submit()
    assert reply.status == 520
    assert b"520 Unknown Error" in reply.body
    assert recorded(api) == ("refused", 520, 0, True)


@pytest.mark.parametrize("accepted", [False, True])
async def test_any_status_can_have_the_error_body_of_the_api(api: Api, accepted: bool) -> None:
    for status in (400, 403, 408, 409, 422, 425, 507):
        script(api, "error", status=status, code="odd", accepted=accepted)
        reply = await api.submit()
        assert (reply.status, reply.error["code"]) == (status, "odd")
        charged = ("charged", 200, 40, False)
        assert recorded(api) == (charged if accepted else ("refused", status, 0, True))


async def test_an_error_can_have_another_shape(api: Api) -> None:
    for body in ({"detail": "Not authenticated"}, {"error": "busy"}, {"error": {"code": 7}}):
        script(api, "error", value=body)
        reply = await api.submit()
        assert (reply.status, reply.data) == (400, body)
    assert api.emulator.ledger[-2].code is None


@pytest.mark.parametrize("accepted", [False, True])
async def test_a_200_can_say_that_it_is_no_success(api: Api, accepted: bool) -> None:
    script(api, "success_false", accepted=accepted)
    reply = await api.submit()
    assert reply.status == 200
    assert reply.error["code"] == "internal_error"
    assert len(api.emulator.jobs) == accepted


async def test_an_error_can_repeat_the_api_key(api: Api) -> None:
    script(api, "key_echo", "models")
    reply = await api.models()
    assert reply.status == 500
    assert api.emulator.api_key in reply.error["message"]
    script(api, "key_echo", "models", status=401)
    assert (await api.models()).status == 401


async def test_a_redirect_leads_elsewhere(api: Api) -> None:
    script(api, "redirect", value="http://127.0.0.1:9/there")
    reply = await api.submit()
    assert (reply.status, reply.headers["Location"]) == (307, "http://127.0.0.1:9/there")
    assert recorded(api) == ("refused", 307, 0, True)
    script(api, "redirect", status=301)
    assert (await api.submit()).status == 301


async def test_a_valid_key_can_be_refused_for_a_while(api: Api) -> None:
    request_id = await api.accepted()
    api.emulator.faults.script("poll", Fault("unauthorized"), times=2)
    assert [(await api.poll(request_id)).status for _ in range(3)] == [401, 401, 200]
    assert api.emulator.requests.fault_count("poll", "unauthorized") == 2


# -- answers that are cut, padded, slow or mislabelled ------------------------------------


@pytest.mark.parametrize("framing", ["length", "chunked", "ended", "close"])
@pytest.mark.parametrize("at", [None, 0, 20, 60, 10_000])
async def test_an_answer_can_be_cut_at_any_byte_in_four_ways(
    api: Api, framing: Any, at: int | None
) -> None:
    script(api, "truncated", at=at, framing=framing)
    received = await say(api)
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
    assert received.head.startswith("HTTP/1.1 200 OK\r\n")
    assert ("Content-Length" in received.head) == (framing == "length")
    if framing == "length":
        assert f"Content-Length: {len(whole)}" in received.head
    if framing == "chunked":
        assert received.body == f"{len(whole):x}\r\n".encode() + expected
    elif framing == "ended":
        assert received.body.endswith(b"0\r\n\r\n")
        assert expected in received.body
    else:
        assert received.body == expected
    assert recorded(api) == ("charged", 200, 40, False)


async def test_a_cut_answer_can_still_have_the_request_id(api: Api) -> None:
    for at, is_there in ((20, False), (60, True)):
        script(api, "truncated", at=at)
        received = await say(api)
        assert (str(api.emulator.ledger[-1].request_id).encode() in received.data) == is_there


@pytest.mark.parametrize("reset", [False, True])
async def test_an_answer_can_be_cut_inside_the_headers(api: Api, reset: bool) -> None:
    script(api, "truncated", at=-10, reset=reset)
    received = await say(api)
    assert b"\r\n\r\n" not in received.data
    assert received.was_reset == reset
    if not reset:
        assert received.data.startswith(b"HTTP/1.1 200 OK")


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


async def test_a_body_can_trickle_in(api: Api) -> None:
    script(api, "slow_body", "models", seconds=0.01)
    began = time.monotonic()
    reply = await api.models()
    assert reply.data["success"]
    assert time.monotonic() - began >= 0.15
    assert int(reply.headers["Content-Length"]) == len(reply.body)


async def test_a_correct_body_can_have_the_wrong_content_type(api: Api) -> None:
    script(api, "wrong_content_type")
    reply = await api.submit()
    assert reply.headers["Content-Type"].startswith("text/plain")
    assert reply.data["requestId"] == api.emulator.ledger[-1].request_id
    assert recorded(api) == ("charged", 200, 40, True)
    script(api, "wrong_content_type", value="application/xml")
    assert (await api.submit()).headers["Content-Type"].startswith("application/xml")


async def test_an_answer_can_be_huge_and_still_be_json(api: Api) -> None:
    script(api, "huge_body", size=1_000_000)
    reply = await api.submit()
    assert len(reply.body) == 1_000_000
    assert reply.data["requestId"] == api.emulator.ledger[-1].request_id
    assert recorded(api) == ("charged", 200, 40, False)


async def test_a_small_answer_can_unpack_to_a_huge_one(api: Api) -> None:
    script(api, "gzip_bomb", size=3_000_000)
    encoding, packed = await submit_packed(api)
    assert encoding == "gzip"
    assert len(packed) < 30_000
    whole = gzip.decompress(packed)
    assert len(whole) == 3_000_000
    assert json.loads(whole)["requestId"] == api.emulator.ledger[-1].request_id


async def submit_packed(api: Api) -> tuple[str, bytes]:
    """Submit; the encoding of the answer, and its body as it was sent."""
    url, key = api.emulator.url + GENERATIONS, api.emulator.api_key
    async with (
        aiohttp.ClientSession(auto_decompress=False) as http,
        http.post(url, json=BODY, headers={"Authorization": f"Bearer {key}"}) as answer,
    ):
        return answer.headers["Content-Encoding"], await answer.read()


async def test_an_answer_can_be_compressed_whether_or_not_the_client_asked(api: Api) -> None:
    for encoding, unpack in (
        (None, gzip.decompress),
        ("gzip", gzip.decompress),
        ("deflate", zlib.decompress),
        ("br", lambda packed: packed[3:-1]),  # one stored block
        ("zstd", lambda packed: packed[12:]),  # one raw block
    ):
        script(api, "compressed", value=encoding)
        label, packed = await submit_packed(api)
        assert label == (encoding or "gzip")
        assert json.loads(unpack(packed))["requestId"] == api.emulator.ledger[-1].request_id
        assert recorded(api) == ("charged", 200, 40, True)


async def test_a_long_answer_can_be_sent_as_brotli_and_zstd(api: Api) -> None:
    request_id = await api.accepted(prompt="river " * 50_000)
    sizes = []
    for encoding in ("br", "zstd"):
        script(api, "compressed", "poll", value=encoding)
        headers = {"Authorization": f"Bearer {api.emulator.api_key}"}
        url = f"{api.emulator.url}{GENERATIONS}/{request_id}"
        async with (
            aiohttp.ClientSession(auto_decompress=False) as http,
            http.get(url, headers=headers) as answer,
        ):
            packed = await answer.read()
        size = len(json.dumps((await api.poll(request_id)).data))
        sizes.append(len(packed) - size)
    # Five blocks of 64 KiB with 3 bytes of header each and an end; three of 128 KiB and a header.
    assert sizes == [5 * 3 + 1, 3 * 3 + 9]


async def test_an_answer_can_be_labelled_as_gzip_without_being_it(api: Api) -> None:
    script(api, "bad_gzip")
    label, body = await submit_packed(api)
    assert label == "gzip"
    assert json.loads(body)["requestId"] == api.emulator.ledger[-1].request_id
    assert recorded(api) == ("charged", 200, 40, False)


async def test_an_accepted_submit_can_be_answered_with_a_429(api: Api) -> None:
    script(api, "wrong_status", retry_after=3)
    reply = await api.submit()
    assert (reply.status, reply.headers["Retry-After"]) == (429, "3")
    assert reply.data["requestId"] == api.emulator.ledger[-1].request_id
    assert reply.data["creditsCharged"] == 40
    assert recorded(api) == ("charged", 200, 40, False)
    assert api.emulator.requests.by_status["submit", 429] == 1
    script(api, "wrong_status", status=202)
    reply = await api.submit()
    assert reply.status == 202
    assert "Retry-After" not in reply.headers


async def test_a_connection_can_close_unannounced_after_a_whole_answer(api: Api) -> None:
    script(api, "closes_after", "models")
    reader, writer = await asyncio.open_connection("127.0.0.1", int(api.emulator.url[-5:]))
    head = f"GET /api/open/v1/models HTTP/1.1\r\nAuthorization: Bearer {api.emulator.api_key}\r\n"
    writer.write(f"{head}Host: emulator\r\n\r\n".encode())
    data = await reader.read()
    writer.close()
    headers, _, body = data.partition(b"\r\n\r\n")
    assert b"Connection: close" not in headers
    assert json.loads(body)["success"]


async def test_headers_can_be_huge(api: Api) -> None:
    script(api, "huge_headers")
    with pytest.raises(aiohttp.ClientResponseError):
        await api.submit()
    assert recorded(api) == ("charged", 200, 40, False)


# -- answers whose JSON is odd -------------------------------------------------------------


async def test_an_answer_to_a_submit_can_lack_the_request_id(api: Api) -> None:
    script(api, "missing_request_id")
    reply = await api.submit()
    assert "requestId" not in reply.data
    assert recorded(api) == ("charged", 200, 40, False)
    assert api.emulator.ledger[-1].request_id in api.emulator.jobs


async def test_an_answer_to_a_submit_can_have_the_request_id_of_another_job(api: Api) -> None:
    script(api, "duplicate_request_id")
    first = await api.accepted()
    assert await api.accepted() == first
    assert len(api.emulator.jobs) == 2
    assert recorded(api) == ("charged", 200, 40, False)


async def test_jobs_can_have_hostile_request_ids(api: Api) -> None:
    api.emulator.faults.script("submit", "evil_request_id", times=None)
    ids = [await api.accepted() for _ in range(20)]
    assert len(set(ids)) == 20
    assert any("../" in each for each in ids)
    for request_id in ids:
        path = f"{GENERATIONS}/{quote(request_id, safe='')}"
        url = URL(api.emulator.url + path, encoded=True)
        headers = {"Authorization": f"Bearer {api.emulator.api_key}"}
        async with api.http.get(url, headers=headers) as answer:
            assert (await answer.json())["requestId"] == request_id


async def test_a_hostile_request_id_can_be_chosen(api: Api) -> None:
    script(api, "evil_request_id", value="../mine")
    script(api, "evil_request_id", value="../mine")
    assert [await api.accepted(), await api.accepted()] == ["../mine", "../mine-1"]


async def test_the_credits_of_an_answer_can_be_wrong_in_many_ways(api: Api) -> None:
    api.emulator.faults.script("submit", "bad_credits", times=6)
    found = [(await api.submit()).data.get("creditsCharged", "missing") for _ in range(6)]
    assert found == [-5, 40.5, "40", True, [40], "missing"]
    script(api, "bad_credits", value=1e99)
    assert (await api.submit()).data["creditsCharged"] == 1e99
    assert all(entry.credits == 40 for entry in api.emulator.ledger)


async def test_a_status_can_be_unknown(api: Api) -> None:
    request_id = await api.accepted()
    script(api, "unknown_status", "poll")
    script(api, "unknown_status", "poll", value="paused")
    found = [(await api.poll(request_id)).data["status"] for _ in range(3)]
    assert found == ["rendering", "paused", "queued"]


@pytest.mark.parametrize(
    ("end", "spelt"), [("succeeded", "Succeeded"), ("failed", "FAILED"), ("cancelled", "canceled")]
)
async def test_a_status_can_have_another_spelling(api: Api, end: Any, spelt: str) -> None:
    request_id = await api.accepted()
    api.emulator.faults.script("poll", "odd_case", times=None)
    assert (await api.poll(request_id)).data["status"] == "QUEUED"
    api.emulator.jobs.finish(request_id, end)
    assert (await api.poll(request_id)).data["status"] == spelt


async def test_a_status_regresses_only_after_a_final_state_was_reported(api: Api) -> None:
    request_id = await api.accepted()
    script(api, "regressed", "poll")
    assert (await api.poll(request_id)).data["status"] == "queued"
    api.emulator.jobs.finish(request_id)
    found = [(await api.poll(request_id)).data for _ in range(3)]
    assert [each["status"] for each in found] == ["succeeded", "processing", "succeeded"]
    assert found[1]["output"] is None


async def test_an_accepted_job_can_be_invisible_at_first(start: Start) -> None:
    api = await start(poll_faults={Fault("not_found", first=2): 1.0})
    request_id = await api.accepted()
    assert [(await api.poll(request_id)).status for _ in range(4)] == [404, 404, 200, 200]
    assert (await api.poll("req_nobody")).status == 404
    assert api.emulator.requests.fault_count("poll", "not_found") == 2


async def test_fields_can_be_added_left_out_or_null(api: Api) -> None:
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


async def test_the_answer_can_be_one_level_down(api: Api) -> None:
    script(api, "nested")
    script(api, "nested", "poll", value="result")
    submitted = (await api.submit()).data
    assert submitted["success"] is True
    assert submitted["data"]["creditsCharged"] == 40
    assert recorded(api) == ("charged", 200, 40, False)
    request_id = submitted["data"]["requestId"]
    assert (await api.poll(request_id)).data["result"]["status"] == "queued"


async def test_a_request_id_can_be_something_else_than_text(api: Api) -> None:
    api.emulator.faults.script("submit", "bad_request_id", times=6)
    found = [(await api.submit()).data["requestId"] for _ in range(6)]
    assert found == [1234567890, ["req_1"], "", "  ", {"id": "req_1"}, None]
    script(api, "bad_request_id", value=7.5)
    assert (await api.submit()).data["requestId"] == 7.5
    assert recorded(api) == ("charged", 200, 40, False)


async def test_a_price_can_change(api: Api) -> None:
    script(api, "price_changed")
    script(api, "price_changed", value=0.1)
    charged = [(await api.submit()).data["creditsCharged"] for _ in range(3)]
    assert charged == [80, 4, 40]
    assert [entry.credits for entry in api.emulator.ledger] == charged
    assert [account.balance for account in api.emulator.accounts] == [1_000_000_000 - 124]


async def test_a_query_can_be_answered_with_another_job(api: Api) -> None:
    first = await api.accepted()
    script(api, "other_job", "poll")
    assert (await api.poll(first)).data["requestId"] == first
    second = await api.accepted(prompt="Another")
    wrong, right = [(await api.poll(first)).data for _ in range(2)]
    assert (wrong["requestId"], wrong["prompt"]) == (second, "Another")
    assert right["requestId"] == first


async def test_the_server_can_trim_the_prompt(api: Api) -> None:
    request_id = await api.accepted(prompt="  A river in autumn \n")
    script(api, "trimmed_prompt", "poll", value=7)
    script(api, "trimmed_prompt", "poll")
    found = [(await api.poll(request_id)).data["prompt"] for _ in range(3)]
    assert found == ["A river", "A river ", "  A river in autumn \n"]


async def test_the_output_of_a_succeeded_job_can_be_unusable(api: Api) -> None:
    request_id = await api.accepted()
    api.emulator.faults.script("poll", "bad_output", times=8)
    assert (await api.poll(request_id)).data["output"] is None
    api.emulator.jobs.finish(request_id)
    found = [(await api.poll(request_id)).data for _ in range(8)]
    assert {each["status"] for each in found} == {"succeeded"}
    urls = {
        each["output"]["url"]
        for each in found
        if isinstance(each["output"], dict) and each["output"]
    }
    assert urls == {
        None,
        "open-api-results/video.mp4",
        "file:///etc/passwd",
        "http://169.254.169.254/latest/meta-data",
    }
    assert [each["output"] for each in found].count(None) == 1
    script(api, "bad_output", "poll", value="gone")
    assert (await api.poll(request_id)).data["output"] == "gone"
    assert (await api.poll(request_id)).data["output"]["type"] == "video"


async def test_the_error_of_a_failed_job_can_have_another_shape(api: Api) -> None:
    request_id = await api.accepted()
    api.emulator.faults.script("poll", "bad_error", times=5)
    assert (await api.poll(request_id)).data["error"] is None
    api.emulator.jobs.finish(request_id, "failed")
    found = [(await api.poll(request_id)).data["error"] for _ in range(5)]
    odd = {"code": 7, "message": {"text": "It failed"}}
    assert found == [["It failed"], {}, odd, None, "It failed"]
    assert (await api.poll(request_id)).data["error"]["code"] == "generation_failed"


async def test_the_json_of_an_error_is_not_changed(api: Api) -> None:
    script(api, "extra_fields", "poll")
    reply = await api.poll("req_nobody")
    assert reply.status == 404
    assert set(reply.data) == {"success", "error"}


async def test_a_fault_on_a_refused_request_does_not_change_the_refusal(api: Api) -> None:
    script(api, "502", accepted=True)
    assert (await api.submit(model="unheard-of")).status == 400
    assert recorded(api) == ("invalid", 400, 0, True)
    assert api.emulator.ledger[-1].fault is None
    assert api.emulator.requests.fault_count("submit", "502") == 0
    script(api, "drop_after_accept")
    assert (await say(api, body={"model": "unheard-of"})).data == b""
    assert recorded(api) == ("invalid", 400, 0, False)


async def test_a_job_can_be_cancelled_and_the_answer_lost(api: Api) -> None:
    request_id = await api.accepted()
    script(api, "drop_after_accept", "cancel")
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await api.cancel(request_id)
    assert api.emulator.jobs[request_id].status == "cancelled"


async def test_a_job_can_be_reported_as_cancelled_and_go_on(api: Api) -> None:
    request_id = await api.accepted()
    script(api, "not_cancelled", "cancel")
    assert (await api.cancel(request_id)).data["status"] == "cancelled"
    assert (await api.poll(request_id)).data["status"] == "queued"
    assert (await api.cancel(request_id)).data["status"] == "cancelled"
    assert (await api.poll(request_id)).data["status"] == "cancelled"


# -- jobs ----------------------------------------------------------------------------------


async def test_jobs_can_fail_get_stuck_or_be_cancelled_by_the_server(start: Start) -> None:
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


def test_every_kind_has_a_meaning_and_an_operation() -> None:
    assert all(kind.meaning and kind.operations for kind in KINDS.values())
