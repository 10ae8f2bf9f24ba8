"""Videos kept in a bucket, or wherever else an obstore store puts them: whole or absent.

A video is streamed through in parts, a few of which are in memory at a time. It gets its name once
all of it is there; until then nobody sees any of it. An object says which job it belongs to, so
that one that was put right before its process was killed is not fetched again.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import attrs

from seedance_async.api.errors import ConfigurationError, DownloadError, SeedanceError
from seedance_async.jobs.downloads.part_file import safe_file_stem
from seedance_async.jobs.downloads.video_stream import VideoStream
from seedance_async.jobs.registry import SavedFile
from seedance_async.media.multipart import in_parts, put_parts
from seedance_async.media.process_end import wait_for_threads_at_exit

if TYPE_CHECKING:
    from obstore import Attributes, GetResult
    from obstore.store import ObjectStore

#: The name, in an object's metadata, of the job that it belongs to. Azure takes only letters.
_JOB = "seedancejob"

#: Seconds for the first request. Without credentials, it asks a machine's role for some.
_PATIENCE = 30.0

_KNOWN = "s3://bucket/prefix/, gs://bucket/prefix/, az://container/prefix/ or file:///folder/"


def _check_key(_place: object, _field: object, key: str) -> None:
    """Refuse, before anything is paid, a key that a store would refuse, or keep under another."""
    if not key.strip() or not {"", ".", ".."}.isdisjoint(key.removeprefix("/").split("/")):
        raise ValueError(
            f"{key!r} names no object: a key must not be blank, must not end with a slash, and "
            "must not have //, . or .. in it"
        )


@attrs.frozen(eq=False, repr=False)
class StoredObject:
    """A place for one video in a store: `job.download(StoredObject(store, "films/river.mp4"))`.

    Needs the extra `storage`, and credentials that may read what they put.

    Args:
        store: an obstore store.
        key: the object's name, after the prefix of the store if it has one.
        url: what is recorded as the video's place; by default it is made from the store.

    Raises:
        ValueError: the key names no object: it is blank, ends with a slash, or has `//`, `.` or
            `..` in it.
    """

    store: ObjectStore
    key: str = attrs.field(validator=_check_key)
    url: str = attrs.field(default=attrs.Factory(lambda self: _url(self), takes_self=True))

    def __repr__(self) -> str:
        return f"<StoredObject {self.url}>"

    async def save(self, video: VideoStream, *, overwrite: bool) -> SavedFile:
        """Put a job's video there, unless it is there already.

        Raises:
            DownloadError: it was not put, or another object is there and must not be replaced.
        """
        try:
            return await self._save(video, overwrite)
        except SeedanceError:
            raise
        except Exception as error:
            raise self._error(reason(error), video) from error

    async def is_of_another(self, request_id: str) -> bool:
        """Whether an object is there that is not marked as the video of this job.

        Raises:
            DownloadError: the store cannot be asked.
        """
        try:
            there = await self._get(head=True)
        except Exception as error:
            raise DownloadError(reason(error), request_id=request_id, url=self.url) from error
        return there is not None and there.attributes.get(_JOB) != safe_file_stem(request_id)

    async def _save(self, video: VideoStream, overwrite: bool) -> SavedFile:
        there = await self._get(head=True)
        if there is not None and there.attributes.get(_JOB) == _job(video):
            return await self._read_back()
        if there is not None and not overwrite:
            raise self._error("an object is there; pass overwrite=True to replace it", video)
        return await self._put(video)

    async def _put(self, video: VideoStream) -> SavedFile:
        put = await put_parts(self.store, self.key, in_parts(video), self._marks(video))
        await self._check(put["e_tag"], video)
        return SavedFile.at(self.url, video.size, video.sha256)

    async def _check(self, etag: str | None, video: VideoStream) -> None:
        """Check that what is there now is what was put, and as long. S3 checks what is in it.

        A store of S3 is sent the SHA-256 of each part, unless that was switched off, and refuses
        a part that is not the same.
        """
        import obstore

        there = await self._get(head=True)
        if there is None or there.meta["e_tag"] not in (etag, None):
            raise self._error("somebody else has changed it", video)
        if there.meta["size"] != video.size:
            await obstore.delete_async(self.store, self.key)
            raise self._error("the store has something else than what was put", video)

    async def _read_back(self) -> SavedFile:
        """What is there, by its content, a piece of which is in memory at a time."""
        there = await self._get()
        assert there is not None
        size, digest = 0, hashlib.sha256()
        async for piece in there:
            size += len(piece)
            await asyncio.to_thread(digest.update, piece)
        return SavedFile.at(self.url, size, digest.hexdigest())

    async def _get(self, *, head: bool = False) -> GetResult | None:
        import obstore

        wait_for_threads_at_exit()
        try:
            return await obstore.get_async(self.store, self.key, options={"head": head})
        except FileNotFoundError:
            return None

    def _marks(self, video: VideoStream) -> Attributes | None:
        from obstore.store import LocalStore

        if isinstance(self.store, LocalStore):  # a file system has no place for them
            return None
        return {"Content-Type": "video/mp4", _JOB: _job(video)}

    def _error(self, message: str, video: VideoStream) -> DownloadError:
        return DownloadError(message, request_id=video.request_id, url=self.url)


class StoreFolder:
    """A bucket, and a prefix in it, used as a folder for videos.

    Needs the extra `storage`. Credentials come from where obstore finds them: the environment, such
    as `AWS_ACCESS_KEY_ID`, or the machine's role.

    Args:
        url: `s3://bucket/prefix/`, `gs://…`, `az://…`, or `file:///folder/`, which is made.
        options: of obstore's store for the URL, such as `endpoint` and `region`.

    Attributes:
        url: with a slash at its end.

    Raises:
        ConfigurationError: obstore is not installed, or the URL is none that it takes.
    """

    def __init__(self, url: str, **options: Any) -> None:
        self.url = url.rstrip("/") + "/"
        self._store = _store_at(url, options)
        wait_for_threads_at_exit()

    def __repr__(self) -> str:
        return f"<StoreFolder {self.url}>"

    def file(self, name: str) -> StoredObject:
        """The object with a name in this folder."""
        return StoredObject(self._store, name, f"{self.url}{name}")

    async def put(self, name: str, data: bytes) -> None:
        """Put a small object, in place of what has the name.

        Raises:
            Exception: what obstore raises.
        """
        import obstore

        await obstore.put_async(self._store, name, data)

    async def read(self, name: str) -> bytes:
        """The content of a small object.

        Raises:
            Exception: what obstore raises; FileNotFoundError if there is none.
        """
        import obstore

        return bytes(await (await obstore.get_async(self._store, name)).bytes_async())

    async def sizes(self) -> dict[str, int]:
        """The size of each object in this folder, by name; folders in it are left out.

        Raises:
            ConfigurationError: the bucket cannot be read.
        """
        import obstore

        try:
            found = await obstore.list_with_delimiter_async(self._store)
        except Exception as error:
            raise ConfigurationError(f"{self.url} cannot be read: {reason(error)}") from error
        return {meta["path"]: meta["size"] for meta in found["objects"]}

    async def check_writable(self) -> None:
        """Put an empty object, and remove it.

        Raises:
            ConfigurationError: the bucket cannot be written.
        """
        import obstore

        name = f".seedance-{secrets.token_hex(8)}"
        try:
            async with asyncio.timeout(_PATIENCE):
                await obstore.put_async(self._store, name, b"")
        except TimeoutError:
            message = f"{self.url} has not answered within {_PATIENCE:.0f} s: check the credentials"
            raise ConfigurationError(f"{message}, the region and the endpoint") from None
        except Exception as error:
            raise ConfigurationError(f"{self.url} cannot be written: {reason(error)}") from error
        try:
            await obstore.delete_async(self._store, name)
        except Exception:  # whoever may put need not be allowed to remove
            return


def reason(error: Exception) -> str:
    """What a store's error says, in a line, without what a URL may have of credentials."""
    first = (str(error) or repr(error)).split("\n", 1)[0]
    return re.sub(r"(://[^\s?]*)\?\S*", r"\1", first)[:300]


def _job(video: VideoStream) -> str:
    """The id of a video's job; what no header could hold is replaced by its hash."""
    return safe_file_stem(video.request_id)


def _store_at(url: str, options: dict[str, Any]) -> ObjectStore:
    try:
        from obstore.store import from_url
    except ImportError:
        raise ConfigurationError(
            "videos in a bucket need obstore: pip install 'seedance-async[storage]'"
        ) from None
    if urlsplit(url).scheme == "file":
        options = {"mkdir": True, **options}
    try:
        return from_url(url, **options)
    except Exception as error:
        message = f"{url!r} cannot be used: {reason(error)}; a bucket is {_KNOWN}"
        raise ConfigurationError(message) from error


def _url(place: StoredObject) -> str:
    """The URL of an object, as far as its store says where it is."""
    from obstore.store import AzureStore, GCSStore, LocalStore, S3Store

    store, prefix = place.store, getattr(place.store, "prefix", None)
    match store:
        case S3Store():
            root = f"s3://{store.config['bucket']}"
        case GCSStore():
            root = f"gs://{store.config['bucket']}"
        case AzureStore():
            root = f"az://{store.config['container_name']}"
        case LocalStore():
            root, prefix = Path(prefix or "/").absolute().as_uri(), None
        case _:
            root = "store://"
    return "/".join(filter(None, [root, str(prefix or "").strip("/"), place.key]))
