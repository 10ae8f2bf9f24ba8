"""Media on this machine, uploaded before the request that names them is sent: each content once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from seedance_async._utils.plural import counted
from seedance_async._utils.urls import broken_url_rule
from seedance_async.api.errors import MediaUploadError
from seedance_async.api.local_media import (
    LocalMedium,
    LocalSource,
    Uploader,
    is_local,
    local_medium,
)
from seedance_async.api.prepared_request import PreparedRequest
from seedance_async.api.request import GenerationRequest

#: Seconds for which a URL is used again. It may be signed, and has to outlive the job's queue.
KEPT_SECONDS = 3600.0

#: Seconds that one upload may take: a large video, over a slow line.
UPLOAD_SECONDS = 1800.0

#: Seconds for which the end of a session waits for uploads that it has cancelled.
CLOSE_SECONDS = 2.0

_log = logging.getLogger(__name__)


class Uploads:
    """The uploads of a session.

    Args:
        uploader: the user's.
        allow_local: whether it may return URLs of this machine.
    """

    def __init__(self, uploader: Uploader, *, allow_local: bool) -> None:
        self._uploader, self._allow_local = uploader, allow_local
        self._urls: dict[str, tuple[float, asyncio.Task[str]]] = {}
        self._closed: asyncio.Future[None] | None = None

    async def read(self, request: object) -> None:
        """Read the media of a request in a thread, so that checking it does not block the loop."""
        media = request.media_urls if isinstance(request, GenerationRequest) else ()
        media = media if isinstance(media, tuple) else ()  # the rules refuse the rest
        local = [each for each in media if is_local(each) and not isinstance(each, bytes)]
        if local:
            await asyncio.to_thread(_read_all, local)

    async def placed(self, prepared: PreparedRequest) -> PreparedRequest:
        """The request with the URLs of its media, as it is sent.

        Raises:
            MediaUploadError: one of them could not be uploaded.
        """
        urls = await asyncio.gather(*map(self.url, prepared.local.values()))
        return prepared.with_media(dict(zip(prepared.local, urls, strict=True)))

    async def url(self, medium: LocalMedium) -> str:
        """Where a medium is. Jobs that need it at once wait for one upload.

        Raises:
            MediaUploadError: it could not be uploaded.
        """
        loop = asyncio.get_running_loop()
        now, self._closed = loop.time(), self._closed or loop.create_future()
        until, uploading = self._urls.get(medium.sha256, (now, None))
        if uploading is None or now >= until:
            uploading = asyncio.create_task(self._upload(medium), name="seedance-upload")
            uploading.add_done_callback(_retrieve)  # perhaps nobody waits for it any more
            self._urls[medium.sha256] = now + KEPT_SECONDS, uploading
        either: list[asyncio.Future[Any]] = [uploading, self._closed]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if self._closed.done():
            raise MediaUploadError(medium.name, "the session is closed")
        try:
            return uploading.result()
        except BaseException as error:
            if self._urls.get(medium.sha256, (now, None))[1] is uploading:
                del self._urls[medium.sha256]  # the next job tries again
            if isinstance(error, MediaUploadError):
                raise MediaUploadError(medium.name, error.reason) from error.__cause__
            if isinstance(error, asyncio.CancelledError):  # nobody has cancelled the caller
                raise MediaUploadError(medium.name, "the uploader was cancelled") from None
            raise

    async def _upload(self, medium: LocalMedium) -> str:
        try:
            async with asyncio.timeout(UPLOAD_SECONDS):
                url = await self._uploader(medium)
        except TimeoutError as error:
            reason = f"it took more than {UPLOAD_SECONDS:.0f} s"
            raise MediaUploadError(medium.name, str(error) or reason) from error
        except Exception as error:
            raise MediaUploadError(medium.name, str(error) or repr(error)) from error
        if not isinstance(url, str):
            raise MediaUploadError(medium.name, f"the uploader returned {url!r:.80}, and no URL")
        rule = broken_url_rule(url, allow_local=self._allow_local)
        if rule is not None:
            raise MediaUploadError(medium.name, f"the URL that the uploader returned {rule}")
        return url

    async def aclose(self) -> None:
        """End the uploads, and the waiting for them."""
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)
        tasks = [uploading for _, uploading in self._urls.values() if not uploading.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            _, stubborn = await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
            if stubborn:
                _log.warning("%s did not end when cancelled", counted(len(stubborn), "upload"))


def _retrieve(uploading: asyncio.Task[str]) -> None:
    if not uploading.cancelled():
        uploading.exception()


def _read_all(media: Sequence[LocalSource]) -> None:
    for each in media:
        with suppress(ValueError):  # the rules name it
            local_medium(each)
