"""Options: the environment, the bounds, and where the key may not show."""

import math

import pytest

from seedance_async import Backoff, ConfigurationError, RetryPolicy, Timeouts
from seedance_async.api.options import DEFAULT_BASE_URL, Endpoint
from seedance_async.session.options import SessionOptions
from tests.support.for_each import for_each

KEY = "sd2_live_a_key_that_must_never_be_seen"


def resolve(base_url=None, *, api_key=KEY, **environ):
    return Endpoint.resolve(api_key, base_url, environ)


# --- the environment ----------------------------------------------------------------------------


def test_arguments_come_before_the_environment():
    environ = {"SEEDANCE_API_KEY": "other", "SEEDANCE_BASE_URL": "https://other.example"}
    endpoint = resolve("https://api.example", **environ)
    assert (endpoint.base_url, endpoint.api_key) == ("https://api.example", KEY)


def test_the_environment_fills_what_no_argument_gives():
    environ = {"SEEDANCE_API_KEY": KEY, "SEEDANCE_BASE_URL": "https://other.example"}
    endpoint = resolve(api_key=None, **environ)
    assert (endpoint.base_url, endpoint.api_key) == ("https://other.example", KEY)


def test_the_process_environment_is_the_default(monkeypatch):
    monkeypatch.setenv("SEEDANCE_API_KEY", KEY)
    monkeypatch.setenv("SEEDANCE_BASE_URL", "https://other.example")
    assert Endpoint.resolve() == Endpoint("https://other.example", KEY)


@for_each("environ", [{}, {"SEEDANCE_BASE_URL": ""}])
def test_without_a_base_url_the_vendors_is_taken(environ):
    assert resolve(**environ).base_url == DEFAULT_BASE_URL == "https://www.seedance2.ink"


def test_an_empty_base_url_argument_is_a_mistake_and_not_the_vendors_api():
    """Jobs cost money there; an empty setting must not send a test run to it."""
    with pytest.raises(ConfigurationError, match="base_url"):
        resolve("")


@for_each("key", [None, "", 5, b"key"])
def test_a_missing_key_is_refused_with_what_to_do(key):
    with pytest.raises(ConfigurationError, match="pass api_key or set SEEDANCE_API_KEY"):
        resolve(api_key=key)


def test_an_empty_key_argument_does_not_fall_back_to_the_environment():
    with pytest.raises(ConfigurationError):
        resolve(api_key="", SEEDANCE_API_KEY=KEY)


@for_each("bad", [" ", "\n", "\r\nX-Evil: 1", "\x00", "\x7f", "ü", "\u200b"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(bad):
    with pytest.raises(ConfigurationError, match="printable ASCII") as caught:
        resolve(api_key=KEY + bad)
    assert KEY not in f"{caught.value!r} {caught.value} {caught.value.__dict__}"


@for_each(
    ("url", "key"),
    [
        ("https://api.example", KEY + "\n"),
        ("https://api.example", ""),
        ("htps://api.example:8080", KEY),
        ("https://u:p@api.example", KEY),
    ],
)
def test_an_endpoint_made_by_hand_is_checked_too(url, key):
    with pytest.raises(ConfigurationError):
        Endpoint(url, key)


def test_the_key_is_in_no_repr():
    endpoint = resolve("https://api.example")
    assert KEY not in repr(endpoint) + str(endpoint)


# --- the base URL -------------------------------------------------------------------------------


@for_each(
    ("given", "taken"),
    [
        ("https://api.example", "https://api.example"),
        ("https://api.example/", "https://api.example"),
        ("https://api.example:8443/proxy/", "https://api.example:8443/proxy"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://localhost", "http://localhost"),
        ("http://192.168.1.7", "http://192.168.1.7"),
    ],
)
def test_a_sound_base_url_is_taken_without_its_last_slash(given, taken):
    assert resolve(given).base_url == taken


@for_each(
    ("url", "words"),
    [
        ("http://api.example", "must be https://"),
        ("ftp://api.example", "must be https://host"),
        ("api.example", "must be https://host"),
        ("https://", "must be https://host"),
        ("https:///path", "must be https://host"),
        ("https://user:secret@api.example", "no user name"),
        ("https://@api.example", "no user name"),
        ("https://api.example?secret=1", "query"),
        ("https://api.example/?", "query"),
        ("https://api.example/#", "fragment"),
        ("https://api.example:port", "not a URL"),
        ("https://api.example:99999", "not a URL"),
        ("https://[::1", "not a URL"),
        ("https://user:secret/@api.example", "not a URL"),
        (" https://api.example", "white space"),
        ("https://api.example\n", "white space"),
        ("https://api.example/\x00", "control characters"),
        ("https://127.0.0.1\\.api.example", "backslash"),
        ("https://api.example/bä", "percent-encoded"),
        ("https://bücher.example", "percent-encoded"),
        (5, "must be text"),
        (b"https://api.example", "must be text"),
    ],
)
def test_a_bad_base_url_is_refused_with_words_and_without_its_secrets(url, words):
    with pytest.raises(ConfigurationError, match=words) as caught:
        resolve(url)
    assert "base_url" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_emulator_on_this_machine_is_local_and_the_vendor_is_not():
    assert resolve("http://127.0.0.1:8080").is_local
    assert resolve("https://[::1]").is_local
    assert not resolve().is_local


# --- bounds -------------------------------------------------------------------------------------

SECONDS = [
    (RetryPolicy, "timeout"),
    (RetryPolicy, "reach_timeout"),
    (RetryPolicy, "max_retry_after"),
    (RetryPolicy, "throttle_timeout"),
    (Timeouts, "connect"),
    (Timeouts, "submit"),
    (Timeouts, "request"),
    (Timeouts, "submit_grace"),
    (Timeouts, "download_idle"),
    (Timeouts, "download_rate"),
    (Timeouts, "download"),
    (SessionOptions, "poll_rate"),
    (SessionOptions, "job_timeout"),
    (SessionOptions, "queue_timeout"),
    (SessionOptions, "poll_patience"),
    (SessionOptions, "poll_failure_timeout"),
]
COUNTS = [
    (RetryPolicy, "attempts"),
    (SessionOptions, "max_in_flight"),
    (SessionOptions, "max_connections"),
    (SessionOptions, "max_downloads"),
    (SessionOptions, "max_uncertain_in_a_row"),
    (SessionOptions, "max_abandoned_in_a_row"),
    (SessionOptions, "max_credits"),
]
POLICIES = [
    (RetryPolicy, "backoff", Backoff),
    (SessionOptions, "poll", Backoff),
    (SessionOptions, "cancel_on_error", bool),
    (SessionOptions, "read_journal", bool),
    (SessionOptions, "resubmit_uncertain", bool),
    (SessionOptions, "strict", bool),
    (SessionOptions, "retry", RetryPolicy),
    (SessionOptions, "timeouts", Timeouts),
    (SessionOptions, "trust_env", bool),
    (SessionOptions, "allow_private_media", bool),
]

#: What other tests are about: where the API is, how it is reached, what takes part in a session.
ELSEWHERE = {"api_key", "base_url", "proxy", "ssl", "headers", "http", "transport", "rng"} | {
    "journal", "webhooks", "on_event", "media_key", "budgets", "uploader",
}  # fmt: skip


@for_each(("kind", "name"), SECONDS)
def test_seconds_are_finite_numbers_above_zero_or_refused_by_name(kind, name):
    assert getattr(kind(**{name: 0.001}), name) == 0.001
    for bad in (0, -1, math.nan, math.inf, True, "5", 10**400):
        with pytest.raises(ConfigurationError, match=f"^{name} must be"):
            kind(**{name: bad})


@for_each(("kind", "name"), COUNTS)
def test_counts_are_whole_numbers_above_zero_or_refused_by_name(kind, name):
    assert getattr(kind(**{name: 1}), name) == 1
    optional = name == "max_credits"  # None is no limit
    for bad in (0, -1, 1.0, True, "5", *(() if optional else (None,))):
        with pytest.raises(ConfigurationError, match=f"^{name} must be a whole number"):
            kind(**{name: bad})


@for_each(("kind", "name", "type_"), POLICIES)
def test_a_policy_of_another_kind_is_refused_by_name_and_not_in_the_middle_of_a_retry(
    kind, name, type_
):
    assert getattr(kind(**{name: type_()}), name) == type_()
    for bad in (5, "yes", object()):
        with pytest.raises(ConfigurationError, match=f"^{name} must be a {type_.__name__}"):
            kind(**{name: bad})


@for_each("bad", [5, [("acme", 5)], {"": 5}, {" ": 5}, {5: 5}, {"acme": 0}, {"acme": "5"}])
def test_budgets_that_are_no_numbers_by_name_are_refused_by_name(bad):
    with pytest.raises(ConfigurationError, match="budgets"):
        SessionOptions(budgets=bad)


def test_a_media_key_that_cannot_be_called_is_refused_by_name():
    for bad in ("path", 5, True):
        with pytest.raises(ConfigurationError, match=r"^media_key must be"):
            SessionOptions(media_key=bad)


def test_every_option_of_every_policy_is_tested_here():
    tested = {(kind, name) for kind, name, *_ in [*SECONDS, *COUNTS, *POLICIES]}
    there = {
        (kind, field.name)
        for kind in (RetryPolicy, Timeouts, SessionOptions)
        for field in kind.__attrs_attrs__
        if field.name not in ELSEWHERE
    }
    assert tested == there


def test_the_former_name_of_an_option_still_holds():
    assert SessionOptions(poll_patience=60.0).poll_failure_timeout == 60.0
    assert SessionOptions().poll_failure_timeout == 900.0
