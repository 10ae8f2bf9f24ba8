"""What failures show: never the API key, however a server spells it."""

import json

from hypothesis import given
from hypothesis import strategies as st

from seedance_async.api.transport.failures import Secrets
from tests.support.for_each import for_each

KEY = "sd2_live_a/key=that+must.never\"be'seen"
SECRETS = Secrets(KEY)


def escaped(characters):
    return "".join(f"\\u{ord(c):04x}" for c in characters)


@for_each(
    "spelt",
    [
        KEY,
        json.dumps(KEY)[1:-1],
        KEY.replace("/", "\\/"),
        KEY.replace("=", "\\u003d").replace('"', "\\u0022"),
        KEY.replace("=", "\\u003D"),
        escaped(KEY),
        escaped(KEY).upper().replace("\\U", "\\u"),
    ],
)
def test_a_key_that_is_escaped_in_an_answer_is_hidden(spelt):
    body = b'{"requestId": "req_1", "error": "no key ' + spelt.encode() + b'"'
    hidden = SECRETS.hide_key(body)
    assert hidden == b'{"requestId": "req_1", "error": "no key [api key]"'


@for_each("encoding", ["utf-16", "utf-16-be", "utf-32", "utf-32-le"])
def test_a_key_in_an_answer_of_another_encoding_is_hidden(encoding):
    body = json.dumps({"error": f"no key {KEY}"}, ensure_ascii=False).replace('\\"', '"')
    assert KEY not in SECRETS.hide_key(body.encode(encoding)).decode(encoding)


@given(st.data())
def test_however_its_characters_are_escaped_the_key_is_hidden(data):
    spelt = "".join(
        data.draw(st.sampled_from([c, f"\\u{ord(c):04x}", f"\\u{ord(c):04X}"])) for c in KEY
    )
    assert SECRETS.hide_key(b'"' + spelt.encode() + b'"') == b'"[api key]"'


@given(st.binary(max_size=200))
def test_a_body_without_the_key_is_left_as_it_is(body):
    assert SECRETS.hide_key(body) == body


def test_a_placeholder_for_a_key_is_not_hidden_in_the_ids_of_jobs():
    body = b'{"requestId": "req_dev_12"}'
    assert Secrets("dev").hide_key(body) == body
