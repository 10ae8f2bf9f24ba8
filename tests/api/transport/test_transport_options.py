"""The options of the transports: what each may be, and that no secret shows in a refusal."""

import warnings

import aiohttp
import pytest

from seedance_async import ConfigurationError, SeedanceClient
from seedance_async.api.options import TransportOptions
from tests.support.for_each import for_each

KEY = "sd2_live_a_key_that_must_never_be_seen"
SECRET = "s3cret"


@for_each(
    "url",
    [
        f"socks5://user:{SECRET}@proxy.example",
        "proxy.example:3128",
        "http://",
        f"http://user:{SECRET}@proxy.example:port",
        f"http://proxy.example/{SECRET.upper()}",
        f"http://proxy.example?{SECRET}",
        f"http://user:{SECRET} @proxy.example",
        "",
        5,
    ],
)
def test_a_bad_proxy_is_refused_without_its_password(url):
    with pytest.raises(ConfigurationError, match=r"^proxy must be http://") as caught:
        TransportOptions(proxy=url)
    assert SECRET not in str(caught.value)


def test_a_good_proxy_is_taken_and_not_shown():
    for url in ("http://proxy.example", "https://proxy.example:8443/", "http://[::1]:3128"):
        assert TransportOptions(proxy=url).proxy == url
    options = TransportOptions(proxy=f"http://user:{SECRET}@proxy.example")
    assert SECRET not in repr(options)


@for_each(
    ("headers", "rule"),
    [
        ("X-Team: films", "must be a mapping"),
        ({"X Team": "films"}, "names of HTTP"),
        ({"": "films"}, "names of HTTP"),
        ({5: "films"}, "names of HTTP"),
        ({"authorization": SECRET}, "must not have authorization"),
        ({"Host": "films"}, "must not have Host"),
        ({"Content-Length": "5"}, "must not have Content-Length"),
        ({"X-Team": f"{SECRET}\r\nX-Evil: 1"}, "printable ASCII as the value of X-Team"),
        ({"X-Team": 5}, "printable ASCII as the value of X-Team"),
    ],
)
def test_bad_headers_are_refused_by_name_and_without_their_values(headers, rule):
    with pytest.raises(ConfigurationError, match=f"^headers .*{rule}") as caught:
        TransportOptions(headers=headers)
    assert SECRET not in str(caught.value)


def test_headers_are_those_of_the_moment():
    headers = {"X-Team": "films"}
    options = TransportOptions(headers=headers)
    headers["X-Team"] = "other"
    assert options.headers == {"X-Team": "films"}
    assert TransportOptions().headers == {}


def test_ssl_is_a_context_or_a_flag():
    for bad in (None, 1, "yes"):
        with pytest.raises(ConfigurationError, match=r"^ssl must be a SSLContext or a bool"):
            TransportOptions(ssl=bad)


async def test_a_session_is_one_of_aiohttp_without_credentials_of_its_own():
    with pytest.raises(ConfigurationError, match=r"^http must be an aiohttp\.ClientSession"):
        TransportOptions(http=object())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # what is to be refused is old
        http = aiohttp.ClientSession(auth=aiohttp.BasicAuth("user", SECRET))
    with pytest.raises(ConfigurationError, match="without auth"):
        TransportOptions(http=http)
    await http.close()
    async with aiohttp.ClientSession() as http:
        assert TransportOptions(http=http).http is http


def test_a_proxy_of_the_environment_is_checked_too(monkeypatch):
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("https_proxy", f"socks5://user:{SECRET}@proxy.example")
    with pytest.raises(ConfigurationError, match=r"^HTTPS_PROXY in the environment") as caught:
        SeedanceClient(KEY, "https://api.example")
    assert SECRET not in str(caught.value)
    SeedanceClient(KEY, "https://api.example", trust_env=False)
