"""Jobs of earlier runs that an input would leave behind, to buy something like them again.

A changed option, prompt or URL makes a line another job, and so does a key that it did not have.
Jobs that may be running are left behind by any new line; those that have ended well, by a line with
their prompt and other options, or with their request and a key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from seedance_async import GenerationRequest, dump_request, without_query
from seedance_async._utils.plural import counted
from seedance_async.api.prepared_request import video_fingerprint_of
from seedance_async.cli.buying.asking import agrees
from seedance_async.cli.console import Screen
from seedance_async.cli.inputs import Line
from seedance_async.cli.runs.journal_entries import (
    KnownJobs,
    credits_charged,
    data_of,
    request_of,
    state_text,
)
from seedance_async.cli.takes.keys import has_automatic_key, split_key
from seedance_async.cli.text import shorten
from seedance_async.journal import JournalEntry

#: How many jobs, or changes, are shown one by one.
_SHOWN_JOBS, _SHOWN_CHANGES = 100, 5

#: A job of earlier runs, and a new line that is like it.
_Pair = tuple[JournalEntry, Line]


@attrs.frozen
class LeftBehind:
    """What some lines would leave behind, given a journal.

    Attributes:
        running: entries of jobs that may be running.
        changed: entries of jobs that have ended well, each with a new line of the same prompt.
        keyed: entries of jobs that may be running or have ended well, and were bought without a
            key, each with a new line of the same request that has one. They are in neither of the
            others.
        new: how many lines are new.
    """

    running: Sequence[JournalEntry]
    changed: Sequence[_Pair]
    keyed: Sequence[_Pair]
    new: int

    @classmethod
    def of(cls, lines: Sequence[Line], known: KnownJobs, named: Collection[int] = ()) -> LeftBehind:
        """What these lines would leave behind.

        Args:
            lines: of an input.
            known: what the journal knows.
            named: the numbers of the lines that have a key of their own: with a new one, a line is
                meant to be a new job, unless an equal one was bought without a key.
        """
        sent = known.sent_before(lines)
        new = [line for line in lines if line.place not in sent]
        unnamed = [line for line in new if line.number not in named]
        running, ended = known.unmatched(lines), known.replaced(lines)
        keyed = list(_keyed([*running, *ended], [each for each in new if each.number in named]))
        paired = {entry.key for entry, _ in keyed}
        running = [entry for entry in running if entry.key not in paired]
        ended = [entry for entry in ended if entry.key not in paired]
        return cls(running, list(_changed(ended, unnamed)), keyed, len(new))

    def texts(self) -> Iterator[str]:
        """What to know of them."""
        if self.keyed:
            yield from _keyed_texts(self.keyed)
        if self.running:
            yield (
                f"{counted(len(self.running), 'job')} of earlier runs may be running and paid for, "
                "and no line of this input is one of them:"
            )
            yield from _running_texts(self.running)
        if self.changed:
            jobs = counted(len(self.changed), "new job")
            yield f"{jobs} would be bought for prompts that were bought before with other options:"
            yield from _changes(self.changed)


def may_leave(left: LeftBehind, screen: Screen) -> bool:
    """Whether to buy the new lines although jobs are left behind; asks, if there are any."""
    if not (left.new and (left.running or left.changed or left.keyed)):
        return True
    for text in left.texts():
        screen.say(text, style="yellow")
    if left.running or left.changed:
        screen.say(
            "A changed line is another job. `seedance resume` waits for jobs and saves their "
            "videos without buying anything. A `key` column that a file has from its first run on "
            "keeps lines the same whatever changes, --signed-urls if only their signatures do."
        )
    return agrees(
        f"Buy {counted(left.new, 'new job')} and leave these?",
        "--leave-unmatched buys the new lines nevertheless.",
        screen,
    )


def _changed(entries: Sequence[JournalEntry], new: Sequence[Line]) -> Iterator[_Pair]:
    """Each of the entries with a new line of the same prompt, if there is one left."""
    return _pairs(
        entries, new, lambda entry: request_of(entry).prompt, lambda line: line.request.prompt
    )


def _keyed(entries: Sequence[JournalEntry], new: Sequence[Line]) -> Iterator[_Pair]:
    """Each of the entries without a key of its own with a new line that is the same but for one."""
    return _pairs(
        [entry for entry in entries if has_automatic_key(entry)],
        new,
        lambda entry: (_video(data_of(entry)), split_key(entry.key)[1]),
        lambda line: (_video(dump_request(line.request)), line.take),
    )


def _video(data: Mapping[str, Any]) -> str:
    """What tells a video by its request; as in `changed_fields`, signatures of URLs do not."""
    return video_fingerprint_of(data, without_query)


def _pairs(
    entries: Sequence[JournalEntry],
    new: Sequence[Line],
    of_entry: Callable[[JournalEntry], Hashable],
    of_line: Callable[[Line], Hashable],
) -> Iterator[_Pair]:
    """Each of the entries with a new line that is like it, if there is one left."""
    if not entries:
        return
    by_likeness: dict[Hashable, list[Line]] = {}
    for line in reversed(new):
        by_likeness.setdefault(of_line(line), []).append(line)
    for entry in entries:
        alike = by_likeness.get(of_entry(entry))
        if alike:
            yield entry, alike.pop()


def _running_texts(entries: Sequence[JournalEntry]) -> Iterator[str]:
    for entry in entries[:_SHOWN_JOBS]:
        prompt = shorten(request_of(entry).prompt, 40)
        yield f"  {entry.request_id or 'uncertain'} {state_text(entry.state)} “{prompt}”"
    if len(entries) > _SHOWN_JOBS:
        yield f"  … and {len(entries) - _SHOWN_JOBS:,} more"


def _keyed_texts(keyed: Sequence[_Pair]) -> Iterator[str]:
    credits = credits_charged(entry for entry, _ in keyed)
    cost = f", for {counted(credits, 'credit')}" if credits else ""
    if credits and any(entry.credits_charged is None for entry, _ in keyed):
        cost += " or more"
    yield (
        f"{counted(len(keyed), 'job')} bought before the line had a key would be bought again "
        f"under one{cost}:"
    )
    for entry, line in sorted(keyed, key=lambda pair: pair[1].place)[:_SHOWN_CHANGES]:
        prompt = shorten(line.request.prompt, 40)
        yield (
            f"  line {line.number}, key {line.key}: {state_text(entry.state)} as {entry.key} "
            f"“{prompt}”"
        )
    if len(keyed) > _SHOWN_CHANGES:
        yield f"  … and {counted(len(keyed) - _SHOWN_CHANGES, 'other job')}"
    yield (
        "Leave these keys out, and the lines are the jobs that were bought. If a line is to have a "
        "key, give it the one that it has in lines.jsonl."
    )


def _changes(changed: Sequence[_Pair]) -> Iterator[str]:
    found = Counter(_difference(request_of(entry), line.request) for entry, line in changed)
    for text, count in found.most_common(_SHOWN_CHANGES):
        yield f"  {text} ({counted(count, 'line')})"
    if len(found) > _SHOWN_CHANGES:
        yield f"  … and {counted(len(found) - _SHOWN_CHANGES, 'other change')}"


def _difference(before: GenerationRequest, now: GenerationRequest) -> str:
    """The fields that differ; media only by name, as they may be long."""
    fields = [field.name for field in attrs.fields(GenerationRequest)]
    changes = [
        f"{name} was {_shown(getattr(before, name))}, is {_shown(getattr(now, name))}"
        for name in fields
        if name != "media_urls" and getattr(before, name) != getattr(now, name)
    ]
    return "; ".join(changes) or "other media"


def _shown(value: object) -> str:
    return "not given" if value is None else shorten(str(value), 30)
