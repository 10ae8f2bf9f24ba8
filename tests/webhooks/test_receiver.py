"""The receiver alone: which callbacks it accepts, and what it answers to the others."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedance_async import ConfigurationError, WebhookReceiver
from seedance_async.webhooks import receiver as module

BASE = "https://app.example/hooks/seedance"
BODY = json.dumps({"success": True, "requestId": "req_0", "status": "succeeded"}).encode()


def test_a_base_url_that_is_not_a_public_https_url_is_refused():
    for url in (
        "ftp://app.example",
        "http://app.example",
        "https://app.example?x",
        "https://a.example#",
    ):
        with pytest.raises(ConfigurationError, match="webhook URL"):
            WebhookReceiver(url)


def test_an_expected_callback_gives_its_request_id_to_the_hint():
    receiver, ids = WebhookReceiver(BASE), []
    nonce = receiver.expect(ids.append)
    assert receiver.url_for(nonce) == f"{BASE}/{nonce}"
    assert receiver.receive(f"/hooks/seedance/{nonce}", BODY) == 200
    assert ids == ["req_0"]


def test_late_callbacks_of_the_last_ended_jobs_are_answered_200_and_ignored(monkeypatch):
    monkeypatch.setattr(module, "REMEMBERED", 2)
    receiver, ids = WebhookReceiver(BASE), []
    ended = [receiver.expect(ids.append) for _ in range(3)]
    dropped = receiver.expect(ids.append)
    for nonce in ended:
        receiver.forget(nonce, ended=True)
    receiver.forget(dropped)
    statuses = [receiver.receive(nonce, BODY) for nonce in (*ended, dropped)]
    assert (statuses, ids) == ([404, 200, 200, 404], [])
    assert repr(receiver) == f"<WebhookReceiver {BASE}, 0 expected>"


_RECEIVER = WebhookReceiver(BASE, max_body=40)
_IDS = []
_NONCE = _RECEIVER.expect(_IDS.append)


@given(
    st.text() | st.sampled_from([_NONCE, f"/x/{_NONCE}"]),
    st.binary(max_size=60) | st.sampled_from([BODY[:40], b'{"requestId": "a"}']),
)
def test_any_callback_is_answered_with_one_of_four_statuses(path, body):
    _IDS.clear()
    status = _RECEIVER.receive(path, body)
    assert status in (200, 400, 404, 413)
    assert bool(_IDS) == (status == 200)


async def test_the_asgi_application_reads_no_more_than_max_body():
    receiver, sent = WebhookReceiver(BASE, max_body=10), []

    async def endless():
        return {"type": "http.request", "body": b"x" * 8, "more_body": True}

    async def send(message):
        sent.append(message)

    await receiver.asgi({"type": "http", "method": "POST", "path": "/x"}, endless, send)
    assert sent[0]["status"] == 413


async def test_the_asgi_application_answers_neither_a_client_that_left_nor_another_protocol():
    receiver, sent = WebhookReceiver(BASE), []

    async def leave():
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    await receiver.asgi({"type": "http", "method": "POST", "path": "/x"}, leave, send)
    await receiver.asgi({"type": "lifespan"}, leave, send)
    assert sent == []
