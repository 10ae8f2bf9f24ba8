"""What a batch would do in a queue, by what the queue and its journal know of its lines."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import attrs

from seedance_async import JobState
from seedance_async.cli.buying.left_behind import LeftBehind
from seedance_async.cli.inputs import Line
from seedance_async.cli.runs.journal_entries import KnownJobs
from seedance_async.engines import Outcome
from seedance_async.journal import JournalEntry
from seedance_async.session.estimate import Plan, plan


@attrs.frozen
class Planned:
    """The lines of a batch, and what is known of them.

    Attributes:
        lines: with their keys.
        known: what the journal knows.
        enqueued: the keys that the run has, each with its outcome, if it has one.
        changed: those of these whose lines have another request than the run has for them.
    """

    lines: Sequence[Line]
    known: KnownJobs
    enqueued: Mapping[str, Outcome | None]
    changed: Collection[str] = ()

    @property
    def plan(self) -> Plan:
        """What a session with this journal would do."""
        items = [line.item for line in self.lines]
        return plan(self.known.entries, items, media_key=self.known.media_key)

    @property
    def new(self) -> list[Line]:
        """The lines that would be bought, and that nobody has agreed to yet."""
        waiting = {key for key, outcome in self.enqueued.items() if outcome is None}
        agreed = waiting.difference(self.changed)
        found = (self.lines[at] for at in self.plan.new)
        return [line for line in found if line.key not in agreed]

    @property
    def kept(self) -> frozenset[str]:
        """The keys of lines that were sent with another request, and stay as they are."""
        return self.known.sent_keys.intersection(self.changed)

    @property
    def again(self) -> list[str]:
        """The keys of lines whose outcome may become another one."""
        entries = {entry.key: entry for entry in self.known.entries}
        keys = [line.key or "" for line in self.lines]
        return [key for key in keys if may_go_on(self.enqueued.get(key), entries.get(key))]

    @property
    def strangers(self) -> list[str]:
        """The keys of the run that no line has, and that workers would make nevertheless."""
        keys = {line.key for line in self.lines}
        return [key for key, told in self.enqueued.items() if told is None and key not in keys]

    def left_behind(self, named: Collection[int]) -> LeftBehind:
        """What the lines would leave behind of the jobs of this run; others belong to other files.

        Args:
            named: the numbers of the lines that have a key of their own.
        """
        keys = {*self.enqueued, *(line.key for line in self.lines)}
        own = [entry for entry in self.known.entries if entry.key in keys]
        return LeftBehind.of(self.lines, attrs.evolve(self.known, entries=own), named)


def may_go_on(outcome: Outcome | None, entry: JournalEntry | None) -> bool:
    """Whether more can come of a task that has an outcome, without a doubt that it is bought twice.

    Args:
        outcome: the task's.
        entry: what the journal has of it.
    """
    if outcome is None:
        return False
    match JobState(outcome.state):
        case JobState.REJECTED | JobState.ABANDONED:
            return True
        case JobState.CANCELLED:
            return not outcome.sent
        case JobState.SUCCEEDED:
            return outcome.file is None
        case JobState.UNCERTAIN:
            return entry is None or not entry.is_uncertain
        case _:
            return False
