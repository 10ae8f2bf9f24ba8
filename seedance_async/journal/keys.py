"""The name of a request: the same in every process, however its fields were put together.

`fingerprint` tells whether two requests are the same one; `Occurrences` gives each of several
equal requests in one run a key of its own, the same ones again when the run is started again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from seedance_async.api.prepared_request import dump_request, fingerprint_of
from seedance_async.api.request import GenerationRequest
from seedance_async.journal.entry import JournalEntry


def fingerprint(request: GenerationRequest) -> str:
    """32 hexadecimal characters that are the same for equal requests, in every process.

    The order of the keys of its metadata makes no difference.

    Args:
        request: one that keeps the rules of a request; what is no JSON has no fingerprint.

    Raises:
        TypeError, ValueError: the request is no JSON.
    """
    return fingerprint_of(dump_request(request))


class Occurrences:
    """Counts equal requests of one run, so that each gets a key of its own."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Occurrences of {len(self._seen)} fingerprints>"

    def key(self, fingerprint: str) -> str:
        """The key of the next request with this fingerprint: `"<fingerprint>-1"`, then `-2`, …."""
        self._seen[fingerprint] += 1
        return f"{fingerprint}-{self._seen[fingerprint]}"


def match_entries(
    entries: Iterable[JournalEntry], requests: Iterable[GenerationRequest]
) -> list[JournalEntry | None]:
    """The entry that each request of a run will find, in their order; None for a new one."""
    by_key, occurrences = {entry.key: entry for entry in entries}, Occurrences()
    return [by_key.get(occurrences.key(fingerprint(request))) for request in requests]
