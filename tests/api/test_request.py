"""The documented rules of a request, and the values that the API's answers become."""

import collections
import contextlib
import copy
import itertools
import json
import pickle
import re
import types
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedance_async import (
    Generation,
    GenerationMode,
    GenerationRequest,
    GenerationStatus,
    InvalidRequestError,
    Model,
    Violation,
)
from seedance_async._utils.urls import is_local_host, redact_url
from seedance_async.api.models import ModelInfo
from seedance_async.api.prepared_request import prepare
from seedance_async.api.vocabulary import DURATIONS, MAX_MEDIA
from seedance_async.jobs.job import JobToken
from tests.support.for_each import for_each

PHOTO = "https://example.com/photo.jpg"


def broken(**fields):
    """(field, rule) of each violation of an otherwise good request."""
    allow_local = fields.pop("allow_local", False)
    request = GenerationRequest(fields.pop("prompt", "a river"), **fields)
    return [(v.field, v.rule) for v in request.violations(allow_local=allow_local)]


# --- text, choices and durations ----------------------------------------------------------------


def test_a_request_of_a_prompt_alone_is_sound_and_takes_the_best_model():
    request = GenerationRequest("a river")
    assert request.violations() == []
    assert request.model == "seedance-2.0"


@for_each("field", ["prompt", "model"])
@for_each(
    ("value", "rule"),
    [
        ("", "must not be blank"),
        (" \n\t", "must not be blank"),
        (None, "must be text"),
        (5, "must be text"),
        (b"a river", "must be text"),
        ("a \ud800 river", "must be valid Unicode, without lone surrogates"),
    ],
)
def test_prompt_and_model_must_be_text_with_something_in_it(field, value, rule):
    assert broken(**{field: value}) == [(field, rule)]


def test_a_violation_names_field_value_and_rule():
    (violation,) = GenerationRequest("a river", duration=3).violations()
    assert violation == Violation("duration", 3, "must be 4 to 15 seconds for seedance-2.0")


def test_every_broken_rule_is_reported_and_not_only_the_first():
    fields = {
        "prompt": "",
        "duration": 99,
        "aspect_ratio": "4:3",
        "resolution": "4k",
        "media_urls": ["x"],
    }
    told = [field for field, _ in broken(**fields)]
    assert told == ["prompt", "media_urls[0]", "aspect_ratio", "resolution", "duration"]


@for_each(
    ("model", "allowed"),
    [
        ("seedance-2.0", range(4, 16)),
        ("seedance-2.0-fast", range(4, 16)),
        ("seedance-1.5-pro", (5, 10)),
    ],
)
def test_a_documented_model_takes_exactly_its_documented_durations(model, allowed):
    taken = [seconds for seconds in range(1, 40) if not broken(model=model, duration=seconds)]
    assert taken == list(allowed)


def test_the_rule_of_a_duration_names_the_model_and_what_it_takes():
    (told,) = broken(model=Model.SEEDANCE_1_5_PRO, duration=7)
    assert told == ("duration", "must be 5 or 10 seconds for seedance-1.5-pro")


@for_each("value", [0, -5, True, 5.0, "5", float("nan"), [], 10**5000])
@for_each("model", ["seedance-2.0", "another-model"])
def test_a_duration_is_a_whole_number_above_zero_for_any_model(model, value):
    rule = "must be a whole number of seconds above zero"
    assert broken(model=model, duration=value) == [("duration", rule)]


def test_the_choices_are_those_of_the_page():
    for ratio in ("16:9", "9:16", "1:1"):
        assert broken(aspect_ratio=ratio) == []
    for resolution in ("480p", "720p", "1080p"):
        assert broken(resolution=resolution) == []
    assert broken(aspect_ratio="4:3") == [("aspect_ratio", "must be one of 16:9, 9:16, 1:1")]
    assert broken(resolution="720P") == [("resolution", "must be one of 480p, 720p, 1080p")]
    assert broken(aspect_ratio=16) == [("aspect_ratio", "must be text")]


def test_what_an_unknown_model_can_do_is_not_judged():
    fields = {"duration": 60, "aspect_ratio": "21:9", "resolution": "8k"}
    assert broken(model="seedance-3.0", **fields) == []
    assert broken(model="seedance-3.0", duration=0, aspect_ratio=3) != []


def test_every_documented_model_has_durations():
    assert set(DURATIONS) == set(Model)


# --- media and webhook URLs ---------------------------------------------------------------------


def test_one_to_five_media_urls_are_taken_and_none_is_text_to_video():
    for count in range(MAX_MEDIA + 1):
        assert broken(media_urls=[PHOTO] * count) == []
    assert broken(media_urls=None) == []
    assert broken(media_urls=[PHOTO] * 6) == [("media_urls", "must have at most 5 URLs")]


@for_each(
    "value",
    [PHOTO, {PHOTO}, frozenset({PHOTO}), {PHOTO: 1}, 5, iter([PHOTO])],
)
def test_media_urls_must_be_a_list_or_tuple(value):
    """A set has no order, and the order decides which image is the first frame."""
    assert broken(media_urls=value) == [("media_urls", "must be a list or a tuple of URLs")]


PUBLIC = "must be a public https:// URL"
NOT_LOCAL = "must be public, not a loopback, private or link-local host"
SPACE = "must not contain white space or control characters"
URL_RULES = [
    ("http://example.com/a.jpg", PUBLIC),
    ("ftp://example.com/a.jpg", PUBLIC),
    ("file:///etc/passwd", PUBLIC),
    ("data:image/png;base64,AAAA", PUBLIC),
    ("//example.com/a.jpg", PUBLIC),
    ("", PUBLIC),
    ("https:///a.jpg", "must name a host"),
    ("https://", "must name a host"),
    ("https://./a.jpg", "must name a host"),
    ("https://user@example.com/a.jpg", "must not contain a user name or a password"),
    ("https://user:pw@example.com/a.jpg", "must not contain a user name or a password"),
    ("https://@example.com/a.jpg", "must not contain a user name or a password"),
    ("https://example.com/a b.jpg", SPACE),
    ("https://example.com/a\n.jpg", SPACE),
    (" https://example.com/a.jpg", SPACE),
    ("https://example.com/\x00", SPACE),
    ("https://example.com/\x7f", SPACE),
    ("https://example.com/\u00a0", SPACE),
    ("https://example.com/\ud800", "must be valid Unicode, without lone surrogates"),
    ("https://127.0.0.1\\.example.com/a.jpg", "must not contain a backslash"),
    ("https://example.com:99999/a.jpg", "must be a valid URL"),
    ("https://example.com:port/a.jpg", "must be a valid URL"),
    ("https://[::1/a.jpg", "must be a valid URL"),
    (5, "must be text"),
    ("https://localhost/a.jpg", NOT_LOCAL),
    ("https://10.0.0.1/a.jpg", NOT_LOCAL),
    ("https://[::1]:8443/a.jpg", NOT_LOCAL),
]


@for_each(("url", "rule"), URL_RULES)
def test_a_url_that_breaks_a_rule_is_reported_with_its_place(url, rule):
    assert broken(media_urls=[PHOTO, url]) == [("media_urls[1]", rule)]
    assert broken(webhook_url=url) == [("webhook_url", rule)]


@for_each("file", ["example.com/a.jpg", "a.jpg", b"\xff\xd8\xff", Path("a.jpg")])
def test_a_file_of_this_machine_needs_an_uploader(file):
    told = f"{PUBLIC}; to send a file from this machine, give the session an uploader"
    assert broken(media_urls=[PHOTO, file]) == [("media_urls[1]", told)]


@for_each(
    "url",
    [
        "HTTPS://EXAMPLE.COM/A.JPG",
        "https://example.com:8443/a.jpg?sig=a@b#part",
        "https://example.com/@user/a.jpg",
        "https://bücher.example/ä.jpg",
        "https://8.8.8.8/a.jpg",
        "https://[2606:4700::1111]/a.jpg",
    ],
)
def test_public_https_urls_of_all_sorts_are_taken(url):
    assert broken(media_urls=[url], webhook_url=url) == []


LOCAL = [
    "localhost",
    "LOCALHOST",
    "localhost.",
    "a.localhost",
    "localhost.localdomain",
    "ip6-localhost",
    "printer.local",
    "metadata.google.internal",
    "127.0.0.1",
    "127.0.0.1.",
    "127.255.255.254",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "017700000001",
    "0",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "0xa9fea9fe",
    "100.64.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "0:0:0:0:0:0:0:1",
    "fe80::1",
    "fe80::1%eth0",
    "fe80::1%25eth0",
    "::1%lo",
    "fd00::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::10.0.0.1",
    "2002:7f00:1::",
    "2002:c0a8:0101::1",
    "\uff11\uff12\uff17.\uff10.\uff10.\uff11",  # full-width digits
    "127\u30020\uff610\u30021",  # ideographic full stops
    "\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3",  # circled letters
    "local\u00adhost",  # a soft hyphen
    "\U0001fbf1\U0001fbf2\U0001fbf7.0.0.1",  # segmented digits
]
NOT_LOCAL_HOSTS = [
    "example.com",
    "localhost.example.com",
    "127.0.0.1.example.com",
    "notlocalhost.example",
    "8.8.8.8",
    "134744072",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2002:808:808::",
    "2606:4700::1111",
    "bücher.example",
    "ä" * 64 + ".example",
    "",
    ".",
    "a..b",
    "%31%32%37.0.0.1",
]


@for_each("host", LOCAL)
def test_a_host_that_is_not_public_is_known_in_every_spelling(host):
    assert is_local_host(host)


@for_each("host", NOT_LOCAL_HOSTS)
def test_a_public_host_is_not_taken_for_a_local_one(host):
    assert not is_local_host(host)


@given(st.text())
def test_any_text_can_be_asked_whether_it_is_a_local_host(host):
    assert is_local_host(host) in (True, False)


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_judged_alike_in_all_its_spellings(address):
    number = int(address)
    spellings = [
        str(number),
        hex(number),
        ".".join(oct(part).replace("o", "") for part in address.packed),
        f"::ffff:{address}",
        f"64:ff9b::{address}",
        f"{address}.",
    ]
    assert {is_local_host(s) for s in spellings} == {is_local_host(str(address))}


def test_allow_local_takes_plain_http_to_this_machine_but_nothing_more():
    assert broken(media_urls=["http://127.0.0.1:8080/a.jpg"], allow_local=True) == []
    assert broken(webhook_url="http://localhost/hook", allow_local=True) == []
    assert broken(media_urls=["https://10.0.0.1/a.jpg"], allow_local=True) == []
    assert broken(media_urls=["http://example.com/"], allow_local=True) == [
        ("media_urls[0]", PUBLIC)
    ]
    assert broken(media_urls=["ftp://127.0.0.1/"], allow_local=True) == [("media_urls[0]", PUBLIC)]


def test_no_violation_shows_a_password_or_a_signature():
    secret = "s3cret"
    urls = [f"http://u:{secret}@example.com/", f"http://example.com/?sig={secret}"]
    for fields in ({"media_urls": urls}, {"media_urls": urls * 3}, {"webhook_url": urls[1]}):
        request = GenerationRequest("a river", **fields)
        assert secret not in repr(request.violations())
        with pytest.raises(InvalidRequestError) as caught:
            prepare(request)
        assert secret not in str(caught.value)


# --- metadata -----------------------------------------------------------------------------------


def nested(levels):
    value = "leaf"
    for _ in range(levels):
        value = {"a": value}
    return value


def cyclic():
    value = {}
    value["self"] = [value, value]
    return value


def unfolding(levels):
    """A few lists that stand for 2 to the power of `levels` values."""
    value = [1]
    for _ in range(levels):
        value = [value, value]
    return {"a": value}


class RogueDict(dict):
    def __iter__(self):
        raise RuntimeError("no")

    def __deepcopy__(self, memo):
        return self


@for_each(
    "value",
    [
        {},
        {"a": [1, 2.5, None, True, {"b": ["ü", "😀"]}]},
        {"a": (1, 2)},
        collections.OrderedDict(a=1),
        collections.UserDict(a=1),
        types.MappingProxyType({"a": 1}),
        nested(64),
        {"a": 2**2048 - 1},
        {"a": [0] * 99_998},
    ],
)
def test_metadata_that_json_can_hold_is_taken(value):
    request = GenerationRequest("a river", metadata=value)
    assert request.violations() == []
    assert json.loads(json.dumps(request.metadata, allow_nan=False)) is not None


NOT_JSON = {
    "text": "a",
    "list": [1],
    "nan": {"a": float("nan")},
    "infinity": {"a": [float("-inf")]},
    "number key": {1: "a"},
    "nested number key": {"a": [{1: "a"}]},
    "None key": {None: "a"},
    "surrogate": {"a": "\ud800"},
    "surrogate key": {"\ud800": "a"},
    "bytes": {"a": b"a"},
    "set": {"a": {1}},
    "object": {"a": object()},
    "generator": {"a": (n for n in [1])},
    "nested mapping that is no dict": {"a": types.MappingProxyType({"b": 1})},
    "cycle": cyclic(),
    "65 levels": nested(65),
    "10,000 levels": nested(10_000),
    "shared parts that unfold": unfolding(60),
    "100,001 values": {"a": [0] * 99_999},
    "an integer too long to print": {"a": 10**5000},
    "a rogue dict": {"a": RogueDict(b=1)},
}


@for_each(("kind", "value"), NOT_JSON.items())
def test_metadata_that_json_cannot_hold_is_refused(kind, value):
    ((field, rule),) = broken(metadata=value)
    assert field == "metadata", kind
    assert rule.startswith("must be a JSON object")


def test_a_later_change_of_the_callers_media_or_metadata_is_not_seen():
    urls, metadata = [PHOTO], {"a": {"b": [1]}}
    request = GenerationRequest("a river", media_urls=urls, metadata=metadata)
    urls.append("changed")
    metadata["a"]["b"].append("changed")
    assert request == GenerationRequest("a river", media_urls=[PHOTO], metadata={"a": {"b": [1]}})


def test_a_later_change_behind_a_read_only_view_is_not_seen_either():
    behind = {"a": [1]}
    request = GenerationRequest("a river", metadata=types.MappingProxyType(behind))
    behind["a"].append(2)
    assert request.metadata == {"a": [1]}


def test_a_request_cannot_be_changed_and_can_be_a_key():
    request = GenerationRequest("a river", metadata={"a": 1})
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        request.prompt = "another"
    assert {request: 1}[GenerationRequest("a river", metadata={"a": 1})] == 1


# --- nothing makes the rules fail ---------------------------------------------------------------


class Rogue:
    """An object that fails whatever is done with it."""

    def _fail(self, *_):
        raise RuntimeError("no")

    __repr__ = __str__ = __bool__ = __iter__ = __len__ = __eq__ = __hash__ = __deepcopy__ = _fail


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.complex_numbers()
    | st.sampled_from([PHOTO, "seedance-2.0", object(), int, len, cyclic()])
    | st.sampled_from([url for url, _ in URL_RULES])
    | st.builds(Rogue)
    | st.builds(lambda: 10**5000),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.lists(st.integers()).map(set)
    ),
    max_leaves=8,
)
FIELDS = [field.name for field in attrs.fields(GenerationRequest)]


@given(st.fixed_dictionaries({"prompt": anything}, optional=dict.fromkeys(FIELDS[1:], anything)))
def test_the_rules_can_be_asked_of_any_values_whatever(fields):
    """And where they are kept, the request can be sent; else it is refused with words."""
    request = GenerationRequest(**fields)
    violations = request.violations()
    assert all(v.rule and re.split(r"[.\[]", v.field)[0] in FIELDS for v in violations)
    if not violations:
        prepare(request)
        return
    with pytest.raises(InvalidRequestError) as caught:
        prepare(request)
    assert len(caught.value.violations) == len(violations)
    assert caught.value.field in str(caught.value)


# --- the mode -----------------------------------------------------------------------------------

IMAGES = ("jpg", "jpeg", "png", "webp", "gif", "bmp")
VIDEOS = ("mp4", "mov", "m4v")
SOUNDS = ("mp3", "wav")


def mode_of(*names):
    urls = [f"https://example.com/{name}" for name in names]
    return GenerationRequest("a river", media_urls=urls).mode


def test_the_mode_follows_the_number_of_images():
    assert mode_of() is GenerationMode.TEXT
    assert mode_of("a.jpg") is GenerationMode.FIRST_FRAME
    assert mode_of("a.jpg", "b.png") is GenerationMode.FIRST_AND_LAST_FRAME
    assert mode_of("a.jpg", "b.png", "c.bmp") is GenerationMode.MULTIMODAL


@for_each("kind", IMAGES)
def test_each_documented_image_type_is_a_frame(kind):
    assert mode_of(f"a.{kind}") is GenerationMode.FIRST_FRAME
    assert mode_of(f"A.{kind.upper()}") is GenerationMode.FIRST_FRAME


@for_each("kind", VIDEOS + SOUNDS)
def test_each_documented_video_or_audio_type_makes_a_request_multimodal(kind):
    for name in (f"a.{kind}", f"A.{kind.upper()}", f"a.{kind}?v=1.jpg", f"a.{kind}#b.jpg"):
        assert mode_of(name) is GenerationMode.MULTIMODAL
        assert mode_of("photo.jpg", name) is GenerationMode.MULTIMODAL


def test_a_type_on_no_list_counts_as_an_image():
    for name in ("photo", "photo.heic", "photo?format=.mp4", "mp4", "a.mp4/photo"):
        assert mode_of(name) is GenerationMode.FIRST_FRAME


def test_the_mode_of_a_url_that_is_none_can_still_be_asked():
    request = GenerationRequest("a river", media_urls=["https://[::1", 5])
    assert request.mode is GenerationMode.FIRST_AND_LAST_FRAME


# --- expand -------------------------------------------------------------------------------------


def test_expand_yields_every_combination_the_last_name_fastest():
    base = GenerationRequest("x", duration=5)
    made = base.expand(prompt=["a", "b"], aspect_ratio=["16:9", None])
    assert [(r.prompt, r.aspect_ratio, r.duration) for r in made] == [
        ("a", "16:9", 5),
        ("a", None, 5),
        ("b", "16:9", 5),
        ("b", None, 5),
    ]


def test_expand_over_nothing_yields_the_request_and_over_an_empty_list_none():
    base = GenerationRequest("x")
    assert list(base.expand()) == [base]
    assert list(base.expand(prompt=[], duration=[5])) == []
    assert list(base.expand(prompt=["a"], duration=[])) == []


def test_expand_reads_its_first_values_only_as_they_are_needed():
    prompts = (f"prompt {number}" for number in itertools.count())
    made = GenerationRequest("x").expand(prompt=prompts, duration=[5, 6])
    told = [(r.prompt, r.duration) for r in itertools.islice(made, 3)]
    assert told == [("prompt 0", 5), ("prompt 0", 6), ("prompt 1", 5)]
    assert next(prompts) == "prompt 2"


@for_each(
    ("values", "words"),
    [
        ({"promt": ["a"]}, "'promt' is not a field"),
        ({"mode": ["text"]}, "'mode' is not a field"),
        ({"prompt": "a river"}, "prompt: give a list"),
        ({"prompt": b"a river"}, "prompt: give a list"),
        ({"duration": 5}, "duration: give a list"),
        ({"metadata": {"a": 1}}, "metadata: give a list"),
    ],
)
def test_expand_refuses_a_mistake_at_once_and_not_at_the_first_request(values, words):
    with pytest.raises(TypeError, match=words):
        GenerationRequest("x").expand(**values)


def test_expand_checks_no_rules_so_that_one_bad_value_ends_nothing():
    made = list(GenerationRequest("x").expand(duration=[3, 5]))
    assert [bool(r.violations()) for r in made] == [True, False]


# --- statuses -----------------------------------------------------------------------------------


@for_each(
    ("spelling", "status"),
    [
        ("queued", GenerationStatus.QUEUED),
        ("Processing", GenerationStatus.PROCESSING),
        ("SUCCEEDED", GenerationStatus.SUCCEEDED),
        (" failed\n", GenerationStatus.FAILED),
        ("canceled", GenerationStatus.CANCELLED),
        ("CANCELED", GenerationStatus.CANCELLED),
        ("cancelled", GenerationStatus.CANCELLED),
    ],
)
def test_case_space_and_the_other_spelling_are_normalised(spelling, status):
    assert GenerationStatus(spelling) is status


def test_three_statuses_are_terminal_and_all_five_are_known():
    assert {s for s in GenerationStatus if s.is_terminal} == {"succeeded", "failed", "cancelled"}
    assert all(s.is_known for s in GenerationStatus)


@for_each("value", ["paused", "", "succeeded!", "UNKNOWN", "sücceeded", "\ud800"])
def test_an_unknown_status_survives_and_is_not_terminal(value):
    status = GenerationStatus(value)
    assert isinstance(status, GenerationStatus)
    assert status == value == status.value
    assert not status.is_known
    assert not status.is_terminal
    assert GenerationStatus(value) == status
    assert hash(GenerationStatus(value)) == hash(status)
    assert value not in [s.value for s in GenerationStatus]
    assert repr(status)


@for_each("value", ["paused", " Paused ", "UNKNOWN", "succeeded"])
def test_a_status_known_or_not_pickles_and_copies(value):
    status = GenerationStatus(value)
    protocols = range(pickle.HIGHEST_PROTOCOL + 1)
    others = [pickle.loads(pickle.dumps(status, protocol)) for protocol in protocols]
    for other in (*others, copy.copy(status), copy.deepcopy(status)):
        assert other == status
        assert other.value == status.value
        assert type(other) is GenerationStatus
        assert other.is_known is status.is_known


def test_a_generation_with_an_unknown_status_pickles_and_copies():
    generation = Generation("req_1", GenerationStatus("paused"))
    for other in (pickle.loads(pickle.dumps(generation)), copy.deepcopy(generation)):
        assert other == generation
        assert other.status.is_known is False


def test_two_unknown_statuses_differ():
    assert GenerationStatus("paused") != GenerationStatus("moderating")


@for_each("value", [None, 5, b"queued"])
def test_what_is_no_text_is_no_status(value):
    with pytest.raises(ValueError, match="not a valid GenerationStatus"):
        GenerationStatus(value)


@given(st.text())
def test_any_text_is_a_status_and_only_the_five_are_known(text):
    status = GenerationStatus(text)
    folded = text.strip().lower()
    assert status.is_known is (folded in [*GenerationStatus, "canceled"])


# --- tokens -------------------------------------------------------------------------------------


@given(st.text(min_size=1), st.none() | st.text())
def test_a_token_comes_back_as_it_was(request_id, key):
    token = JobToken(request_id, key)
    assert JobToken.parse(token.dump()) == token
    assert JobToken.parse(f"\n {token.dump()}\n") == token


def test_a_token_is_plain_versioned_json():
    dumped = JobToken("req_1", "a").dump()
    assert json.loads(dumped) == {"v": 1, "request_id": "req_1", "key": "a"}
    assert dumped.isascii()


def test_a_bare_request_id_is_a_token_without_a_key():
    assert JobToken.parse("req_1") == JobToken("req_1")
    assert JobToken.parse("req_1\n") == JobToken("req_1")


@for_each(
    "garbage",
    [
        "",
        "  \n",
        "{",
        "{}",
        "{" * 100_000,
        '{"v": 1}',
        '{"v": 2, "request_id": "req_1"}',
        '{"v": "1", "request_id": "req_1"}',
        '{"v": 1, "request_id": ""}',
        '{"v": 1, "request_id": 5}',
        '{"v": 1, "request_id": null}',
        '{"request_id": "req_1"}',
        '{"v": ' + "9" * 5000 + "}",
        None,
        5,
        b"req_1",
    ],
)
def test_garbage_is_no_token(garbage):
    with pytest.raises(ValueError, match=r"request.id|token"):
        JobToken.parse(garbage)


def test_a_token_whose_key_is_no_text_has_none():
    assert JobToken.parse('{"v": 1, "request_id": "req_1", "key": 5}') == JobToken("req_1")


@given(st.text())
def test_any_text_is_a_token_or_a_value_error(text):
    with contextlib.suppress(ValueError):
        assert JobToken.parse(text).request_id


# --- redaction ----------------------------------------------------------------------------------


@for_each(
    ("url", "shown"),
    [
        ("https://example.com/a.jpg", "https://example.com/a.jpg"),
        ("https://example.com/a.jpg?sig=secret", "https://example.com/a.jpg?…"),
        ("https://example.com/a.jpg#secret", "https://example.com/a.jpg"),
        ("https://example.com?sig=secret/a", "https://example.com?…"),
        ("https://user:secret@example.com:8443/a", "https://example.com:8443/a"),
        ("https://user:se@secret@example.com/a", "https://example.com/a"),
        ("https://user:secret/secret@example.com/", "https://…"),
        ("https://user:secret?x@example.com/", "https://…"),
        ("user:secret@example.com/a?b", "example.com/a?…"),
        ("https:user:secret@example.com/a", "example.com/a"),
        ("//user:secret@example.com/a", "//example.com/a"),
        ("https://user:secret\\@example.com/a", "https://example.com/a"),
        ("https://[::1]:80/a?secret", "https://[::1]:80/a?…"),
        ("not a url", "not a url"),
        ("", "''"),
        (None, "None"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url, shown):
    assert redact_url(url) == shown


@given(st.text(), st.text(alphabet="abc./:@", max_size=8))
def test_a_query_is_never_shown_whatever_stands_before_it(text, before):
    assert "s3cret" not in redact_url(f"{before}?{text}s3cret")
    assert "s3cret" not in redact_url(f"https://user:s3cret@{before}?{text}")


def test_reprs_show_no_signature_of_a_url():
    url = "https://u:s3cret@example.com/a.jpg?X-Signature=s3cret"
    request = GenerationRequest("a river", media_urls=[url], webhook_url=url, metadata={"a": 1})
    generation = Generation("req_1", GenerationStatus.SUCCEEDED, output_url=url)
    assert "s3cret" not in repr(request) + repr(generation)
    assert "https://example.com/a.jpg?…" in repr(request)
    assert generation.output_url == url


def test_the_raw_entry_of_a_model_is_kept_but_not_shown():
    info = ModelInfo("m", (), (), (), pricing=None, raw={"secret": 1})
    assert "secret" not in repr(info)
    assert info.raw == {"secret": 1}
    assert hash(info) == hash(attrs.evolve(info, raw={}))
