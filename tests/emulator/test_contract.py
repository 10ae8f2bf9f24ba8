"""The contract: the document is valid, agrees with the vendor's pages, and is enforced."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openapi_spec_validator import validate

from seedance_async.emulator.contract import Contract, load_document
from tests.support.for_each import for_each

from .conftest import BODY, Api, Start

CONTRACT = Contract(allow_http=False)
SUBMIT = CONTRACT.operations["submit"]

FIRST_FRAME = """{
"model": "seedance-2.0",
"prompt": "A young woman blows out birthday candles, warm indoor lighting, shallow depth of field",
"mediaUrls": [
"https://example.com/photo.jpg"
],
"aspectRatio": "16:9",
"duration": 5,
"resolution": "720p"
}"""
FIRST_AND_LAST = """{
"model": "seedance-2.0",
"prompt": "A cinematic transition from sunrise over the ocean to a glowing night skyline",
"mediaUrls": [
"https://example.com/first-frame.jpg",
"https://example.com/last-frame.jpg"
],
"aspectRatio": "16:9",
"duration": 6,
"resolution": "1080p"
}"""
MULTIMODAL = """{
"model": "seedance-2.0-fast",
"prompt": "A fashion film with energetic camera motion synced to the beat",
"mediaUrls": [
"https://example.com/reference-image.jpg",
"https://example.com/reference-audio.mp3"
],
"aspectRatio": "9:16",
"duration": 8,
"resolution": "720p",
"webhookUrl": "https://your-app.com/webhooks/seedance"
}"""
PAGE_BODIES = [FIRST_FRAME, FIRST_AND_LAST, MULTIMODAL]

SUBMITTED = {
    "success": True,
    "requestId": "req_1234567890",
    "status": "queued",
    "creditsCharged": 64,
}
QUERIED = {
    "success": True,
    "requestId": "req_1234567890",
    "status": "succeeded",
    "model": "seedance-2.0",
    "prompt": "A young woman blows out birthday candles, warm indoor lighting",
    "duration": 5,
    "aspectRatio": "16:9",
    "output": {
        "type": "video",
        "url": "https://pub-your-bucket.r2.dev/open-api-results/req_1234567890.mp4",
    },
    "error": None,
}
CANCELLED = {"success": True, "requestId": "req_1234567890", "status": "cancelled"}
UNAUTHORIZED = {"success": False, "error": {"code": "unauthorized", "message": "Invalid API key"}}


def test_the_document_is_valid_openapi() -> None:
    validate(load_document())


def test_the_examples_of_the_document_match_its_schemas() -> None:
    seen = 0
    for node in _nodes(load_document()):
        if isinstance(node, dict) and "examples" in node and "schema" in node:
            schema = CONTRACT.schema(node["schema"]["$ref"].rsplit("/", 1)[1])
            for name, example in node["examples"].items():
                assert schema.is_valid(example["value"]), name
                seen += 1
    assert seen == 7


def _nodes(node: Any) -> Any:
    yield node
    for child in (
        node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    ):
        yield from _nodes(child)


async def test_every_curl_example_of_the_page_is_accepted(api: Api) -> None:
    for text in PAGE_BODIES:
        reply = await api.post(text)
        assert reply.status == 200, text
        assert set(reply.data) == set(SUBMITTED)
        assert reply.data["status"] == "queued"


def test_every_response_on_the_page_matches_its_schema() -> None:
    for name, example in (
        ("Submission", SUBMITTED),
        ("Generation", QUERIED),
        ("Cancellation", CANCELLED),
        ("Error", UNAUTHORIZED),
    ):
        schema = CONTRACT.schema(name)
        assert schema.is_valid(example), name
        assert not schema.is_valid({**example, "success": not example["success"]}), name


def test_only_a_succeeded_job_has_an_output() -> None:
    schema = CONTRACT.schema("Generation")
    assert not schema.is_valid({**QUERIED, "status": "processing"})
    assert not schema.is_valid({**QUERIED, "output": None})
    assert schema.is_valid({**QUERIED, "status": "failed", "output": None})


BROKEN = [
    ("model", "sora-2"),
    ("model", None),
    ("prompt", ""),
    ("prompt", " \n\t "),
    ("prompt", 7),
    ("mediaUrls", []),
    ("mediaUrls", [f"https://example.com/{n}.jpg" for n in range(6)]),
    ("mediaUrls", "https://example.com/a.jpg"),
    ("mediaUrls[0]", ["http://example.com/a.jpg"]),
    ("mediaUrls[1]", ["https://example.com/a.jpg", "file:///etc/passwd"]),
    ("mediaUrls[0]", ["https://user:secret@example.com/a.jpg"]),
    ("mediaUrls[0]", ["https://"]),
    ("mediaUrls[0]", ["https://example.com/a b.jpg"]),
    ("aspectRatio", "4:3"),
    ("duration", 3),
    ("duration", 16),
    ("duration", 5.5),
    ("duration", "5"),
    ("duration", True),
    ("resolution", "4k"),
    ("webhookUrl", "ftp://example.com/hook"),
    ("webhookUrl", "not a url"),
    ("metadata", ["a"]),
    ("metadata", "a"),
    ("metadata", None),
    ("duration", None),
    ("mediaUrls", None),
]


async def test_a_broken_rule_is_a_400_that_names_the_field(api: Api) -> None:
    for field, value in BROKEN:
        reply = await api.submit(**{field.partition("[")[0]: value})
        assert reply.status == 400, (field, value)
        assert reply.error["code"] == "invalid_request"
        assert reply.error["message"].startswith(f"{field}: "), (field, value)
        assert api.emulator.ledger[-1].outcome == "invalid"
        assert api.emulator.ledger[-1].code == "invalid_request"


async def test_a_missing_field_is_a_400_that_names_it(api: Api) -> None:
    for missing in BODY:
        body = {name: value for name, value in BODY.items() if name != missing}
        reply = await api.post(json.dumps(body))
        assert reply.status == 400
        assert missing in reply.error["message"]


def test_the_durations_depend_on_the_model() -> None:
    for model, allowed in (
        ("seedance-2.0", set(range(4, 16))),
        ("seedance-2.0-fast", set(range(4, 16))),
        ("seedance-1.5-pro", {5, 10}),
    ):
        passed = {
            seconds
            for seconds in range(-1, 30)
            if SUBMIT.body_problem({**BODY, "model": model, "duration": seconds}) is None
        }
        assert passed == allowed, model


async def test_an_unlisted_field_is_refused_by_name_unless_the_options_ignore_it(
    start: Start,
) -> None:
    strict, lenient = await start(), await start(unknown_fields="ignored")
    reply = await strict.submit(aspect_ratio="16:9")
    assert reply.status == 400
    assert "aspect_ratio" in reply.error["message"]
    assert (await lenient.submit(aspect_ratio="16:9")).status == 200


def test_one_to_five_media_urls_pass() -> None:
    urls = [f"https://example.com/{number}.jpg?w=1#x" for number in range(6)]
    for count in range(7):
        problem = SUBMIT.body_problem({**BODY, "mediaUrls": urls[:count]})
        assert (problem is None) == (1 <= count <= 5), count


@for_each(
    ("url", "strict", "loopback", "anything"),
    [
        ("https://example.com/a.jpg", True, True, True),
        ("http://127.0.0.1:8000/a.jpg", False, True, True),
        ("http://localhost/a.jpg", False, True, True),
        ("http://[::1]:80/a.jpg", False, True, True),
        ("http://localhost.example.com/a.jpg", False, False, True),
        ("http://127.0.0.1.example.com/a.jpg", False, False, True),
        ("http://example.com/a.jpg", False, False, True),
        ("http://127.0.0.1@example.com/a.jpg", False, False, False),
    ],
)
def test_http_media_urls_pass_for_loopback_hosts_only_unless_the_options_differ(
    url: str, strict: bool, loopback: bool, anything: bool
) -> None:
    body = {**BODY, "mediaUrls": [url]}
    passed = [
        Contract(allow).operations["submit"].body_problem(body) is None
        for allow in (False, "loopback", True)
    ]
    assert passed == [strict, loopback, anything]


def test_the_shipped_document_itself_says_https_only() -> None:
    Contract(allow_http=True)
    assert load_document()["components"]["schemas"]["MediaUrl"]["pattern"].startswith("^https:")


def test_a_very_long_value_is_not_repeated_in_full_in_the_message() -> None:
    problem = SUBMIT.body_problem({**BODY, "aspectRatio": "x" * 100_000})
    assert problem is not None
    assert problem.startswith("aspectRatio: ")
    assert len(problem) < 400


@pytest.mark.parametrize("path", load_document()["paths"])
async def test_each_path_allows_the_documented_methods_and_no_others(api: Api, path: str) -> None:
    documented = {method.upper() for method in load_document()["paths"][path]} - {"PARAMETERS"}
    url = path.replace("{requestId}", await api.succeeded())
    for method in ("GET", "POST", "PUT", "DELETE", "PATCH"):
        reply = await api.call(method, url)
        assert (reply.status == 405) == (method not in documented), method
        if reply.status == 405:
            assert reply.headers["Allow"] == ", ".join(sorted(documented))
            assert reply.error["code"] == "method_not_allowed"
        else:
            assert "No such endpoint" not in reply.body.decode()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from(["seedance-2.0", "seedance-1.5-pro"]) | JSON,
        "prompt": st.text() | JSON,
        "mediaUrls": st.lists(st.text()) | JSON,
        "duration": st.integers() | JSON,
        "metadata": JSON,
    },
)


@settings(max_examples=150, deadline=None)
@given(body=BODIES | JSON)
def test_the_contract_validates_any_json_without_an_exception(body: Any) -> None:
    problem = SUBMIT.body_problem(body)
    if problem is None:
        assert body["prompt"].strip()
        assert 4 <= body.get("duration", 5) <= 15
        json.dumps(body)
    else:
        assert ": " in problem


def test_text_that_utf8_cannot_encode_is_a_problem_and_not_a_crash() -> None:
    assert SUBMIT.body_problem({**BODY, "prompt": "\ud800"}) is not None
    assert CONTRACT.operations["poll"].parameter_problem("requestId", "x" * 513) is not None
    assert CONTRACT.operations["poll"].parameter_problem("requestId", "req_1") is None
    assert CONTRACT.operations["poll"].parameter_problem("unheard-of", "") is None
