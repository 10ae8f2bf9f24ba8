"""Uploads to a bucket: S3 and what speaks like it, Google Cloud Storage, Azure."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from seedance_async.api.errors import ConfigurationError
from seedance_async.api.local_media import LocalMedium
from seedance_async.media.process_end import wait_for_threads_at_exit

if TYPE_CHECKING:
    from obstore.store import AzureStore, GCSStore, S3Store

#: Seconds for which a URL is valid by default: a job may be queued for a day, and S3 allows a week.
EXPIRES = 2 * 86_400.0


class StoreUploader:
    """Puts each content into a bucket once, under its hash, and signs a URL for it.

    Needs the extra `storage`. Credentials come from where obstore finds them: the environment, such
    as `AWS_ACCESS_KEY_ID`, or the machine's role. It reads no profiles; a `store` with a credential
    provider can.

    Args:
        url: a bucket, and a prefix in it if there is to be one: `s3://bucket/prefix`, `gs://…`,
            `az://…`.
        store: an obstore store in place of the URL, for settings of one's own.
        prefix: before the names of the objects in `store`.
        expires: seconds for which a URL is valid; longer than any job may wait to begin.
        options: of obstore's store for the URL, such as `endpoint` and `region`.

    Raises:
        ConfigurationError: obstore is not installed, or the URL is no bucket.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        store: S3Store | GCSStore | AzureStore | None = None,
        prefix: str = "",
        expires: float = EXPIRES,
        **options: Any,
    ) -> None:
        if (url is None) == (store is None):
            raise ConfigurationError("give either the url of a bucket or a store")
        if url is not None:
            store, prefix = _store_of(url, options), urlsplit(url).path
        elif options:
            raise ConfigurationError(f"options are for a url, not for a store: {sorted(options)}")
        assert store is not None
        self._store, self._expires = store, timedelta(seconds=expires)
        wait_for_threads_at_exit()
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""

    def __repr__(self) -> str:
        return f"<StoreUploader {self._store!r} {self._prefix}>"

    async def __call__(self, medium: LocalMedium) -> str:
        """Upload a medium that is not there yet.

        Returns:
            A signed URL for it.

        Raises:
            Exception: what obstore raises, such as `obstore.exceptions.BaseError`.
            ValueError: the file was changed since it was checked.
        """
        import obstore

        path = f"{self._prefix}{medium.sha256}{PurePath(medium.name).suffix.lower()}"
        if not await self._is_there(path, medium.size):
            data = await asyncio.to_thread(medium.read)
            attributes = {"Content-Type": medium.content_type}
            await obstore.put_async(self._store, path, data, attributes=attributes)
        return await obstore.sign_async(self._store, "GET", path, self._expires)

    async def _is_there(self, path: str, size: int) -> bool:
        import obstore

        try:
            return (await obstore.head_async(self._store, path))["size"] == size
        except FileNotFoundError:
            return False


def _store_of(url: str, options: dict[str, Any]) -> S3Store | GCSStore | AzureStore:
    try:
        from obstore.store import AzureStore, GCSStore, S3Store
    except ImportError:
        raise ConfigurationError(
            "uploads to a bucket need obstore: pip install 'seedance-async[storage]'"
        ) from None
    parts = urlsplit(url)
    stores: dict[str, Any] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}
    if parts.scheme not in stores or not parts.netloc:
        known = "s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"
        raise ConfigurationError(f"a bucket is {known}, not {url!r}")
    try:
        store: S3Store | GCSStore | AzureStore = stores[parts.scheme](parts.netloc, **options)
    except Exception as error:
        raise ConfigurationError(f"{url!r} cannot be used: {error}") from error
    return store
