"""Uploads to an emulator on this machine, which serves what it was given."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from urllib.parse import quote

from seedance_async.api.errors import ConfigurationError
from seedance_async.api.local_media import LocalMedium

#: Seconds that one upload may take.
_SECONDS = 60.0


class EmulatorUploader:
    """An uploader for work against the emulator, and for nothing else: it takes no key.

    Args:
        url: the emulator's origin.

    Raises:
        ConfigurationError: the URL is none of HTTP.
    """

    def __init__(self, url: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigurationError(f"url must be the emulator's, http://…, not {url!r}")
        self._url = url.rstrip("/")

    def __repr__(self) -> str:
        return f"<EmulatorUploader {self._url}>"

    async def __call__(self, medium: LocalMedium) -> str:
        """Upload a medium.

        Returns:
            Its URL.

        Raises:
            OSError: the emulator cannot be reached, or has refused it.
            ValueError: the file was changed since it was checked.
        """
        return await asyncio.to_thread(self._put, medium)

    def _put(self, medium: LocalMedium) -> str:
        name = quote(medium.name, safe="", errors="replace")
        request = urllib.request.Request(  # noqa: S310 - the scheme is checked above
            f"{self._url}/_emulator/inputs/{medium.sha256}/{name}",
            data=medium.read(),
            headers={"Content-Type": medium.content_type},
            method="PUT",
        )
        with _opener.open(request, timeout=_SECONDS) as answer:
            url: str = json.load(answer)["url"]
        return url


_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is on this machine
