"""Reference media on this machine, brought to where the API can fetch them.

Each class here is an `uploader` for `SeedanceSession`; an async function of a `LocalMedium` that
returns a URL is one, too.
"""

from seedance_async.api.local_media import LocalMedium, Uploader
from seedance_async.media.emulator_uploader import EmulatorUploader
from seedance_async.media.store_uploader import StoreUploader

__all__ = ["EmulatorUploader", "LocalMedium", "StoreUploader", "Uploader"]
