"""The `Transport` seam: all that the SDK needs of an HTTP library."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import attrs

from seedance_async.api.protocol import WireRequest, WireResponse


@attrs.frozen(eq=False, repr=False)
class MediaResponse:
    """The answer to a media request: status, headers in lower case, and the body in pieces."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


class Transport(Protocol):
    """What the SDK needs of an HTTP library. A test double is one small class.

    A transport with the attribute `reports_sending = True` promises to call `on_sent` before the
    first byte of each request. Without it a submit counts as sent from its start, so that one that
    is cancelled or fails in an unknown way is uncertain, and not free to be sent again.
    """

    async def send(
        self, request: WireRequest, *, on_sent: Callable[[], None] | None = None
    ) -> WireResponse:
        """Send one API request, once.

        Args:
            request: what to send.
            on_sent: called when the first byte of the request may be on its way, or before. If it
                raises, nothing must be sent, and its error is raised.

        Raises:
            TransportError: there is no status line; `delivered` says whether the server can have
                seen the request.
        """

    def open_media(
        self, url: str, headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[MediaResponse]:
        """GET a media URL without credentials.

        Raises:
            TransportError: it cannot be reached, or must not be.
        """

    async def aclose(self) -> None:
        """Close all connections."""
