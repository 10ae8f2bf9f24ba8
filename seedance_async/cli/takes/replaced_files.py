"""Lines whose files on this machine are others than those that their jobs were made with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from seedance_async import JobState, dump_request
from seedance_async.api.local_media import STAND_IN
from seedance_async.cli.inputs import Line
from seedance_async.cli.runs.journal_entries import request_of, state_of
from seedance_async.cli.takes.keys import split_key
from seedance_async.journal import JournalEntry


def with_replaced_files(takes: Iterable[Line], entries: Sequence[JournalEntry]) -> list[Line]:
    """The takes that would be made with other files than any job of their line so far.

    It reads the files, and blocks. What URLs give is not known here.

    Args:
        takes: what would be bought.
        entries: the journal's.

    Raises:
        ValueError: a file cannot be read.
    """
    local = {line.key: _files(dump_request(line.request).get("mediaUrls", ())) for line in takes}
    wanted = {split_key(key or "")[0] for key, files in local.items() if files}
    before: dict[str, list[list[str]]] = {}
    for entry in entries:
        line_key, _ = split_key(entry.key)
        if line_key in wanted and state_of(entry) is not JobState.REJECTED:
            before.setdefault(line_key, []).append(_files(request_of(entry).media_urls))
    return [
        line for line in takes if _is_new(local[line.key], before, split_key(line.key or "")[0])
    ]


def _is_new(files: list[str], before: Mapping[str, list[list[str]]], line_key: str) -> bool:
    return bool(files) and line_key in before and files not in before[line_key]


def _files(media: Iterable[Any]) -> list[str]:
    """What the files among media are known by, without their names."""
    texts = [each for each in media if isinstance(each, str)]
    return [each.partition("/")[0] for each in texts if each.startswith(STAND_IN)]
