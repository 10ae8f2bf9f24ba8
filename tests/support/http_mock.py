"""aioresponses, made to work with aiohttp releases newer than it knows.

Newer `ClientResponse`s need a `stream_writer`, which aioresponses 0.7.9 does not pass.
"""

import inspect
from unittest.mock import Mock

from aiohttp import ClientResponse
from aioresponses import aioresponses


class _Response(ClientResponse):
    def __init__(self, *arguments, **named):
        if "stream_writer" in inspect.signature(ClientResponse).parameters:
            named.setdefault("stream_writer", Mock())
        super().__init__(*arguments, **named)


class MockedHTTP(aioresponses):
    """`aioresponses` with a response class of today."""

    def add(self, *arguments, **named):
        named.setdefault("response_class", _Response)
        super().add(*arguments, **named)

    @property
    def calls(self):
        """All requests that were made, those to one URL in order."""
        return [call for calls in self.requests.values() for call in calls]

    @property
    def call_count(self):
        """How many requests were made in all."""
        return len(self.calls)
