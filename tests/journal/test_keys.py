"""Fingerprints are the same in every process, and equal requests of one run get different keys."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedance_async import GenerationRequest, Model, dump_request, load_request
from seedance_async.journal import Occurrences, fingerprint

METADATA = {"b": [1, 2.5, None], "a": {"ä": "\ud800", "set": "of keys"}}
REQUEST = GenerationRequest("a river", duration=5, metadata=METADATA)
#: It is on disk, and the next version must find it there: this never changes.
GOLDEN = "ac47b5565d648a4970d2ae56606fddc1"

CODE = """
from seedance_async import GenerationRequest
from seedance_async.journal import fingerprint
metadata = {"a": {"set": "of keys", "ä": "\\ud800"}, "b": [1, 2.5, None]}
print(fingerprint(GenerationRequest("a river", metadata=metadata, duration=5)))
"""


def test_the_fingerprint_of_a_request_never_changes():
    assert fingerprint(REQUEST) == GOLDEN


def test_the_fingerprint_is_the_same_in_another_process():
    for seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", CODE],
            env={"PYTHONHASHSEED": seed, "PYTHONUTF8": "1"},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stdout.strip() == GOLDEN


def test_a_default_and_the_same_value_given_have_one_fingerprint():
    plain = GenerationRequest("a river")
    assert fingerprint(plain) == fingerprint(
        GenerationRequest("a river", model=Model.SEEDANCE_2_0, media_urls=[])
    )


def test_requests_that_are_sent_differently_have_different_fingerprints():
    requests = [
        GenerationRequest("a river"),
        GenerationRequest("a river", resolution="720p"),
        GenerationRequest("a river "),
        GenerationRequest("a river", model="seedance-1.5-pro"),
        GenerationRequest("a river", duration=5),
        GenerationRequest("a river", media_urls=["https://x.example/1", "https://x.example/2"]),
        GenerationRequest("a river", media_urls=["https://x.example/2", "https://x.example/1"]),
        GenerationRequest("a river", metadata={}),
        GenerationRequest("a river", metadata={"a": 1}),
        GenerationRequest("a river", metadata={"a": "1"}),
        GenerationRequest("a river", metadata={"a": True}),
    ]
    assert len({fingerprint(request) for request in requests}) == len(requests)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def backwards(value):
    """The same JSON, each object's keys in the opposite order."""
    if isinstance(value, dict):
        return {key: backwards(value[key]) for key in reversed(value)}
    return [backwards(item) for item in value] if isinstance(value, list) else value


@given(st.text(), st.dictionaries(st.text(), JSON, max_size=4))
def test_key_order_and_a_round_trip_through_json_make_no_difference(prompt, metadata):
    request = GenerationRequest(prompt, metadata=metadata)
    name = fingerprint(request)
    assert len(name) == 32
    assert set(name) <= set("0123456789abcdef")
    assert fingerprint(GenerationRequest(prompt, metadata=backwards(metadata))) == name
    assert fingerprint(load_request(dump_request(request))) == name


def test_a_request_that_is_not_json_has_no_fingerprint():
    with pytest.raises(ValueError, match="JSON"):
        fingerprint(GenerationRequest("x", metadata={"a": float("nan")}))
    with pytest.raises(TypeError):
        fingerprint(GenerationRequest("x", metadata={"a": object()}))


def test_equal_requests_get_numbered_keys_and_the_same_ones_in_the_next_run():
    names = ["f", "g", "f", "f", "g"]
    first, second = Occurrences(), Occurrences()
    keys = [first.key(name) for name in names]
    assert keys == ["f-1", "g-1", "f-2", "f-3", "g-2"]
    assert [second.key(name) for name in names] == keys
    assert repr(first) == "<Occurrences of 2 fingerprints>"
