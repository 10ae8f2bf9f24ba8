"""The gallery: one page to look at the videos of a folder, to compare them and to choose.

It gets `Shot` values and knows no folder, no journal and no command line.
"""

from seedance_async.media.gallery.live import LiveGallery
from seedance_async.media.gallery.page import Gallery, page
from seedance_async.media.gallery.server import is_loopback, serve
from seedance_async.media.gallery.shots import Shot

__all__ = ["Gallery", "LiveGallery", "Shot", "is_loopback", "page", "serve"]
