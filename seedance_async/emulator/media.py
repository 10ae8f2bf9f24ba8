"""Media: the output files, their cache on disk and the expiring signatures of their URLs.

Files are rendered on a small thread pool at the first request for each, and removed on close.
Nothing here knows about HTTP.
"""

import asyncio
import hashlib
import hmac
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from attrs import frozen

from seedance_async.emulator.jobs import SimulatedJob
from seedance_async.emulator.render import Picture, render
from seedance_async.emulator.samples import SAMPLES, Writer

OUTPUT_PATH = "/media/open-api-results/"
_THREADS = 2
_IMAGE = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")


def mode(body: Mapping[str, Any]) -> str:
    """The mode that the server infers from the number and type of the media.

    "Image to Video", introduction and examples; the listed file extensions are the common ones.
    """
    urls = body.get("mediaUrls") or []
    if not urls:
        return "text to video"
    images = all(urlsplit(url).path.lower().endswith(_IMAGE) for url in urls)
    if images and len(urls) <= 2:
        return "first frame" if len(urls) == 1 else "first and last frame"
    return "multimodal reference"


@frozen
class MediaFile:
    """A file that is ready to be served."""

    path: Path
    size: int
    etag: str

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from ``start`` up to but not including ``stop``. Blocks."""
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(stop - start)


class Media:
    """The output files of jobs.

    Args:
        shared: one small clip for all jobs of the same format and duration, for load tests.
        ttl: virtual seconds for which an output URL is valid; ``None``: it does not expire.
        secret: signs the URLs.
        keep: how many files stay on disk; the least recently requested one is removed.
    """

    def __init__(self, *, shared: bool, ttl: float | None, secret: bytes, keep: int = 512) -> None:
        self._keep = keep
        self._shared, self._ttl, self._secret = shared, ttl, secret
        self._folder = Path(tempfile.mkdtemp(prefix="seedance-emulator-"))
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="seedance-render")
        self._files: OrderedDict[str, asyncio.Future[MediaFile]] = OrderedDict()
        self._stopped = threading.Event()

    # -- URLs ------------------------------------------------------------------------------

    def output_path(self, request_id: str, now: float) -> str:
        """Path and query of a job's output, signed if URLs expire. ``now`` is virtual."""
        path = f"{OUTPUT_PATH}{quote(request_id, safe='')}.mp4"
        if self._ttl is None:
            return path
        expires = f"{now + self._ttl:.3f}"
        signed = {"expires": expires, "signature": self._signature(request_id, expires)}
        return f"{path}?{urlencode(signed)}"

    def may_read(self, request_id: str, query: Mapping[str, str], now: float) -> bool:
        """Whether the signature in the query is valid and has not expired."""
        if self._ttl is None:
            return True
        expires, given = query.get("expires", ""), query.get("signature", "")
        right = self._signature(request_id, expires)
        if not hmac.compare_digest(given.encode("utf-8", "replace"), right.encode()):
            return False
        return float(expires) > now

    def _signature(self, request_id: str, expires: str) -> str:
        message = f"{request_id}\n{expires}".encode("utf-8", "surrogatepass")
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()[:32]

    # -- files -----------------------------------------------------------------------------

    async def output(self, job: SimulatedJob) -> MediaFile:
        """The file of a job, rendered if it does not exist yet."""
        resolution, ratio = job.setting("resolution"), job.setting("aspectRatio")
        duration = int(job.setting("duration"))
        if self._shared:
            title = f"Shared clip: {duration} s, {resolution}, {ratio}"
            picture = Picture(title, "", "240p", ratio, duration)
            return await self.file(title, _rendering(picture))
        caption = f"{job.request_id} · {mode(job.body)} · {job.setting('model')} · {duration} s"
        picture = Picture(job.prompt, caption, resolution, ratio, duration)
        return await self.file(job.request_id, _rendering(picture))

    async def sample(self, name: str) -> MediaFile | None:
        """The sample of reference media of that name, if there is one."""
        make = SAMPLES.get(name)
        return None if make is None else await self.file(f"sample {name}", make)

    async def file(self, key: str, write: Writer) -> MediaFile:
        """The file of that key; it is written at the first request for it."""
        future = self._files.get(key)
        if future is None or _failed(future):
            loop = asyncio.get_running_loop()
            future = loop.run_in_executor(self._pool, self._make, key, write)
            self._files[key] = future
            if len(self._files) > self._keep:
                self._forget_oldest()
        self._files.move_to_end(key)
        return await asyncio.shield(future)

    def _forget_oldest(self) -> None:
        _, oldest = self._files.popitem(last=False)
        oldest.add_done_callback(_remove)

    def _make(self, key: str, write: Writer) -> MediaFile:
        name = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        path = self._folder / name
        write(path, self._stopped.is_set)
        content = path.read_bytes()
        return MediaFile(path, len(content), f'"{hashlib.sha256(content).hexdigest()[:32]}"')

    async def close(self) -> None:
        """Stop rendering and remove the files."""
        self._stopped.set()
        await asyncio.to_thread(self._pool.shutdown, wait=True, cancel_futures=True)
        self._files.clear()
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)


def _rendering(picture: Picture) -> Writer:
    return lambda path, stopped: render(picture, path, stopped)


def _failed(made: "asyncio.Future[MediaFile]") -> bool:
    return made.done() and (made.cancelled() or made.exception() is not None)


def _remove(made: "asyncio.Future[MediaFile]") -> None:
    if not _failed(made):
        made.result().path.unlink(missing_ok=True)
