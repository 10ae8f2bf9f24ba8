"""The four operations: keys, balances, limits, and what the ledger records."""

import asyncio
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seedance_async.emulator import Accounts, Emulator
from seedance_async.emulator.accounts import CREDITS_PER_SECOND, DURATIONS, price
from seedance_async.emulator.contract import Contract

from .conftest import BODY, GENERATIONS, Api, Start

CONTRACT = Contract()
UNAUTHORIZED = {"success": False, "error": {"code": "unauthorized", "message": "Invalid API key"}}


async def test_a_submit_is_charged_and_recorded(api: Api) -> None:
    reply = await api.submit(duration=8, metadata={"scene": 4})
    assert reply.data == {
        "success": True,
        "requestId": next(iter(api.emulator.jobs)),
        "status": "queued",
        "creditsCharged": 64,
    }
    (entry,) = api.emulator.ledger
    assert entry.number == 1
    assert entry.outcome == "charged"
    assert entry.status == 200
    assert entry.account == "account-1"
    assert entry.prompt == BODY["prompt"]
    assert entry.body == {**BODY, "duration": 8, "metadata": {"scene": 4}}
    assert entry.credits == 64
    assert entry.request_id == reply.data["requestId"]
    assert entry.fault is None
    assert entry.answered
    assert api.emulator.ledger.charged_prompts() == {BODY["prompt"]: 1}
    assert [account.balance for account in api.emulator.accounts] == [1_000_000_000 - 64]


async def test_two_submits_of_one_prompt_are_two_charges(api: Api) -> None:
    await api.submit()
    await api.submit()
    await api.submit(prompt="Another")
    assert api.emulator.ledger.duplicates() == {BODY["prompt"]: 2}
    assert len(api.emulator.ledger.charged) == 3
    assert api.emulator.ledger[0:1][0].prompt == BODY["prompt"]
    assert repr(api.emulator.ledger) == "<Ledger 3 submits: 3 charged>"


async def test_one_submit_is_counted_in_the_singular(api: Api) -> None:
    await api.submit()
    assert repr(api.emulator.ledger) == "<Ledger 1 submit: 1 charged>"


async def test_a_status_query_looks_as_on_the_page(api: Api) -> None:
    request_id = await api.accepted(duration=5, aspectRatio="9:16")
    queued = (await api.poll(request_id)).data
    assert queued == {
        "success": True,
        "requestId": request_id,
        "status": "queued",
        "model": "seedance-2.0",
        "prompt": BODY["prompt"],
        "duration": 5,
        "aspectRatio": "9:16",
        "output": None,
        "error": None,
    }
    api.emulator.jobs.start(request_id)
    assert (await api.poll(request_id)).data == {**queued, "status": "processing"}
    api.emulator.jobs.finish(request_id)
    succeeded = (await api.poll(request_id)).data
    url = f"{api.emulator.url}/media/open-api-results/{request_id}.mp4"
    assert succeeded == {
        **queued,
        "status": "succeeded",
        "output": {"type": "video", "url": url},
    }
    for answer in (queued, succeeded):
        assert CONTRACT.schema("Generation").is_valid(answer)


async def test_a_failed_job_says_why(api: Api) -> None:
    request_id = await api.accepted()
    api.emulator.jobs.finish(request_id, "failed", {"code": "moderation", "message": "No"})
    answer = (await api.poll(request_id)).data
    assert answer["status"] == "failed"
    assert answer["error"] == {"code": "moderation", "message": "No"}
    assert answer["output"] is None


async def test_settings_that_are_left_out_have_the_assumed_defaults(api: Api) -> None:
    answer = (await api.poll(await api.accepted())).data
    assert answer["duration"] == 5
    assert answer["aspectRatio"] == "16:9"
    assert api.emulator.ledger[0].credits == 40


async def test_a_job_can_be_cancelled_once(api: Api) -> None:
    request_id = await api.accepted()
    reply = await api.cancel(request_id)
    assert reply.data == {"success": True, "requestId": request_id, "status": "cancelled"}
    assert (await api.poll(request_id)).data["status"] == "cancelled"
    again = await api.cancel(request_id)
    assert again.status == 409
    assert again.error["code"] == "conflict"


async def test_the_models_are_listed_with_what_they_can_do(api: Api) -> None:
    reply = await api.models()
    assert CONTRACT.schema("ModelList").is_valid(reply.data)
    entries = {entry["id"]: entry for entry in reply.data["data"]}
    assert set(entries) == {"seedance-2.0", "seedance-2.0-fast", "seedance-1.5-pro"}
    assert entries["seedance-1.5-pro"]["durations"] == [5, 10]
    assert entries["seedance-2.0"]["pricing"] == {
        "unit": "credits_per_second",
        "480p": 4,
        "720p": 8,
        "1080p": 16,
    }


def test_the_prices_match_the_examples_of_the_page() -> None:
    assert price({"model": "seedance-2.0", "duration": 5, "resolution": "720p"}) == 40
    assert price({"model": "seedance-2.0-fast", "duration": 8, "resolution": "720p"}) == 64
    assert {model for model, _ in CREDITS_PER_SECOND} == set(DURATIONS)


async def test_a_missing_or_wrong_key_is_refused_everywhere(api: Api) -> None:
    request_id = await api.accepted()
    calls = [
        ("GET", "/api/open/v1/models"),
        ("POST", GENERATIONS),
        ("GET", f"{GENERATIONS}/{request_id}"),
        ("POST", f"{GENERATIONS}/{request_id}/cancel"),
    ]
    for header in (
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer sd2_live_wrong",
        "Basic sd2_live_emulator",
        "sd2_live_emulator",
        "Bearer sd2_live_emulator sd2_live_emulator",
        "Bearer sd2_live_ümlaut",
    ):
        headers = {} if header is None else {"Authorization": header}
        for method, path in calls:
            kwargs = {"json": BODY} if path == GENERATIONS else {}
            reply = await api.call(method, path, headers=headers, **kwargs)
            assert reply.status == 401, header
            assert reply.data == UNAUTHORIZED
    assert api.emulator.ledger[-1].outcome == "refused"
    assert api.emulator.ledger[-1].code == "unauthorized"
    assert not api.emulator.jobs[request_id].is_terminal


async def test_the_bearer_scheme_is_case_insensitive(api: Api) -> None:
    headers = {"Authorization": f"bearer {api.emulator.api_key}"}
    assert (await api.call("GET", "/api/open/v1/models", headers=headers)).status == 200


async def test_an_account_does_not_see_the_jobs_of_another(api: Api) -> None:
    request_id = await api.accepted()
    other = api.emulator.accounts.add("sd2_live_other", balance=100)
    headers = {"Authorization": f"Bearer {other.key}"}
    reply = await api.call("GET", f"{GENERATIONS}/{request_id}", headers=headers)
    assert reply.status == 404
    api.emulator.accounts.revoke(other.key)
    reply = await api.call("GET", f"{GENERATIONS}/{request_id}", headers=headers)
    assert reply.status == 401


async def test_an_empty_balance_is_a_402_and_costs_nothing(start: Start) -> None:
    api = await start(balance=79)
    assert (await api.submit()).status == 200
    reply = await api.submit(prompt="One too many")
    assert reply.status == 402
    assert reply.error["code"] == "insufficient_credits"
    last = api.emulator.ledger[-1]
    assert (last.outcome, last.status, last.credits) == ("refused", 402, 0)
    assert last.account == "account-1"
    assert api.emulator.ledger.charged_prompts() == {BODY["prompt"]: 1}
    assert len(api.emulator.jobs) == 1


async def test_an_unknown_request_is_a_404(api: Api) -> None:
    for reply in (await api.poll("req_nobody"), await api.cancel("req_nobody")):
        assert reply.status == 404
        assert reply.error["code"] == "not_found"
    reply = await api.poll("x" * 600)
    assert reply.status == 400
    assert reply.error["message"].startswith("requestId: ")


async def test_unknown_paths_below_api_are_404_in_the_documented_shape(api: Api) -> None:
    for path in ("/api", "/api/", "/api/open/v1/videos", "/api/open/v2/models"):
        reply = await api.call("GET", path)
        assert reply.status == 404, path
        assert reply.error["code"] == "not_found"
        assert CONTRACT.schema("Error").is_valid(reply.data)


async def test_a_body_that_is_not_a_json_object_is_a_400(api: Api) -> None:
    for raw in (
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"duration": ' + b"9" * 10_000 + b"}",
    ):
        reply = await api.post(raw)
        assert reply.status == 400, raw[:20]
        assert reply.error["message"].startswith("body: ")
        assert api.emulator.ledger[-1].outcome == "invalid"
        assert api.emulator.ledger[-1].prompt is None


async def test_another_content_type_is_a_415(api: Api) -> None:
    for content_type in ("text/plain", "application/x-www-form-urlencoded", ";"):
        reply = await api.post(json.dumps(BODY), content_type)
        assert reply.status == 415, content_type
        assert reply.error["code"] == "unsupported_media_type"
        assert api.emulator.ledger[-1].outcome == "invalid"


async def test_a_charset_in_the_content_type_is_accepted(api: Api) -> None:
    reply = await api.post(json.dumps(BODY), "application/json; charset=utf-8")
    assert reply.status == 200


async def test_a_body_over_a_mebibyte_is_a_413(api: Api) -> None:
    body = BytesIO(json.dumps({**BODY, "prompt": "x" * 1024 * 1024}).encode())
    reply = await api.post(body)
    assert reply.status == 413
    assert reply.error["code"] == "payload_too_large"
    assert api.emulator.ledger[-1].outcome == "invalid"
    assert len(api.emulator.jobs) == 0


async def test_no_more_jobs_are_accepted_than_may_be_active(start: Start) -> None:
    api = await start(max_active=2)
    first = await api.accepted()
    await api.accepted()
    reply = await api.submit()
    assert reply.status == 429
    assert reply.error["code"] == "rate_limited"
    assert int(reply.headers["Retry-After"]) >= 1
    assert api.emulator.ledger[-1].outcome == "refused"
    api.emulator.jobs.finish(first)
    assert (await api.submit()).status == 200
    assert api.emulator.jobs.peak_active == 2


async def test_submits_are_limited_by_a_token_bucket(start: Start) -> None:
    api = await start(submit_rate=0.001, submit_burst=3)
    statuses = [(await api.submit()).status for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
    reply = await api.submit()
    assert 900 <= int(reply.headers["Retry-After"]) <= 1000
    assert len(api.emulator.ledger.charged) == 3
    assert api.emulator.requests.count("submit", 429) == 3


async def test_an_empty_bucket_fills_again(start: Start) -> None:
    api = await start(submit_rate=1e9, submit_burst=1)
    assert [(await api.submit()).status for _ in range(5)] == [200] * 5


@pytest.mark.parametrize(("refund", "expected"), [(True, 1000), (False, 960)])
async def test_a_cancelled_job_is_refunded_only_if_the_options_say_so(
    start: Start, refund: bool, expected: int
) -> None:
    api = await start(balance=1000, refund_failed=refund)
    request_id = await api.accepted()
    await api.cancel(request_id)
    assert [account.balance for account in api.emulator.accounts] == [expected]
    refunds = [(each.request_id, each.credits) for each in api.emulator.ledger.refunds]
    assert refunds == ([(request_id, 40)] if refund else [])


async def test_a_succeeded_job_is_not_refunded(start: Start) -> None:
    api = await start(balance=1000, refund_failed=True)
    await api.succeeded()
    assert api.emulator.ledger.refunds == ()


async def test_the_ledger_file_is_written_before_the_response(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    api = await start(ledger_path=str(path), refund_failed=True)
    request_id = await api.accepted()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["record"], line["request_id"]) for line in lines] == [("submit", request_id)]
    assert lines[0]["body"] == BODY
    await api.submit(model="unheard-of")
    await api.cancel(request_id)
    records = [json.loads(line)["record"] for line in path.read_text().splitlines()]
    assert records == ["submit", "submit", "refund"]


async def test_the_next_emulator_appends_to_the_ledger_file(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    for _ in range(2):
        api = await start(ledger_path=path)
        await api.submit()
        await api.emulator.stop()
        assert len(api.emulator.ledger) == 1
    assert len(path.read_text().splitlines()) == 2


async def test_a_test_can_wait_for_a_number_of_submits(api: Api) -> None:
    waiting = asyncio.create_task(api.emulator.ledger.wait_for(2))
    await api.submit()
    assert not waiting.done()
    await api.submit()
    await waiting
    await api.emulator.ledger.wait_for(1)


@settings(max_examples=200, deadline=None)
@given(header=st.none() | st.text() | st.text().map("Bearer {}".format))
def test_any_authorization_header_is_parsed_without_an_exception(header: str | None) -> None:
    accounts = Accounts()
    accounts.add("key", balance=1)
    account = accounts.by_header(header)
    assert (account is not None) == (
        header is not None and header[:7].lower() == "bearer " and header[7:].strip() == "key"
    )


def test_no_repr_shows_a_key() -> None:
    accounts = Accounts()
    secret = "sd2_live_secret"
    shown: list[Any] = [accounts.add(secret, 1), Emulator(), Emulator().options]
    assert not any(secret in repr(each) or "sd2_live" in repr(each) for each in shown)
