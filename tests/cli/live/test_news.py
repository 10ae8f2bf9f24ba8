"""What is told as it happens."""

import asyncio
import math
from pathlib import Path

import pytest

from seedance_async import (
    GenerationRequest,
    LimitsChanged,
    PollFailed,
    RequestRetried,
    RequestThrottled,
    ServerError,
    TransportError,
    VideoSaved,
)
from seedance_async.api.errors import BadRequestError
from seedance_async.cli.inputs import Line
from seedance_async.cli.live.news import News
from seedance_async.cli.runs.outcome import Outcome

pytestmark = pytest.mark.virtual_time

REQUEST = GenerationRequest("a river")
LOST = TransportError("ClientConnectorError: Cannot connect to host", delivered="no")


@pytest.fixture
def said():
    return []


@pytest.fixture
def news(said):
    lines = {id(REQUEST): Line(7, REQUEST)}
    return News(lambda text, style: said.append(text), lambda request: lines.get(id(request)))


def refused(reason):
    error = BadRequestError(400, reason, code="bad")
    return Outcome(state="rejected", request=REQUEST, line=7, error=error)


async def test_a_saved_video_is_told_with_its_line_and_its_place(news, said):
    told = {"key": "k", "request_id": "req_1", "path": Path("videos/7.mp4"), "size": 9}
    news.hear(VideoSaved(at=1.0, request=REQUEST, **told))
    news.hear(VideoSaved(at=1.0, request=None, **told))
    assert said == ["line 7 saved: videos/7.mp4", "job req_1 saved: videos/7.mp4"]


async def test_retries_throttling_and_limits_are_told(news, said):
    news.hear(RequestRetried(at=1.0, operation="submit", error=LOST, delay=0.5))
    broken = TransportError(
        "the download of job req_1 broke off: https://cdn.example/v.mp4: 3 bytes", delivered="maybe"
    )
    news.hear(RequestRetried(at=1.0, operation="download", error=broken, delay=0.5))
    news.hear(RequestThrottled(at=1.0, operation="submit", retry_after=2.0))
    page = ServerError(502, "<!doctype html><html><head>")
    news.hear(PollFailed(at=1.0, key="k", request_id="req_1", request=REQUEST, error=page))
    news.hear(LimitsChanged(at=1.0, operation="submit", held_for=0.0, rate=5.0, limit=3, noise=0.0))
    assert said == [
        "a submit did not get through, and is sent again: "
        "ClientConnectorError: Cannot connect to host",
        "the download of job req_1 broke off: 3 bytes; it goes on",
        "the server refuses submits for 2 s (rate limit); they are sent again",
        "the state of line 7 could not be read, and is asked for again: HTTP 502",
        "the server seems to allow 5 submits a second and 3 jobs at once",
    ]


async def test_equal_news_are_told_once_in_a_while_with_their_number(news, said):
    for _ in range(20):
        news.settled(refused("Invalid API key"))
    news.settled(refused("another reason"))
    assert said == [
        "line 7 was refused, nothing charged: HTTP 400 bad: Invalid API key",
        "line 7 was refused, nothing charged: HTTP 400 bad: another reason",
    ]
    await asyncio.sleep(11)
    news.settled(refused("Invalid API key"))
    assert said[2] == f"{said[0]} (19 more like it since)"


async def test_what_went_well_or_was_never_sent_is_no_news_of_its_own(news, said):
    news.settled(Outcome(state="succeeded", line=7, file=Path("7.mp4")))
    news.settled(Outcome(state="not_submitted", line=7, error=LOST))
    assert said == []


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"held_for": 6.4}, "submits are held back for 6 s"),
        ({"held_for": math.inf}, "submits are held back"),
        ({"noise": 0.06}, "it refuses 6% of submits by chance"),
        ({}, "submits are sent as usual again: no limit is known"),
    ],
)
async def test_what_holds_calls_back_is_told_in_words(news, said, changed, told):
    known = {"held_for": 0.0, "rate": None, "limit": None, "noise": 0.0} | changed
    news.hear(LimitsChanged(at=1.0, operation="submit", **known))
    assert said == [told]
