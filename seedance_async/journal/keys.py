"""Keys of jobs: the same request gets the same key in every run and every process.

`fingerprint` tells whether two requests are equal. `Occurrences` numbers the equal requests of one
run, so that each has its own key and gets that key again when the run is repeated.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator

from seedance_async.api.prepared_request import MediaKey, dump_request, fingerprint_of
from seedance_async.api.request import GenerationRequest
from seedance_async.journal.entry import JournalEntry


def fingerprint(request: GenerationRequest, *, media_key: MediaKey | None = None) -> str:
    """32 hexadecimal characters, the same for equal requests in every process.

    The order of the keys in the metadata makes no difference.

    Args:
        request: a valid request.
        media_key: see `SessionOptions`.

    Raises:
        TypeError, ValueError: the request cannot be written as JSON, or `media_key` gave something
            else than text.
    """
    return fingerprint_of(dump_request(request), media_key)


class Occurrences:
    """Counts the equal requests of one run, to give each its own key."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._released: dict[str, list[int]] = {}

    def __repr__(self) -> str:
        return f"<Occurrences of {len(self._counts)} fingerprints>"

    def key(self, fingerprint: str) -> str:
        """The key of the next request with this fingerprint: `"<fingerprint>-1"`, then `-2`, ….

        A key that was released comes first, the lowest of them.
        """
        released = self._released.get(fingerprint)
        if released:
            return f"{fingerprint}-{heapq.heappop(released)}"
        self._counts[fingerprint] += 1
        return f"{fingerprint}-{self._counts[fingerprint]}"

    def release(self, key: str) -> None:
        """Let the next equal request have this key again; a key not made here is ignored."""
        fingerprint, _, number = key.rpartition("-")
        if not number.isdecimal() or not 1 <= int(number) <= self._counts.get(fingerprint, 0):
            return
        released = self._released.setdefault(fingerprint, [])
        if int(number) not in released:
            heapq.heappush(released, int(number))

    def take(self, key: str) -> None:
        """A key is used by its name: it is not given to another request."""
        fingerprint, _, number = key.rpartition("-")
        released = self._released.get(fingerprint, [])
        if number.isdecimal() and int(number) in released:
            released.remove(int(number))
            heapq.heapify(released)


def match_entries(
    entries: Iterable[JournalEntry],
    requests: Iterable[GenerationRequest | tuple[str, GenerationRequest]],
    *,
    media_key: MediaKey | None = None,
) -> list[JournalEntry | None]:
    """The entry of each request of a run, in the order of the requests; None for a new one.

    Args:
        entries: the journal's.
        requests: a request may come with a key of the caller's own, as a pair.
        media_key: see `SessionOptions`.
    """
    by_key = {entry.key: entry for entry in entries}
    return [by_key.get(key) for key in keys_of(requests, media_key=media_key)]


def keys_of(
    requests: Iterable[GenerationRequest | tuple[str, GenerationRequest]],
    *,
    media_key: MediaKey | None = None,
) -> Iterator[str]:
    """The key of each request of a run, as a session gives it; the arguments as above."""
    occurrences = Occurrences()
    for item in requests:
        if isinstance(item, tuple):
            yield item[0]
        else:
            yield occurrences.key(fingerprint(item, media_key=media_key))
