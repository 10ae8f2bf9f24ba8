"""Extra fields: sent as they are, frozen, told apart by their JSON, and no documented field."""

import copy
import json
import pickle
import random

import attrs
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from seedance_async import GenerationRequest, InvalidRequestError, dump_request, load_request
from seedance_async.api.prepared_request import fingerprint_of, prepare
from seedance_async.journal import fingerprint, kind_text
from tests.support.for_each import for_each

PLAIN = GenerationRequest("a river", duration=5, resolution="720p")
WIRE_NAMES = ("prompt", "model", "mediaUrls", "aspectRatio", "duration", "resolution", "webhookUrl")


def with_extra(**extra):
    return attrs.evolve(PLAIN, extra=extra)


def broken(extra):
    return [(v.field, v.rule) for v in GenerationRequest("a river", extra=extra).violations()]


def sent(request):
    return json.loads(prepare(request).body)


# --- what is sent, and what is kept -------------------------------------------------------------


def test_extra_fields_are_sent_among_the_documented_ones():
    body = sent(with_extra(seed=7, camera={"pan": [1, None], "fixed": True}))
    expected = {"duration": 5, "resolution": "720p", "seed": 7}
    expected |= {"camera": {"pan": [1, None], "fixed": True}}
    assert body == {"model": "seedance-2.0", "prompt": "a river", **expected}


def test_a_field_that_is_called_extra_can_be_sent_too():
    assert sent(with_extra(extra={"seed": 7}))["extra"] == {"seed": 7}


def test_a_callback_url_and_uploaded_media_are_sent_beside_extra_fields():
    png = b"\x89PNG\r\n\x1a\n" + bytes(20)
    prepared = prepare(attrs.evolve(with_extra(seed=7), media_urls=[png]), uploads=True)
    ready = prepared.with_media({0: "https://x.example/a"}).with_callback_url("https://x.example/b")
    assert json.loads(ready.body)["seed"] == 7
    assert json.loads(ready.body)["webhookUrl"] == "https://x.example/b"


def test_a_journal_keeps_extra_fields_apart_so_that_the_request_can_be_made_again():
    request = with_extra(seed=7)
    kept = json.loads(prepare(request).record)
    assert kept["extra"] == {"seed": 7}
    assert "seed" not in kept
    assert load_request(kept) == request
    assert prepare(PLAIN).record == prepare(PLAIN).body.decode()


def test_no_extra_fields_are_the_same_as_none():
    assert GenerationRequest("a river", extra={}) == GenerationRequest("a river")
    assert load_request({"prompt": "a river", "extra": None}) == GenerationRequest("a river")


def test_what_journals_of_earlier_versions_hold_is_found_again():
    """Literals of a version that had no extra fields."""
    assert fingerprint(PLAIN) == "f61b0ae9a55daa2960238ba452920e68"
    assert kind_text(PLAIN) == '["seedance-2.0", 5, "720p", "text"]'


# --- frozen -------------------------------------------------------------------------------------


def test_a_later_change_of_the_callers_values_is_not_seen():
    given = {"camera": {"pan": [1]}}
    request = GenerationRequest("a river", extra=given)
    given["camera"]["pan"].append(2)
    given["seed"] = 7
    assert request.extra == {"camera": {"pan": [1]}}


def test_extra_fields_cannot_be_changed_at_any_depth():
    request = with_extra(camera={"pan": [1]})
    with pytest.raises(TypeError):
        request.extra["seed"] = 7
    request.extra["camera"]["pan"].append(2)
    dump_request(request)["extra"]["camera"]["pan"].append(3)
    assert request.extra == {"camera": {"pan": [1]}}
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        request.extra.text = "{}"


def test_a_request_with_extra_fields_can_be_a_key_and_be_pickled_copied_and_changed():
    request = with_extra(seed=7)
    assert {request: 1}[with_extra(seed=7)] == 1
    assert pickle.loads(pickle.dumps(request)) == copy.deepcopy(request) == request
    assert attrs.evolve(request, prompt="a sea").extra == {"seed": 7}
    assert [r.extra for r in PLAIN.expand(extra=[{"seed": 1}, None])] == [{"seed": 1}, None]
    assert "extra={'seed': 7}" in repr(request)
    assert (list(request.extra), len(request.extra), "seed" in request.extra) == (["seed"], 1, True)


# --- the same, and not the same -----------------------------------------------------------------


def test_values_that_python_takes_for_equal_are_different_requests():
    requests = [PLAIN, *(with_extra(a=value) for value in (1, 1.0, True, "1", None, [1], {"1": 1}))]
    assert len(set(requests)) == len(requests)
    assert len({fingerprint(each) for each in requests}) == len(requests)
    assert len({each.kind for each in requests}) == len(requests)


def test_an_extra_field_is_no_documented_one_and_no_metadata():
    others = [
        attrs.evolve(PLAIN, metadata={"seed": 7}),
        attrs.evolve(PLAIN, metadata={"extra": {"seed": 7}}),
        with_extra(extra={"seed": 7}),
    ]
    assert fingerprint(with_extra(seed=7)) not in {fingerprint(other) for other in others}


def test_extra_fields_are_priced_apart_whatever_their_order():
    one, other = ({"quality": "max", "fps": 60}, {"fps": 60, "quality": "max"})
    kind = with_extra(**one).kind
    assert kind == with_extra(**other).kind == (*PLAIN.kind, '{"fps":60,"quality":"max"}')
    assert kind != with_extra(quality="max", fps=30).kind


def test_the_kind_of_long_extra_fields_is_short_and_still_their_own():
    kinds = {with_extra(negative="x" * 5000 + end).kind for end in "abc"}
    assert len(kinds) == 3
    assert all(len(kind[-1]) <= 101 for kind in kinds)


# --- the rules ----------------------------------------------------------------------------------


@for_each("documented", [*WIRE_NAMES, "metadata", "media_urls", "webhook_url"])
@for_each("spelled", [str, str.upper, str.title, lambda name: f" {name}-"])
def test_a_name_that_is_or_looks_like_a_documented_field_is_refused(documented, spelled):
    name = spelled(documented)
    (violation,) = GenerationRequest("a river", extra={name: 5}).violations()
    assert (violation.field, violation.value) == (f"extra.{name}", 5)
    assert violation.rule.startswith("must not have the name of a documented field: give ")


def test_the_message_of_a_refused_name_says_which_field_it_is():
    with pytest.raises(InvalidRequestError) as caught:
        prepare(GenerationRequest("a river", extra={"AspectRatio": "4:3"}))
    assert "extra.AspectRatio" in str(caught.value)
    assert "give aspect_ratio" in str(caught.value)
    assert "'4:3'" in str(caught.value)


NAMES = "must have names that are text, and not blank"
UNICODE = "must have names that are valid Unicode, without lone surrogates"


@for_each(
    ("extra", "field", "rule"),
    [
        ({"a": float("nan")}, "extra.a", "must be JSON: "),
        ({"a": [float("inf")], "b": 1}, "extra.a", "must be JSON: "),
        ({"a": "\ud800"}, "extra.a", "must be JSON: "),
        ({"a": {"\ud800": 1}}, "extra.a", "must be JSON: "),
        ({"a": {1}}, "extra.a", "must be JSON: "),
        ({"a": b"x"}, "extra.a", "must be JSON: "),
        ({"a": {1: 2}}, "extra.a", "must be JSON: "),
        ({"a": 10**5000}, "extra.a", "must be JSON: "),
        ({"a": [0] * 60_000, "b": [0] * 60_000}, "extra", "must be JSON: "),
        ({1: 2}, "extra", NAMES),
        ({"": 2}, "extra", NAMES),
        ({" ": 2}, "extra", NAMES),
        ({"\ud800": 2}, "extra", UNICODE),
        ([("seed", 7)], "extra", "must be a JSON object"),
        ("seed=7", "extra", "must be a JSON object"),
        (7, "extra", "must be a JSON object"),
    ],
)
def test_extra_fields_that_are_no_plain_json_are_refused_by_name(extra, field, rule):
    ((told, words),) = broken(extra)
    assert told == field
    assert words.startswith(rule)


# --- whatever they are --------------------------------------------------------------------------

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
extras = st.dictionaries(names, values, min_size=1, max_size=4)


def shuffled(value, rng):
    """The same JSON with the names of every object in another order."""
    if isinstance(value, list):
        return [shuffled(each, rng) for each in value]
    if not isinstance(value, dict):
        return value
    items = [(name, shuffled(each, rng)) for name, each in value.items()]
    rng.shuffle(items)
    return dict(items)


@given(extras)
def test_extra_fields_go_through_json_and_back_and_arrive_as_they_are(extra):
    request = attrs.evolve(PLAIN, extra=extra)
    assume(not request.violations())
    assert load_request(json.loads(json.dumps(dump_request(request)))) == request
    assert load_request(json.loads(prepare(request).record)) == request
    body = sent(request)
    assert {name: body.pop(name) for name in extra} == extra
    assert body == sent(PLAIN)


@given(extras, st.integers())
def test_the_fingerprint_and_the_kind_do_not_depend_on_the_order_of_names(extra, seed):
    one = attrs.evolve(PLAIN, extra=extra)
    other = attrs.evolve(PLAIN, extra=shuffled(extra, random.Random(seed)))
    assert (one, fingerprint(one), one.kind) == (other, fingerprint(other), other.kind)


@given(extras, extras)
@example({"a": 1}, {"a": True})
@example({"a": "1"}, {"a": 1})
@example({"a": {}}, {"a": []})
def test_different_extra_fields_are_different_requests(one, other):
    requests = [attrs.evolve(PLAIN, extra=extra) for extra in (one, other)]
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (requests[0] == requests[1]) is same
    assert (fingerprint(requests[0]) == fingerprint(requests[1])) is same
    assert (requests[0].kind == requests[1].kind) is same


DOCUMENTED = [field.name for field in attrs.fields(GenerationRequest) if field.name != "extra"]


@given(st.sampled_from([*DOCUMENTED, *WIRE_NAMES]), st.randoms(use_true_random=False), values)
def test_no_spelling_of_a_documented_name_gets_through(name, rng, value):
    letters = [rng.choice((str.upper, str.lower))(letter) for letter in name]
    spelled = "".join(letter + rng.choice(("", "", "-", "_", " ", ".")) for letter in letters)
    request = attrs.evolve(PLAIN, extra={spelled: value, "seed": 7})
    assert [v.field for v in request.violations(strict=False)] == [f"extra.{spelled}"]


@given(extras)
def test_no_extra_field_changes_what_is_documented(extra):
    request = attrs.evolve(PLAIN, extra=extra)
    assume(not request.violations())
    data = dump_request(request)
    assert fingerprint_of(data) != fingerprint(PLAIN)
    del data["extra"]
    assert fingerprint_of(data) == fingerprint(PLAIN)
