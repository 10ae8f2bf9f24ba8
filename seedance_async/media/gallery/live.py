"""Shots that change: which are new or different since a version of the page, and which are gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

from seedance_async.media.gallery.page import Gallery, page, script_json
from seedance_async.media.gallery.shots import Shot

#: Seconds between two looks at the folder.
EVERY = 0.5


class LiveGallery:
    """A page whose shots are read again whenever their source has changed.

    Args:
        title: the page's.
        read: all shots; it blocks, and may raise, which leaves the page as it is.
        signature: what differs once `read` would find something else; cheap.
        redacted: takes secrets out of text that is about to be sent.
    """

    def __init__(
        self,
        title: str,
        read: Callable[[], Sequence[Shot]],
        signature: Callable[[], object],
        *,
        redacted: Callable[[str], str] = str,
    ) -> None:
        self.title, self.redacted = title, redacted
        self._read, self._signature = read, signature
        self._seen: object = None
        # Versions of a server that was started later are higher, so that a page that was open
        # meanwhile is told everything.
        self._first = self.version = time.time_ns() // 1_000_000
        self._shots: dict[str, Shot] = {}
        self._changed: dict[str, int] = {}
        self._files: dict[str, Path] = {}
        self._news = asyncio.Condition()

    async def watch(self) -> None:
        """Look at the source for ever, most of the time asleep, however long a look takes."""
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            await self.refresh()
            await asyncio.sleep(max(EVERY, 5 * (clock() - began)))

    async def refresh(self) -> None:
        """Read the shots again if their source has changed."""
        signature = await asyncio.to_thread(self._signature)
        if signature == self._seen:
            return
        try:
            shots = await asyncio.to_thread(self._read)
        except Exception:  # a journal in the making, say; the next look comes soon
            return
        self._seen = signature
        await self._take({shot.id: shot for shot in shots})

    async def _take(self, shots: dict[str, Shot]) -> None:
        names = self._shots.keys() | shots.keys()
        changed = {name for name in names if self._shots.get(name) != shots.get(name)}
        if not changed:
            return
        self.version += 1
        self._changed.update(dict.fromkeys(changed, self.version))
        self._shots = shots
        async with self._news:
            self._news.notify_all()

    def page(self, events: str) -> str:
        """The document as of now; its changes come from the URL `events`."""
        gallery = Gallery(self.title, self.version, events)
        return self.redacted(page(gallery, self._shots.values(), self.address))

    async def wait(self, version: int) -> None:
        """Until there is something that a page of this version does not know."""
        async with self._news:
            await self._news.wait_for(lambda: self.version != version)

    def changes(self, since: int) -> str:
        """What a page of the version `since` does not know, as JSON on one line."""
        is_ours = self._first <= since <= self.version
        names = [n for n, at in self._changed.items() if not is_ours or at > since]
        known = [self._shots[name] for name in names if name in self._shots]
        news: dict[str, Any] = {
            "version": self.version,
            "all": not is_ours,
            "shots": [shot.as_data(self.address) for shot in known],
            "gone": [name for name in names if name not in self._shots],
        }
        return self.redacted(script_json(news))

    def address(self, file: Path) -> str:
        """The URL of a file. Only files that have one are served."""
        name = f"{sha256(str(file).encode('utf-8', 'surrogateescape')).hexdigest()[:16]}"
        self._files[name] = file
        return f"files/{name}/{quote(file.name.encode('utf-8', 'surrogateescape'))}"

    def file(self, name: str) -> Path | None:
        """The file of a URL that `address` gave."""
        return self._files.get(name)
