"""Model cards: what the emulator offers instead of the documented models, told and enforced."""

from typing import Any

import pytest

from seedance_async.emulator.contract import Contract, load_document
from seedance_async.emulator.model_cards import ModelCards, cards_in
from seedance_async.emulator.render import Picture
from tests.support.for_each import for_each

from .conftest import BODY, Start

TOMORROW: dict[str, Any] = {
    "id": "seedance-2.0",
    "durations": [5, 30],
    "aspectRatios": ["21:9", "4:3"],
    "resolutions": ["720p", "4k"],
    "pricing": {"unit": "credits_per_second", "720p": 2.5, "4k": 64},
    "extra": {"seed": {"type": "integer", "minimum": 0}, "style": {"enum": ["noir", "bright"]}},
    "shownTo": "nobody else",
}
FREE = {"id": "seedance-3.0", "extra": ["anything"]}
OLD = {"id": "seedance-1.5-pro"}
CARDS = (TOMORROW, FREE, OLD)


async def test_the_cards_are_answered_as_they_were_given(start: Start) -> None:
    api = await start(models=CARDS)
    assert (await api.models()).data["data"] == list(CARDS)


ALLOWED: list[dict[str, Any]] = [
    {},
    {"duration": 30, "aspectRatio": "21:9", "resolution": "4k"},
    {"seed": 0, "style": "noir"},
    {"model": "seedance-3.0", "duration": 99, "aspectRatio": "x", "resolution": "y"},
    {"model": "seedance-3.0", "anything": {"at": ["all"]}},
    {"model": "seedance-1.5-pro", "duration": 10, "aspectRatio": "16:9"},
]


async def test_what_a_card_allows_is_taken(start: Start) -> None:
    api = await start(models=CARDS)
    for fields in ALLOWED:
        reply = await api.submit(**fields)
        assert reply.status == 200, (fields, reply.body)
        assert api.emulator.ledger[-1].body == {**BODY, **fields}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"duration": 6}, "duration: "),
    ({"duration": "5"}, "duration: "),
    ({"aspectRatio": "16:9"}, "aspectRatio: "),
    ({"resolution": "1080p"}, "resolution: "),
    ({"seed": -1}, "seed: "),
    ({"seed": "7"}, "seed: "),
    ({"style": "loud"}, "style: "),
    ({"anything": 1}, "body: Additional properties are not allowed ('anything'"),
    ({"model": "seedance-3.0", "seed": 1}, "body: Additional properties are not allowed"),
    ({"model": "seedance-3.0", "duration": 0}, "duration: "),
    ({"model": "seedance-1.5-pro", "duration": 6}, "duration: "),
    ({"model": "seedance-1.5-pro", "aspectRatio": "4:3"}, "aspectRatio: "),
    ({"model": "seedance-2.0-fast"}, "model: "),
    ({"prompt": " "}, "prompt: "),
    ({"mediaUrls": ["ftp://x"]}, "mediaUrls[0]: "),
]


async def test_what_no_card_allows_is_refused_by_its_name(start: Start) -> None:
    api = await start(models=CARDS)
    for fields, problem in REFUSED:
        reply = await api.submit(**fields)
        assert reply.status == 400, fields
        assert reply.error["message"].startswith(problem), fields
        assert not api.emulator.ledger.charged, fields


async def test_a_card_names_the_price_and_the_documented_prices_hold_where_it_does_not(
    start: Start,
) -> None:
    api = await start(models=CARDS)
    for fields, credits in (
        ({"duration": 5}, 13),
        ({"duration": 30, "resolution": "4k"}, 1920),
        ({"model": "seedance-1.5-pro", "duration": 5, "resolution": "480p"}, 10),
        ({"model": "seedance-3.0", "duration": 2}, 16),
    ):
        assert (await api.submit(**fields)).data["creditsCharged"] == credits


async def test_what_a_submit_leaves_out_is_something_that_its_model_takes(start: Start) -> None:
    card = {**TOMORROW, "durations": [30, 60], "resolutions": ["4k"]}
    api = await start(models=[card])
    answered = (await api.poll(await api.succeeded())).data
    assert (answered["duration"], answered["aspectRatio"]) == (30, "21:9")
    assert api.emulator.ledger[-1].credits == 30 * 64


async def test_answers_match_the_contract_that_the_cards_make(start: Start) -> None:
    api = await start(models=CARDS)
    contract = Contract(models=ModelCards(CARDS))
    job = await api.succeeded(duration=30, aspectRatio="4:3", seed=7)
    assert contract.schema("Generation").is_valid((await api.poll(job)).data)
    assert not Contract().schema("Generation").is_valid((await api.poll(job)).data)


async def test_ignored_fields_are_ignored_beside_those_that_a_card_names(start: Start) -> None:
    api = await start(models=CARDS, unknown_fields="ignored")
    assert (await api.submit(anything=1)).status == 200
    assert (await api.submit(seed=-1)).status == 400


def test_without_cards_the_contract_is_the_document_and_nothing_else() -> None:
    plain, without = Contract(), Contract(models=ModelCards())
    assert plain._components == without._components
    assert load_document()["components"]["schemas"]["ModelId"]["enum"] == [
        "seedance-2.0",
        "seedance-2.0-fast",
        "seedance-1.5-pro",
    ]


def test_the_documented_models_as_cards_refuse_what_the_document_refuses() -> None:
    entries = [dict(card.entry) for card in ModelCards()]
    submits = [Contract(models=cards).operations["submit"] for cards in (None, ModelCards(entries))]
    for model in ("seedance-2.0", "seedance-2.0-fast", "seedance-1.5-pro", "sora"):
        for fields in (
            *({"duration": seconds} for seconds in range(18)),
            *({"aspectRatio": ratio} for ratio in ("16:9", "1:1", "4:3", 5)),
            *({"resolution": size} for size in ("480p", "4k", None)),
            {"seed": 1},
        ):
            body = {**BODY, "model": model, **fields}
            found = [submit.body_problem(body) is None for submit in submits]
            assert found[0] is found[1], body


@for_each(
    ("cards", "words"),
    [
        ([], "one or more"),
        (["seedance-2.0"], "JSON objects"),
        ([{}], "id must be text, not None"),
        ([{"id": " "}], "id must be text"),
        ([OLD, OLD], "'seedance-1.5-pro': given twice"),
        ([{**OLD, "durations": ["5"]}], "durations must be a list of whole numbers"),
        ([{**OLD, "durations": [True]}], "durations must be a list of whole numbers"),
        ([{**OLD, "durations": [0]}], "durations must be a list of whole numbers"),
        ([{**OLD, "resolutions": "720p"}], "resolutions must be a list of text, not '720p'"),
        ([{**OLD, "extra": "seed"}], "extra must be names of fields"),
        ([{**OLD, "extra": {"seed": {"type": "whole"}}}], "extra.seed must be a JSON Schema"),
        ([{**OLD, "extra": ["duration"]}], "extra.duration is a documented field"),
        ([{**OLD, "pricing": {"unit": "credits_per_second", "4k": -1}}], "pricing.4k must be"),
    ],
)
def test_a_card_that_is_none_is_refused_by_model_field_and_rule(cards: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Contract(models=ModelCards(cards))


def test_cards_are_found_in_what_the_endpoint_answers_in_a_list_and_alone() -> None:
    for document in ({"success": True, "data": [OLD]}, [OLD], OLD):
        assert cards_in(document) == [OLD]
    for document in (5, "x", [], {"data": 5}, [[OLD]]):
        with pytest.raises(ValueError, match="JSON objects"):
            cards_in(document)


@for_each(
    ("resolution", "ratio", "size"),
    [
        ("4k", "16:9", (3840, 2160)),
        ("1080p", "21:9", (2520, 1080)),
        ("720p", "4:3", (960, 720)),
        ("720p", "3:4", (720, 960)),
        ("481p", "1:1", (480, 480)),
        ("240p", "1000:1", (960, 240)),
        ("large", "adaptive", (1280, 720)),
    ],
)
def test_a_picture_has_the_size_that_is_asked_for(
    resolution: str, ratio: str, size: tuple[int, int]
) -> None:
    assert Picture("", "", resolution, ratio, 5).size == size


async def test_a_video_of_a_new_format_can_be_fetched(start: Start) -> None:
    api = await start(models=CARDS)
    url = await api.output_url(duration=5, aspectRatio="21:9")
    assert (await api.call("GET", url)).body[4:8] == b"ftyp"
