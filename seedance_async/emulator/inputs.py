"""Reference media that programs on this machine give the emulator, which serves them.

The vendor has no such route: there, media must be on the public internet. `EmulatorUploader` of the
SDK uses it in place of a bucket.
"""

import asyncio
import hashlib
import mimetypes
import re
from collections import Counter
from pathlib import Path

from aiohttp import web

from seedance_async.emulator.state import State

INPUT_PATH = "/media/inputs/"
_HASH = re.compile(r"[0-9a-f]{64}")


class Inputs:
    """PUT ``/_emulator/inputs/{sha256}/{name}`` stores a file, and tells where it is served.

    Args:
        state: the emulator's.
        folder: where the files are kept.

    Attributes:
        uploads: how often each content was uploaded, by its hash.
    """

    def __init__(self, state: State, folder: Path) -> None:
        self._state, self._folder = state, folder
        self.uploads: Counter[str] = Counter()

    def add_routes(self, app: web.Application) -> None:
        """Add the two routes."""
        app.router.add_put("/_emulator/inputs/{sha256}/{name}", self._store)
        app.router.add_get(INPUT_PATH + "{sha256}/{name}", self._serve)

    async def _store(self, request: web.Request) -> web.Response:
        sha256, name = request.match_info["sha256"], request.match_info["name"]
        data = bytearray()
        async for piece in request.content.iter_chunked(1 << 16):
            data += piece
        found = await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())
        if not _HASH.fullmatch(sha256) or found != sha256:
            return web.json_response({"error": "the content has another hash"}, status=400)
        self.uploads[sha256] += 1
        await asyncio.to_thread((self._folder / sha256).write_bytes, data)
        place = request.rel_url.raw_path.rpartition("/inputs/")[2]
        return web.json_response({"url": f"{self._state.origin}{INPUT_PATH}{place}", "name": name})

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        sha256 = request.match_info["sha256"]
        path = self._folder / sha256
        if not _HASH.fullmatch(sha256) or not await asyncio.to_thread(path.is_file):
            raise web.HTTPNotFound(text="no such input")
        kind = mimetypes.guess_type(request.path)[0] or "application/octet-stream"
        return web.FileResponse(path, headers={"Content-Type": kind})
