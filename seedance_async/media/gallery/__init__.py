"""The gallery: one page to look at the videos of a folder, to compare them and to choose.

It gets `Shot` values and knows no folder, no journal and no command line. `server`, which serves a
`LiveGallery`, is imported by who needs it: it takes a while.
"""

from seedance_async.media.gallery.live import LiveGallery
from seedance_async.media.gallery.page import Gallery, page
from seedance_async.media.gallery.shots import Shot

__all__ = ["Gallery", "LiveGallery", "Shot", "page"]
