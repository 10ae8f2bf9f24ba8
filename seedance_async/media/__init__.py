"""Media on this machine and in buckets.

Reference media are brought to where the API can fetch them, and videos are put where they are
wanted.

The uploaders are an `uploader` for `SeedanceSession`; an async function of a `LocalMedium` that
returns a URL is one, too. `StoredObject` is a place for `Job.download`.

Modules that are imported by name: `sidecar` reads and writes how a video came to be, `tags` the
same within the video. With the extra `media`, `fitting` fits the pictures of a request to its
aspect ratio, `frames` takes single frames of a clip, `joining` joins clips, and `sheet` shows many
on one picture.
"""

from seedance_async.api.local_media import LocalMedium, Uploader
from seedance_async.jobs.downloads.video_stream import VideoStream, VideoTarget
from seedance_async.media.emulator_uploader import EmulatorUploader
from seedance_async.media.results_store import StoredObject, StoreFolder
from seedance_async.media.store_uploader import StoreUploader

__all__ = [
    "EmulatorUploader",
    "LocalMedium",
    "StoreFolder",
    "StoreUploader",
    "StoredObject",
    "Uploader",
    "VideoStream",
    "VideoTarget",
]
