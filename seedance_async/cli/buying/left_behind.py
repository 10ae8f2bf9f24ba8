"""Jobs of earlier runs that an input would leave behind, to buy something like them again.

A changed option, prompt or URL makes a line another job. Jobs that may be running are left behind
by any new line; those that have ended well, by a line with their prompt and other options.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

import attrs

from seedance_async import GenerationRequest
from seedance_async._utils.plural import counted
from seedance_async.cli.buying.asking import agrees
from seedance_async.cli.console import Screen
from seedance_async.cli.inputs import Line
from seedance_async.cli.runs.journal_entries import KnownJobs, request_of, state_text
from seedance_async.cli.text import shorten
from seedance_async.journal import JournalEntry

#: How many jobs, or changes, are shown one by one.
_SHOWN_JOBS, _SHOWN_CHANGES = 100, 5


@attrs.frozen
class LeftBehind:
    """What some lines would leave behind, given a journal.

    Attributes:
        running: entries of jobs that may be running.
        changed: entries of jobs that have ended well, each with a new line of the same prompt.
        new: how many lines are new.
    """

    running: Sequence[JournalEntry]
    changed: Sequence[tuple[JournalEntry, Line]]
    new: int

    @classmethod
    def of(cls, lines: Sequence[Line], known: KnownJobs, named: Collection[int] = ()) -> LeftBehind:
        """What these lines would leave behind.

        Args:
            lines: of an input.
            known: what the journal knows.
            named: the numbers of the lines that have a key of their own: with a new one, a line is
                meant to be a new job.
        """
        sent = known.sent_before(lines)
        new = [line for line in lines if line.place not in sent]
        unnamed = [line for line in new if line.number not in named]
        return cls(known.unmatched(lines), list(_pairs(known.replaced(lines), unnamed)), len(new))

    def texts(self) -> Iterator[str]:
        """What to know of them."""
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
    if not (left.new and (left.running or left.changed)):
        return True
    for text in left.texts():
        screen.say(text, style="yellow")
    screen.say(
        "A changed line is another job. `seedance resume` waits for jobs and saves their videos "
        "without buying anything; a `key` column keeps lines the same whatever changes, "
        "--signed-urls if only their signatures do."
    )
    return agrees(
        f"Buy {counted(left.new, 'new job')} and leave these?",
        "--leave-unmatched buys the new lines nevertheless.",
        screen,
    )


def _pairs(
    entries: Sequence[JournalEntry], new: Sequence[Line]
) -> Iterator[tuple[JournalEntry, Line]]:
    """Each of the entries with a new line of the same prompt, if there is one left."""
    by_prompt: dict[str, list[Line]] = {}
    for line in reversed(new):
        by_prompt.setdefault(line.request.prompt, []).append(line)
    for entry in entries:
        alike = by_prompt.get(request_of(entry).prompt)
        if alike:
            yield entry, alike.pop()


def _running_texts(entries: Sequence[JournalEntry]) -> Iterator[str]:
    for entry in entries[:_SHOWN_JOBS]:
        prompt = shorten(request_of(entry).prompt, 40)
        yield f"  {entry.request_id or 'uncertain'} {state_text(entry.state)} “{prompt}”"
    if len(entries) > _SHOWN_JOBS:
        yield f"  … and {len(entries) - _SHOWN_JOBS:,} more"


def _changes(changed: Sequence[tuple[JournalEntry, Line]]) -> Iterator[str]:
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
