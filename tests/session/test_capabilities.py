"""Who judges a request: the server's list of models where it tells, the page, or nobody here."""

import asyncio
import json

import attrs
import pytest

from seedance_async import (
    APIError,
    BudgetExceededError,
    GenerationRequest,
    InvalidRequestError,
    JobState,
    Model,
    SeedanceSession,
)
from seedance_async.api import capabilities
from seedance_async.api.models import ModelInfo
from seedance_async.emulator import Emulator, EmulatorOptions
from tests.conftest import QUICK_POLL
from tests.support.fakes import NOT_SENT, error_reply, reply
from tests.support.for_each import for_each

virtual = pytest.mark.virtual_time

TALL = GenerationRequest("a river", aspect_ratio="3:4")
LONG = GenerationRequest("a river", duration=30)
LARGE = GenerationRequest("a river", resolution="4k")
CARD = {
    "id": "seedance-2.0",
    "durations": [*range(4, 16), 20, 30],
    "aspectRatios": ["16:9", "3:4"],
    "resolutions": ["720p", "4k"],
}


def listing(*entries):
    return reply(body={"success": True, "data": list(entries)})


def card(**fields):
    entry = {**CARD, **fields}
    return ModelInfo(
        entry["id"],
        tuple(entry["durations"]),
        tuple(entry["aspectRatios"]),
        tuple(entry["resolutions"]),
        None,
        entry,
    )


def sent(api):
    return [json.loads(wire.body) for wire in api.sent if wire.charges]


# --- the server's list --------------------------------------------------------------------------


@virtual
async def test_what_the_server_lists_is_submitted_though_the_page_does_not_name_it(
    make_session, api
):
    api.script["models"].append(listing(CARD))
    async with make_session() as session:
        for request in (TALL, LONG, LARGE):
            await session.submit(request)
    assert [body.get("duration") for body in sent(api)] == [None, 30, None]
    assert api.count("models") == 1


@virtual
async def test_a_request_that_keeps_the_documented_rules_asks_for_no_list(make_session, api):
    async with make_session() as session:
        await session.submit(GenerationRequest("a river", duration=15, resolution="1080p"))
        await session.run([GenerationRequest("a sea", aspect_ratio="1:1")])
    assert api.count("models") == 0


@virtual
async def test_a_request_that_is_wrong_anyway_asks_for_no_list(make_session, api):
    wrong = attrs.evolve(TALL, prompt=""), attrs.evolve(TALL, aspect_ratio=3)
    async with make_session() as session:
        for request in (*wrong, attrs.evolve(LONG, extra={"Prompt": 1})):
            with pytest.raises(InvalidRequestError):
                await session.submit(request)
    assert not api.sent


@virtual
async def test_what_the_server_does_not_list_either_is_refused_with_what_it_lists(
    make_session, api
):
    api.script["models"].append(listing(CARD))
    async with make_session() as session:
        with pytest.raises(InvalidRequestError) as caught:
            await session.submit(attrs.evolve(TALL, aspect_ratio="2:1"))
        assert caught.value.rule == "must be one of 16:9, 3:4, by the server's list of models"
        with pytest.raises(InvalidRequestError) as caught:
            await session.submit(attrs.evolve(LONG, duration=25))
        words = "must be 4 to 15, 20 or 30 seconds for seedance-2.0, by the server's list of models"
        assert (caught.value.field, caught.value.value, caught.value.rule) == (
            "duration",
            25,
            words,
        )
    assert sent(api) == []
    assert api.count("models") == 1


@virtual
async def test_a_list_that_is_known_also_narrows_what_the_page_names(make_session, api):
    api.script["models"].append(listing(CARD))
    async with make_session() as session:
        await session.client.models()
        with pytest.raises(InvalidRequestError, match="720p, 4k"):
            await session.submit(GenerationRequest("a river", resolution="480p"))


@pytest.mark.parametrize(
    "entry",
    [
        {"id": "seedance-2.0"},
        {"id": "seedance-2.0", "durations": [], "aspectRatios": "all", "resolutions": None},
        {"id": "seedance-2.0", "durations": [{"to": 30}], "aspectRatios": [34], "resolutions": [4]},
        {"id": "another"},
    ],
)
@virtual
async def test_where_the_list_is_silent_the_documented_rules_hold(make_session, api, entry):
    api.script["models"].append(listing(entry))
    async with make_session() as session:
        for request in (TALL, LONG, LARGE):
            with pytest.raises(InvalidRequestError) as caught:
                await session.submit(request)
            assert "the server" not in caught.value.rule
    assert sent(api) == []
    assert api.count("models") == 1


@virtual
@virtual
async def test_a_list_of_which_a_part_cannot_be_read_refuses_nothing(make_session, api):
    api.script["models"].append(listing({**CARD, "durations": [5.0, 30, "auto"]}))
    async with make_session() as session:
        (known,) = await session.client.models()
        await session.submit(GenerationRequest("a river", duration=6, aspect_ratio="3:4"))
    assert (known.durations, known.incomplete) == ((5, 30), {"durations"})


@virtual
async def test_a_model_that_only_the_server_knows_is_judged_once_its_list_is_known(
    make_session, api
):
    request = GenerationRequest("a river", model="seedance-3.0", duration=60)
    api.script["models"].append(listing({**CARD, "id": "seedance-3.0"}))
    async with make_session() as session:
        await session.submit(request)
        await session.client.models()
        with pytest.raises(InvalidRequestError, match="4 to 15, 20 or 30 seconds for seedance-3"):
            await session.submit(request)


@virtual
async def test_many_requests_at_once_ask_for_the_list_once(make_session, api):
    async def slowly(_):
        await asyncio.sleep(1)
        return listing(CARD)

    api.script["models"].extend([slowly] * 50)
    async with make_session(max_in_flight=50) as session:
        batch = await session.run([TALL, LONG] * 50)
    assert batch.counts == {JobState.SUCCEEDED: 100}
    assert api.count("models") == 1


@virtual
async def test_a_limit_on_credits_reads_the_same_list(make_session, api):
    api.script["models"].extend([listing(CARD)] * 2)
    async with make_session(max_credits=100) as session:
        await session.submit(TALL)
    assert api.count("models") == 1


@virtual
async def test_the_list_is_asked_for_again_after_an_hour(make_session, api):
    async with make_session() as session:
        with pytest.raises(InvalidRequestError):
            await session.submit(TALL)
        await asyncio.sleep(capabilities.KEPT_SECONDS + 1)
        api.script["models"].append(listing(CARD))
        await session.submit(TALL)
    assert api.count("models") == 2


@pytest.mark.parametrize("trouble", [error_reply(404), reply(body=b"<html>"), "silence"])
@virtual
async def test_a_list_that_cannot_be_read_leaves_the_documented_rules_and_is_not_waited_for(
    make_session, api, trouble, caplog
):
    async def silence(_):
        await asyncio.sleep(10_000)

    api.script["models"].extend([silence if trouble == "silence" else trouble] * 20)
    async with make_session() as session:
        began = asyncio.get_running_loop().time()
        for _ in range(3):
            with pytest.raises(InvalidRequestError, match="16:9, 9:16, 1:1"):
                await session.submit(TALL)
        waited = asyncio.get_running_loop().time() - began
        assert waited <= capabilities.ASK_SECONDS
        asked = api.count("models")
        await asyncio.sleep(capabilities.PAUSE_SECONDS + 1)
        api.script["models"].clear()
        api.script["models"].append(listing(CARD))
        await session.submit(TALL)
    assert api.count("models") == asked + 1
    assert len([r for r in caplog.records if "what is known holds" in r.getMessage()]) == 1


@virtual
async def test_a_server_that_is_down_does_not_hold_up_a_refusal_for_long(make_session, api):
    api.script["models"].extend([NOT_SENT] * 200)
    async with make_session() as session:
        began = asyncio.get_running_loop().time()
        with pytest.raises(InvalidRequestError):
            await session.submit(LONG)
        assert asyncio.get_running_loop().time() - began <= capabilities.ASK_SECONDS


@virtual
async def test_a_key_still_belongs_to_a_request_that_only_the_list_allows(make_session, api):
    api.script["models"].append(listing(CARD))
    async with make_session() as session:
        batch = await session.run([("one", TALL), ("one", attrs.evolve(TALL))])
    assert [job.state for job in batch] == [JobState.SUCCEEDED] * 2
    assert len(sent(api)) == 1


@virtual
async def test_a_single_call_is_judged_in_the_same_way(make_client, api):
    api.script["models"].append(listing(CARD))
    async with make_client() as client:
        await client.create(TALL)
    async with make_client(strict=False) as client:
        await client.create(attrs.evolve(TALL, aspect_ratio="2:1"))
    assert [body["aspectRatio"] for body in sent(api)] == ["3:4", "2:1"]


@virtual
async def test_a_request_can_be_checked_without_a_submit(make_session, api):
    api.script["models"].append(listing(CARD))
    session = make_session()
    await session.check(TALL)
    with pytest.raises(InvalidRequestError, match="prompt"):
        await session.check(GenerationRequest(""))
    assert sent(api) == []


# --- no judging at all --------------------------------------------------------------------------

UNHEARD_OF = [
    LONG,
    attrs.evolve(TALL, aspect_ratio="21:9", resolution="8k", model=""),
    GenerationRequest("", duration=-1),
    GenerationRequest("a river", media_urls=["asset://1"] * 9 + ["http://10.0.0.1/x"]),
    GenerationRequest("a river", webhook_url="http://intranet/hook"),
]


@pytest.mark.parametrize("request_", UNHEARD_OF, ids=range(len(UNHEARD_OF)))
@virtual
async def test_without_strict_the_server_judges_everything(make_session, api, request_):
    assert request_.violations()
    assert request_.violations(strict=False) == []
    async with make_session(strict=False, max_credits=1000) as session:
        await session.submit(request_)
    assert len(sent(api)) == 1


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": "\ud800"}, "prompt"),
        ({"model": 5}, "model"),
        ({"duration": "5"}, "duration"),
        ({"duration": 10**5000}, "duration"),
        ({"resolution": 4}, "resolution"),
        ({"aspect_ratio": 1.5}, "aspect_ratio"),
        ({"media_urls": "https://x.example"}, "media_urls"),
        ({"media_urls": [5]}, "media_urls[0]"),
        ({"media_urls": ["a.jpg"]}, "media_urls[0]"),
        ({"webhook_url": 5}, "webhook_url"),
        ({"metadata": [1]}, "metadata"),
        ({"extra": {"prompt": 1}}, "extra.prompt"),
        ({"extra": {"a": {1}}}, "extra.a"),
    ],
)
@virtual
async def test_what_cannot_be_sent_is_refused_nevertheless(make_session, api, fields, field):
    request = GenerationRequest(**{"prompt": "a river", **fields})
    async with make_session(strict=False) as session:
        with pytest.raises(InvalidRequestError) as caught:
            await session.submit(request)
    assert caught.value.field == field
    assert not api.sent


# --- without a session --------------------------------------------------------------------------


def test_a_list_of_models_can_be_given_to_the_rules_themselves():
    assert LONG.violations()[0].of_model
    assert LONG.violations(models=[card()]) == []
    assert LONG.violations(models=[card(id="another")]) == LONG.violations()
    short = attrs.evolve(LONG, model=Model.SEEDANCE_1_5_PRO, duration=6)
    assert short.violations(models=[card(), card(id="seedance-1.5-pro", durations=[6])]) == []


@for_each(
    ("durations", "words"),
    [
        ([5], "5"),
        ([10, 5], "5 or 10"),
        ([4, 5, 6], "4 to 6"),
        ([4, 5, 6, 8, 10, 11], "4 to 6, 8, 10 or 11"),
        (range(2, 5000, 2), "2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34, 36,"),
    ],
)
def test_durations_are_listed_in_words(durations, words):
    (broken,) = attrs.evolve(LONG, duration=99).violations(models=[card(durations=durations)])
    assert broken.rule.startswith(f"must be {words}")


# --- against a server that enforces its card ----------------------------------------------------


async def test_a_new_field_a_new_ratio_and_a_new_price_need_no_new_version():
    cards = [
        {**CARD, "pricing": {"unit": "credits_per_second", "4k": 64}, "extra": ["seed", "style"]}
    ]
    new = GenerationRequest(
        "a river", aspect_ratio="3:4", duration=30, resolution="4k", extra={"seed": 7}
    )
    async with (
        Emulator(EmulatorOptions(speed=2000, media="shared", models=cards)) as emulator,
        SeedanceSession(
            base_url=emulator.url, api_key=emulator.api_key, poll=QUICK_POLL, max_credits=2000
        ) as session,
    ):
        with pytest.raises(APIError, match="fps"):
            await session.submit(GenerationRequest("a sea", extra={"fps": 60}, duration=4))
        job = await session.submit(new)
        await job
        assert job.credits_charged == 1920
        assert emulator.ledger[-1].body["seed"] == 7
        with pytest.raises(BudgetExceededError):  # known from the list before it is ever charged
            await session.submit(attrs.evolve(new, extra={"seed": 8}))
    assert len(emulator.ledger) == 2
