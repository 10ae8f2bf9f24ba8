"""The wire: what is sent, what an answer becomes, and what a failure allows."""

import json
import string
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from seedance_async import (
    APIError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    DownloadError,
    ErrorDetail,
    Generation,
    GenerationMode,
    GenerationRequest,
    GenerationStatus,
    InsufficientCreditsError,
    InvalidRequestError,
    NotFoundError,
    RateLimitError,
    ResponseFormatError,
    SeedanceError,
    ServerError,
    Submission,
    TransportError,
    dump_request,
    load_request,
)
from seedance_async.api.prepared_request import prepare
from seedance_async.api.protocol import (
    MAX_ID,
    WireResponse,
    build_cancel,
    build_create,
    build_get,
    build_models,
    decode_create,
    decode_get,
    decode_models,
)
from seedance_async.api.retry import Verdict, judge_repeatable, judge_submit, stops_submits
from tests.support.for_each import for_each

SAMPLES = Path(__file__).parents[1] / "samples"
ID = "req_1234567890"
GENERATIONS = "/api/open/v1/video/generations"


def sample(name):
    return (SAMPLES / f"{name}.json").read_bytes()


def answer(body, status=200, *, broken=None, **headers):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return WireResponse(status, named, raw, broken)


def error_body(code="some_code", message="some words"):
    return {"success": False, "error": {"code": code, "message": message}}


# --- requests -----------------------------------------------------------------------------------

EXAMPLES = {
    "submit_first_frame": (
        GenerationRequest(
            "A young woman blows out birthday candles, warm indoor lighting, "
            "shallow depth of field",
            media_urls=["https://example.com/photo.jpg"],
            aspect_ratio="16:9",
            duration=5,
            resolution="720p",
        ),
        GenerationMode.FIRST_FRAME,
    ),
    "submit_first_and_last_frame": (
        GenerationRequest(
            "A cinematic transition from sunrise over the ocean to a glowing night skyline",
            media_urls=[
                "https://example.com/first-frame.jpg",
                "https://example.com/last-frame.jpg",
            ],
            aspect_ratio="16:9",
            duration=6,
            resolution="1080p",
        ),
        GenerationMode.FIRST_AND_LAST_FRAME,
    ),
    "submit_multimodal": (
        GenerationRequest(
            "A fashion film with energetic camera motion synced to the beat",
            model="seedance-2.0-fast",
            media_urls=(
                "https://example.com/reference-image.jpg",
                "https://example.com/reference-audio.mp3",
            ),
            aspect_ratio="9:16",
            duration=8,
            resolution="720p",
            webhook_url="https://your-app.com/webhooks/seedance",
        ),
        GenerationMode.MULTIMODAL,
    ),
}


@for_each("name", EXAMPLES)
def test_the_examples_of_the_page_are_built_as_they_stand_there(name):
    request, mode = EXAMPLES[name]
    wire = build_create(prepare(request))
    assert json.loads(wire.body) == json.loads(sample(name))
    assert (wire.method, wire.path, wire.charges) == ("POST", GENERATIONS, True)
    assert request.mode is mode
    assert load_request(json.loads(sample(name))) == request


def test_what_is_absent_is_not_sent_but_the_model_always_is():
    body = json.loads(build_create(prepare(GenerationRequest("a river"))).body)
    assert body == {"model": "seedance-2.0", "prompt": "a river"}


def test_metadata_is_sent_as_it_was_given():
    metadata = {"a": [1, 2.5, None, True, {"mediaUrls": "ü"}], "media_urls": {}}
    body = json.loads(build_create(prepare(GenerationRequest("a river", metadata=metadata))).body)
    assert body["metadata"] == metadata
    assert (
        json.loads(build_create(prepare(GenerationRequest("x", metadata={}))).body)["metadata"]
        == {}
    )


def test_a_subclass_of_a_request_is_sent_with_the_names_of_the_wire():
    class Own(GenerationRequest):
        pass

    request = Own("a river", media_urls=["https://example.com/a.jpg"])
    assert json.loads(build_create(prepare(request)).body)["mediaUrls"] == [
        "https://example.com/a.jpg"
    ]


def test_only_the_submit_is_marked_as_charging():
    assert build_create(prepare(GenerationRequest("a river"))).charges
    for wire in (build_get(ID), build_cancel(ID), build_models()):
        assert not wire.charges
        assert wire.body is None


def test_the_other_calls_have_the_paths_of_the_page():
    told = [(w.method, w.path) for w in (build_get(ID), build_cancel(ID), build_models())]
    assert told == [
        ("GET", f"{GENERATIONS}/{ID}"),
        ("POST", f"{GENERATIONS}/{ID}/cancel"),
        ("GET", "/api/open/v1/models"),
    ]


def test_a_request_that_breaks_a_rule_is_not_built():
    with pytest.raises(InvalidRequestError) as caught:
        prepare(GenerationRequest("", duration=99))
    assert (caught.value.field, caught.value.rule) == ("prompt", "must not be blank")
    assert [v.field for v in caught.value.violations] == ["prompt", "duration"]


@for_each("thing", [None, "a river", {"prompt": "a river"}, 5])
def test_what_is_no_request_is_refused_as_one(thing):
    with pytest.raises(InvalidRequestError, match="must be a GenerationRequest"):
        prepare(thing)


def test_local_urls_are_refused_unless_allowed():
    request = GenerationRequest("a river", media_urls=["http://127.0.0.1/a.jpg"])
    with pytest.raises(InvalidRequestError):
        prepare(request)
    assert b"127.0.0.1" in prepare(request, allow_local=True).body


def test_the_body_of_a_request_is_not_in_its_repr():
    assert "a river" not in repr(build_create(prepare(GenerationRequest("a river"))))


plain_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
requests = st.builds(
    GenerationRequest,
    st.text(min_size=1),
    model=st.sampled_from(["seedance-2.0", "seedance-1.5-pro", "another"]),
    media_urls=st.lists(st.sampled_from(["https://example.com/a.jpg", "https://b.example/c.mp3"])),
    aspect_ratio=st.none() | st.text(),
    duration=st.none() | st.integers(),
    resolution=st.none() | st.text(),
    webhook_url=st.none() | st.text(),
    metadata=st.none() | st.dictionaries(st.text(), plain_json, max_size=3),
)


@given(requests)
def test_a_request_goes_through_plain_json_and_back(request):
    assert load_request(json.loads(json.dumps(dump_request(request)))) == request


def test_a_dumped_request_can_be_changed_without_changing_the_request():
    request = GenerationRequest("a river", metadata={"a": {"b": []}})
    dump_request(request)["metadata"]["a"]["b"].append(1)
    assert request.metadata == {"a": {"b": []}}


def test_fields_are_loaded_by_their_python_names_too_and_null_is_absent():
    python = {"prompt": "a", "media_urls": ["https://example.com/a.jpg"], "webhook_url": None}
    wire = {"prompt": "a", "mediaUrls": ["https://example.com/a.jpg"], "model": None}
    assert load_request(python) == load_request(wire)
    assert load_request({"prompt": "a", "mediaUrls": None}) == GenerationRequest("a")


@for_each(
    ("data", "fields"),
    [
        ({}, ["prompt"]),
        ({"prompt": "a", "seed": 5}, ["seed"]),
        ({"prompt": "a", "mode": "text"}, ["mode"]),
        ({"mediaUrls": [], "media_urls": []}, ["media_urls", "prompt"]),
        ({"prompt": "a", 5: 6}, ["5"]),
        ([1], ["request"]),
        ("a river", ["request"]),
        (None, ["request"]),
    ],
)
def test_data_that_is_no_request_is_refused_with_its_fields(data, fields):
    with pytest.raises(InvalidRequestError) as caught:
        load_request(data)
    assert [v.field for v in caught.value.violations] == fields


def test_a_null_prompt_is_loaded_and_refused_when_it_is_checked():
    with pytest.raises(InvalidRequestError, match="prompt must be text"):
        prepare(load_request({"prompt": None}))


# --- request ids in paths -----------------------------------------------------------------------

HOSTILE_IDS = [
    "a/b",
    "../x",
    "../../models",
    "...",
    "a\\b",
    "%2e%2e",
    "a?b#c",
    "a b",
    "é",
    "😀",
    ";",
]


@given(st.sampled_from(HOSTILE_IDS) | st.text(min_size=1))
@example("x" * MAX_ID)
def test_whatever_the_id_it_stays_one_part_of_the_path(request_id):
    try:
        wire = build_get(request_id)
    except ValueError:
        return
    url = URL("https://api.example" + wire.path, encoded=True)
    assert url.raw_path == wire.path
    assert wire.path.startswith(GENERATIONS + "/")
    part = wire.path.removeprefix(GENERATIONS + "/")
    assert set(part) <= set(string.ascii_letters + string.digits + "-_~%")
    assert (url.raw_query_string, url.raw_fragment) == ("", "")
    assert url.name == request_id
    assert build_cancel(request_id).path == wire.path + "/cancel"


@for_each("request_id", HOSTILE_IDS)
def test_an_odd_id_can_still_be_queried(request_id):
    assert build_get(request_id).path


@for_each(
    "request_id",
    ["", " ", ".", "..", "a\x00b", "a\nb", "\x7f", "\ud800", "\u200b", "x" * 2000, None, 5, b"a"],
)
def test_what_cannot_be_an_id_is_refused(request_id):
    for build in (build_get, build_cancel):
        with pytest.raises(ValueError, match="no request id"):
            build(request_id)


# --- answers ------------------------------------------------------------------------------------


def test_the_answers_of_the_page_are_understood():
    assert decode_create(answer(sample("answer_submit"))) == Submission(
        ID, GenerationStatus.QUEUED, 64
    )
    assert decode_get(answer(sample("answer_query")), ID) == Generation(
        request_id=ID,
        status=GenerationStatus.SUCCEEDED,
        model="seedance-2.0",
        prompt=EXAMPLES["submit_first_frame"][0].prompt,
        duration=5,
        aspect_ratio="16:9",
        output_url=f"https://pub-your-bucket.r2.dev/open-api-results/{ID}.mp4",
        output_type="video",
    )
    assert decode_get(answer(sample("answer_cancel")), ID) == Generation(
        ID, GenerationStatus.CANCELLED
    )


def test_the_error_of_the_page_is_understood():
    with pytest.raises(AuthenticationError) as caught:
        decode_get(answer(sample("answer_unauthorized"), 401), ID)
    error = caught.value
    assert (error.status, error.code, error.message) == (401, "unauthorized", "Invalid API key")
    assert error.retry_after is None


@for_each(
    ("told", "credits"),
    [
        (64, 64),
        (0, 0),
        (64.0, 64),
        (64.5, None),
        (-1, None),
        (True, None),
        ("64", None),
        (None, None),
        ([], None),
        (float("nan"), None),
        (float("inf"), None),
    ],
)
def test_a_charge_that_makes_no_sense_is_unknown_but_the_job_is_accepted(told, credits):
    body = {"requestId": ID, "status": "queued", "creditsCharged": told}
    assert decode_create(answer(body)) == Submission(ID, GenerationStatus.QUEUED, credits)


def test_a_submit_answered_without_a_status_or_charge_is_accepted():
    assert decode_create(answer({"requestId": ID})) == Submission(ID, GenerationStatus.QUEUED)
    body = {"requestId": ID, "status": 5}
    assert decode_create(answer(body, 202)).status is GenerationStatus.QUEUED


@for_each(
    "request_id",
    [None, "", " ", 5, 5.0, True, [ID], {"id": ID}, "a\x00b", "x" * 2000, "..", "\ud800"],
)
def test_a_submit_answered_without_a_usable_id_is_no_answer(request_id):
    with pytest.raises(ResponseFormatError, match="is no acceptance") as caught:
        decode_create(answer({"success": True, "requestId": request_id}))
    assert caught.value.delivered == "maybe"
    assert len(str(caught.value)) < 300


@for_each(
    "body", [b"", b"null", b"[]", b'"req_1"', b"<html>", b"\xff\xfe", b"{", b"{}", b"[" * 10**5]
)
def test_an_answer_that_is_not_the_apis_is_reported_as_such(body):
    for decode in (
        decode_create,
        decode_models,
        lambda response: decode_get(response, ID),
    ):
        with pytest.raises(ResponseFormatError) as caught:
            decode(answer(body))
        assert caught.value.status == 200
        assert caught.value.snippet == body[:512].decode("utf-8", "replace")


gaps = st.text(" \t\r\n\f\xa0}0,", max_size=3)


@given(gaps, gaps, st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"]))
@example("", "\n", "utf-8")
@example("", "{}", "utf-8")
@example("", "\xa0", "utf-8")
def test_whatever_stands_around_an_answer_it_is_read_as_json_is(before, after, encoding):
    body = f'{before}{{"requestId": "{ID}", "status": "queued"}}{after}'.encode(encoding)
    try:
        json.loads(body)
    except ValueError:
        with pytest.raises(ResponseFormatError, match="not JSON"):
            decode_get(answer(body), ID)
    else:
        assert decode_get(answer(body), ID).status == "queued"


def test_a_query_answered_about_another_job_is_refused():
    with pytest.raises(ResponseFormatError, match="another job, 'req_2'"):
        decode_get(answer({"requestId": "req_2", "status": "succeeded"}), ID)
    assert decode_get(answer({"status": "queued"}), ID).request_id == ID


@for_each("status", [None, 5, [], {}])
def test_a_query_answered_without_a_status_is_refused(status):
    with pytest.raises(ResponseFormatError, match="no status"):
        decode_get(answer({"requestId": ID, "status": status}), ID)


def test_an_unknown_status_survives():
    generation = decode_get(answer({"status": "moderating"}), ID)
    assert generation.status == "moderating"
    assert not generation.status.is_terminal


def test_fields_of_a_wrong_type_are_dropped():
    body = {"status": "succeeded", "model": 5, "prompt": [], "duration": "5", "aspectRatio": 1.5}
    for output in (None, [], "url", {"url": 5}, {"url": ""}, {}):
        assert decode_get(answer({**body, "output": output}), ID) == Generation(
            ID, GenerationStatus.SUCCEEDED
        )


@for_each(
    ("told", "detail"),
    [
        (None, None),
        ("moderated", ErrorDetail("moderated")),
        ({"code": "x", "message": "moderated"}, ErrorDetail("moderated", "x")),
        ({"message": "moderated", "code": 5}, ErrorDetail("moderated")),
        ({"reason": "r"}, ErrorDetail('{"reason": "r"}')),
        (["r"], ErrorDetail('["r"]')),
        (False, ErrorDetail("false")),
    ],
)
def test_the_reason_of_a_failure_is_reported_in_any_shape(told, detail):
    assert decode_get(answer({"status": "failed", "error": told}), ID).error == detail


def test_the_models_are_read_leniently_and_kept_raw():
    entry = {
        "id": "seedance-2.0",
        "durations": [4, 15, "x"],
        "aspectRatios": ["16:9", 5],
        "resolutions": "720p",
        "pricing": {"720p": 8},
        "more": 1,
    }
    data = [entry, {"model": "m", "id": 5}, {"name": "n"}, {}, "no entry"]
    infos = decode_models(answer({"success": True, "data": data}))
    assert [info.id for info in infos] == ["seedance-2.0", "m", "n", None]
    first = infos[0]
    assert (first.durations, first.aspect_ratios, first.resolutions) == ((4, 15), ("16:9",), ())
    assert (first.pricing, first.raw) == ({"720p": 8}, entry)


@for_each("data", [None, {}, "x", 5])
def test_an_answer_without_a_list_of_models_is_refused(data):
    with pytest.raises(ResponseFormatError, match="list of models"):
        decode_models(answer({"success": True, "data": data}))


# --- errors by status ---------------------------------------------------------------------------


@for_each(
    ("status", "kind"),
    [
        (400, BadRequestError),
        (401, AuthenticationError),
        (402, InsufficientCreditsError),
        (403, AuthenticationError),
        (404, NotFoundError),
        (409, ConflictError),
        (413, APIError),
        (422, BadRequestError),
        (429, RateLimitError),
        (500, ServerError),
        (502, ServerError),
        (503, ServerError),
        (599, ServerError),
    ],
)
@for_each("decode", [decode_create, decode_models, lambda response: decode_get(response, ID)])
def test_each_status_becomes_its_error(decode, status, kind):
    with pytest.raises(APIError) as caught:
        decode(answer(error_body("some_code", "some words"), status, retry_after="7"))
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.code, error.message) == (status, "some_code", "some words")
    assert error.retry_after == 7


@for_each("status", [100, 199, 300, 301, 302, 304, 307, 308, 399])
def test_what_is_no_2xx_and_no_error_is_no_usable_answer(status):
    with pytest.raises(ResponseFormatError) as caught:
        decode_create(answer(sample("answer_submit"), status))
    assert caught.value.status == status


@for_each(
    "body",
    [
        b"<html>Bad Gateway</html>",
        b"{",
        b"[]",
        b"[" * 10**5,
        b'{"success": false, "error": "down"}',
        b'{"success": false, "error": {"code": 503}}',
        b'{"error": {"code": "unavailable", "message": "a gateway is speaking"}}',
    ],
)
def test_a_body_that_is_not_the_apis_error_shape_gives_no_code_but_its_beginning(body):
    with pytest.raises(ServerError) as caught:
        decode_create(answer(body, 502))
    assert caught.value.code is None
    assert caught.value.message == body[:512].decode()


def test_an_error_without_words_shows_its_body():
    body = {"success": False, "error": {"code": "x"}}
    with pytest.raises(BadRequestError) as caught:
        decode_create(answer(body, 400))
    assert caught.value.code == "x"
    assert caught.value.message == json.dumps(body)


def test_what_a_server_says_is_bounded():
    with pytest.raises(BadRequestError) as caught:
        decode_create(answer(error_body("c" * 10**5, "m" * 10**5), 400))
    assert len(str(caught.value)) < 1100
    with pytest.raises(BadRequestError) as caught:
        decode_create(answer(error_body("c", ["m" * 10**5]), 400))
    assert len(str(caught.value)) < 600
    failed = {"status": "failed", "error": ["m" * 10**5]}
    assert len(decode_get(answer(failed), ID).error.message) <= 512


def test_a_date_in_retry_after_is_read_against_the_answers_own_date():
    headers = {
        "retry_after": "Tue, 14 Nov 2023 22:15:00 GMT",
        "date": "Tue, 14 Nov 2023 22:14:00 GMT",
    }
    with pytest.raises(RateLimitError) as caught:
        decode_create(answer(error_body(), 429, **headers))
    assert caught.value.retry_after == 60


json_bodies = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(
                [
                    "success",
                    "requestId",
                    "status",
                    "error",
                    "code",
                    "message",
                    "output",
                    "url",
                    "data",
                ]
            ),
            inner,
        )
    ),
    max_leaves=12,
).map(lambda data: json.dumps(data).encode())
headers = st.dictionaries(
    st.sampled_from(["retry-after", "date", "content-type"]), st.text() | st.just("5")
)


@given(
    st.integers(-1, 1000) | st.sampled_from([200, 404, 503]),
    headers,
    st.binary() | json_bodies | st.integers(900, 1000).map(lambda n: b"[" * n + b"]" * n),
    st.none() | st.just("it was cut"),
)
def test_no_answer_however_odd_raises_anything_but_the_documented_errors(
    status, named, body, broken
):
    response = WireResponse(status, named, body, broken)
    for decode in (
        decode_create,
        decode_models,
        lambda response: decode_get(response, ID),
    ):
        try:
            decode(response)
        except SeedanceError as error:
            assert isinstance(error, (APIError, ResponseFormatError))  # noqa: PT017


@for_each("place", ['{"requestId":%s}', '{"success":false,"error":{"code":"x","message":%s}}'])
@for_each("status", [200, 400])
def test_nesting_just_below_what_can_be_parsed_does_no_harm(place, status):
    for levels in range(100, 1100, 25):
        body = place % ("[" * levels + "]" * levels)
        with pytest.raises(SeedanceError):
            decode_create(answer(body.encode(), status))


def test_nesting_just_below_what_can_be_parsed_does_no_harm_in_a_failed_job():
    for levels in range(100, 1100, 25):
        body = '{"status":"failed","error":[%s]}' % ("[" * levels + "]" * levels)
        try:
            assert decode_get(answer(body.encode()), ID).error.message
        except ResponseFormatError:
            assert levels > 900


# --- answers that are cut short -----------------------------------------------------------------


def cut(body, at, broken):
    return WireResponse(200, {}, body[:at], "the connection broke" if broken else None)


members = st.fixed_dictionaries(
    {
        "requestId": st.text(min_size=1, max_size=20).filter(str.strip)
        | st.sampled_from(["req_1", 'a"b', "a\\", "\\u0041", "{", "😀é", "a,b}"]),
        "creditsCharged": st.integers(0, 10**6)
        | st.floats(0, 1e6)
        | st.sampled_from([64.0, 1e22, 5e-324]),
        "status": st.sampled_from(["queued", "processing", "Queued "]),
    },
    optional={
        "success": st.just(True),
        "metadata": st.dictionaries(
            st.sampled_from(["requestId", "creditsCharged", "a"]),
            plain_json | st.just({"requestId": "req_wrong", "creditsCharged": 1}),
            max_size=3,
        ),
        "message": st.sampled_from(['"requestId": "req_wrong"', '{"requestId":"req_wrong"', "\\"]),
        "prompt": st.text(),
        "list": st.lists(st.just({"requestId": "req_wrong"}), max_size=2),
    },
)


@st.composite
def written(draw):
    """(members, bytes): an answer in some order, some spacing, escaped or not."""
    data = draw(members)
    order = draw(st.permutations(list(data)))
    data = {name: data[name] for name in order}
    gap = st.sampled_from(["", " ", "\n  ", "\t\r\n"])
    text = json.dumps(
        data,
        ensure_ascii=draw(st.booleans()),
        indent=draw(st.sampled_from([None, 0, 2])),
        separators=(draw(gap) + "," + draw(gap), draw(gap) + ":" + draw(gap)),
    )
    return data, (draw(gap) + text + draw(gap)).encode("utf-8", "surrogatepass")


def expected_credits(value):
    return int(value) if value == int(value) else None


@given(written(), st.booleans())
def test_a_cut_answer_gives_the_true_id_or_none_at_every_position(case, broken):
    data, body = case
    for at in range(len(body) + 1):
        try:
            submission = decode_create(cut(body, at, broken))
        except ResponseFormatError:
            continue
        assert submission.request_id == data["requestId"]
        assert submission.credits_charged in (None, expected_credits(data["creditsCharged"]))
        assert submission.status in ("queued", "processing")


@for_each("broken", [True, False])
def test_the_id_of_the_pages_answer_is_found_as_soon_as_it_is_whole(broken):
    body = sample("answer_submit")
    whole = body.index(ID.encode()) + len(ID) + 1
    found = {}
    for at in range(len(body)):
        try:
            found[at] = decode_create(cut(body, at, broken))
        except ResponseFormatError:
            assert at < whole
    assert min(found) == whole
    assert {s.request_id for s in found.values()} == {ID}
    charged = body.index(b"64") + 2
    assert {at for at, s in found.items() if s.credits_charged == 64} == {
        at for at in found if at > charged + 1
    }


def test_a_number_that_is_cut_is_not_taken_for_a_smaller_one():
    body = b'{"requestId":"req_1","creditsCharged":6400}'
    for at in range(body.index(b"6400"), len(body)):
        assert decode_create(cut(body, at, True)).credits_charged is None
    assert decode_create(cut(body, len(body), True)).credits_charged == 6400


def test_an_id_with_broken_bytes_in_it_is_not_mended_to_another_one():
    for bad in (b"\xff", b"\xc3", b"\xf0\x9f\x98"):
        body = b'{"requestId":"req_' + bad + b'12","status":"queued"}'
        with pytest.raises(ResponseFormatError):
            decode_create(answer(body))
        assert decode_create(answer(b'{"requestId":"req_1","prompt":"' + bad + b'"'))


def test_an_id_before_a_cut_in_the_middle_of_a_character_is_found():
    body = '{"requestId":"req_1","prompt":"😀'.encode()
    for less in range(5):
        assert decode_create(answer(body[: len(body) - less])).request_id == "req_1"


def test_a_byte_order_mark_does_not_hide_the_id():
    mark = b"\xef\xbb\xbf"
    whole = b'{"requestId":"req_1","status":"queued"}'
    assert decode_create(answer(mark + whole)).request_id == "req_1"
    assert decode_create(answer(mark + whole[:-5])).request_id == "req_1"
    broken = mark + b'{"requestId":"req_1","prompt":"' + "é".encode() + b"\xff"
    assert decode_create(answer(broken)).request_id == "req_1"


@for_each(
    "body",
    [
        b'{"metadata":{"requestId":"req_wrong"',
        b'{"metadata":{"requestId":"req_wrong"},',
        b'[{"requestId":"req_wrong"}',
        b'"requestId":"req_wrong"',
        b'{"a":"\\"requestId\\":\\"req_wrong\\""',
        b'{"a" "requestId":"req_wrong"',
        b'{5:6,"requestId":"req_wrong"',
        b'{"a":1 "requestId":"req_wrong"',
        b'{,"requestId":"req_wrong"',
        b'{"requestId":"req_wro',
        b'{"requestId":"req_wrong\\',
        b'{"requestId":12345',
        b'{"a":' + b"[" * 10**5,
    ],
)
def test_no_id_is_guessed_from_what_is_not_a_member_of_the_answer(body):
    with pytest.raises(ResponseFormatError) as caught:
        decode_create(answer(body, broken="the connection broke"))
    assert "the connection broke" in str(caught.value)


def test_a_cut_answer_to_a_query_is_not_salvaged():
    """It can be asked again, and half an answer may lack the output."""
    with pytest.raises(ResponseFormatError, match="incomplete: it was cut"):
        decode_get(answer(sample("answer_query"), broken="it was cut"), ID)


# --- what a failure allows ----------------------------------------------------------------------

RETRY, THROTTLED = Verdict.RETRY, Verdict.THROTTLED
REFUSED, UNCERTAIN = Verdict.REFUSED, Verdict.UNCERTAIN


def failure_of(status, body=None, decode=decode_create, **headers):
    with pytest.raises(SeedanceError) as caught:
        decode(answer(error_body() if body is None else body, status, **headers))
    return caught.value


SUBMIT_TABLE = [
    *((status, {}, REFUSED) for status in (400, 401, 402, 403, 404, 405, 410, 413, 415, 422, 451)),
    (429, {}, THROTTLED),
    (429, {"retry_after": "5"}, THROTTLED),
    *((status, {}, UNCERTAIN) for status in (408, 409, 425, 499, 418, 423, 424, 444, 460)),
    *((status, {}, UNCERTAIN) for status in (500, 501, 502, 503, 504, 520, 599, 700)),
    *((status, {}, UNCERTAIN) for status in (100, 300, 301, 302, 303, 304, 307, 308)),
    *((status, {"retry_after": "5"}, UNCERTAIN) for status in (500, 502, 504, 408, 409)),
    (503, {"retry_after": "5"}, THROTTLED),
    (503, {"retry_after": "0"}, THROTTLED),
    (503, {"retry_after": "soon"}, UNCERTAIN),
    (200, {}, UNCERTAIN),
    (204, {}, UNCERTAIN),
]


@for_each(("status", "headers", "verdict"), SUBMIT_TABLE)
def test_what_a_submit_answered_with_a_status_allows(status, headers, verdict):
    assert judge_submit(failure_of(status, **headers)) is verdict


@for_each(
    "body",
    [
        b"",
        b"Service Unavailable",
        b'{"success": false',
        b'{"error": {"code": "overloaded", "message": "from a gateway"}}',
        b'{"success": false, "error": {"code": 503}}',
    ],
)
def test_a_503_with_retry_after_but_not_in_the_apis_words_is_uncertain(body):
    """A gateway may say so after the API has taken the job."""
    assert judge_submit(failure_of(503, body, retry_after="5")) is UNCERTAIN


def test_a_429_is_throttled_whoever_says_it():
    assert judge_submit(failure_of(429, b"<html>")) is THROTTLED


@for_each(
    ("error", "submit", "repeatable"),
    [
        (TransportError("x", delivered="no"), RETRY, RETRY),
        (TransportError("x", delivered="no", transient=False), REFUSED, REFUSED),
        (TransportError("x", delivered="maybe"), UNCERTAIN, RETRY),
        (TransportError("x", delivered="maybe", transient=False), UNCERTAIN, REFUSED),
        (ResponseFormatError("x", status=200), UNCERTAIN, RETRY),
        (SeedanceError("x"), UNCERTAIN, REFUSED),
        (DownloadError("x", request_id="r", path=Path("a")), UNCERTAIN, REFUSED),
    ],
)
def test_what_a_failure_without_an_answer_allows(error, submit, repeatable):
    assert judge_submit(error) is submit
    assert judge_repeatable(error) is repeatable


@for_each(
    ("status", "verdict"),
    [
        *((status, REFUSED) for status in (400, 401, 402, 403, 404, 409, 410, 422)),
        *((status, RETRY) for status in (408, 425, 500, 502, 503, 504, 599, 301, 200)),
        (429, THROTTLED),
    ],
)
def test_what_a_query_answered_with_a_status_allows(status, verdict):
    body = b"<html>" if status == 200 else None
    error = failure_of(status, body, lambda response: decode_get(response, ID))
    assert judge_repeatable(error) is verdict


@given(st.integers(400, 1000), st.booleans(), st.booleans())
def test_a_submit_is_sent_again_after_an_answer_only_for_429_and_the_apis_own_503(
    status, in_its_words, with_wait
):
    body = error_body() if in_its_words else b"<html>"
    error = failure_of(status, body, **({"retry_after": "5"} if with_wait else {}))
    again = judge_submit(error) in (RETRY, THROTTLED)
    assert again is (status == 429 or (status == 503 and in_its_words and with_wait))


@for_each(
    ("status", "code", "stops"),
    [
        (401, "unauthorized", True),
        (401, "expired", True),
        (402, "credits", True),
        (403, "unauthorized", True),
        (403, "moderated", False),
        (429, "slow", False),
        (500, "unauthorized", False),
    ],
)
def test_a_refusal_stops_all_submits_only_where_it_concerns_all(status, code, stops):
    assert stops_submits(failure_of(status, error_body(code))) is stops
    assert not stops_submits(TransportError("x", delivered="no"))
