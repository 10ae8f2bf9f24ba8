"""`Revisions`: tasks that are enqueued again with other requests than their run has for them.

A row is replaced only while nothing is sent for its key and no worker has it: what is made is then
what was asked for last. It holds no task and enqueues none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
from dbos import WorkflowStatus

from seedance_async import JobState, JournalError
from seedance_async.api.prepared_request import video_fingerprint_of
from seedance_async.engines.contract import QueueError
from seedance_async.engines.dbos.names import key_in
from seedance_async.engines.dbos.rows import UNFINISHED, Rows, input_of
from seedance_async.engines.dbos.threads import in_thread
from seedance_async.engines.task import Outcome
from seedance_async.journal.database import Database
from seedance_async.journal.reading import read_journal

#: Keys that a message names.
_NAMED = 5


@attrs.frozen
class Revision:
    """A task of a run that is enqueued again with another request.

    Attributes:
        row: its row.
        fields: what differs, by the names of the wire.
        is_another: whether it asks for another video; else its media are only signed anew, or its
            metadata or its webhook are others.
    """

    row: WorkflowStatus
    fields: Sequence[str]
    is_another: bool

    @property
    def key(self) -> str:
        """The key of the task."""
        return key_in(self.row.workflow_id)

    @property
    def workflow_id(self) -> str:
        """The id of its row."""
        return self.row.workflow_id


class Revisions:
    """Finds the rows that have other requests, and removes those that are to be replaced.

    Args:
        rows: of the queue.
        journal: where the journal of the queue is.
        media_key: see `SessionOptions`.
    """

    def __init__(
        self, rows: Rows, journal: Path | str, media_key: Callable[[str], str] | None
    ) -> None:
        self._rows, self._journal, self._media_key = rows, journal, media_key

    async def of(self, tasks: Mapping[str, Mapping[str, Any]]) -> list[Revision]:
        """Those of these tasks that have a row with another request.

        Args:
            tasks: by the ids of their workflows, as `Task.dump` gives them.
        """
        found = []
        async for rows in self._rows.with_inputs(tasks):
            for row in rows:
                before, now = input_of(row)["request"], tasks[row.workflow_id]["request"]
                if before != now:
                    names = sorted(before.keys() | now.keys())
                    fields = [name for name in names if before.get(name) != now.get(name)]
                    marks = {video_fingerprint_of(each, self._media_key) for each in (before, now)}
                    found.append(Revision(row, fields, len(marks) > 1))
        return found

    async def make_way(self, run: str, revisions: Sequence[Revision]) -> None:
        """Remove the rows that are to be replaced.

        What asks for the same video, and cannot be replaced or is cancelled, is left.

        Raises:
            ValueError: a key belongs to another request, and its row cannot be replaced; nothing
                is removed.
        """
        if not revisions:
            return
        kept = await self._kept(revisions)
        _check(run, revisions, kept)
        going = [each for each in revisions if each.workflow_id not in kept]
        waiting = [each.workflow_id for each in going if each.row.status in UNFINISHED]
        taken = dict.fromkeys(await self._rows.cancel_unseen(waiting), "a worker has taken it")
        try:
            _check(run, going, taken)
        except ValueError:
            await self._rows.hand_out_again(waiting)
            raise
        await self._rows.hand_out_again(list(taken))
        removed = [each.row for each in going if each.workflow_id not in taken]
        ended = [row.workflow_id for row in removed if row.executor_id is not None]
        await self._rows.note(run, ended, cancels=False)
        await self._rows.delete([row.workflow_id for row in removed])

    async def _kept(self, revisions: Sequence[Revision]) -> dict[str, str]:
        """By workflow, why rows must stay; of those that can be replaced, nothing."""
        sent = await self._sent({each.key for each in revisions})
        outcomes = dict[str, Outcome]()
        ended = [each.workflow_id for each in revisions if each.row.status == "SUCCESS"]
        async for rows in self._rows.with_outputs(ended):
            outcomes |= {row.workflow_id: Outcome.load(row.output) for row in rows if row.output}
        kept = dict[str, str]()
        for each in revisions:
            why = _why_kept(each, outcomes.get(each.workflow_id))
            if each.key in sent:
                why = "it is sent, or may be"
            if why is not None:
                kept[each.workflow_id] = why
        return kept

    async def _sent(self, keys: Collection[str]) -> set[str]:
        """Those of these keys that are sent, or may be, according to the journal."""

        def read(database: Database) -> set[str]:
            found = database.find_all(keys)
            return {entry.key for entry in found if entry.state != JobState.REJECTED}

        try:
            found = await in_thread(partial(read_journal, self._journal, read, is_shared=True))
        except JournalError as error:
            raise QueueError(f"the journal of the queue cannot be read: {error}") from error
        return found or set()


def _why_kept(revision: Revision, outcome: Outcome | None) -> str | None:
    """Why a row must stay of whose key nothing is sent; None if it can be replaced.

    Only another request is a reason to make what was cancelled.
    """
    row = revision.row
    if row.status in UNFINISHED or row.status == "CANCELLED":
        if row.executor_id is not None:
            return "a worker has it, or had it: cancel it, and try again once that is its outcome"
        is_cancelled = row.status == "CANCELLED"
    elif outcome is None or outcome.sent:
        return "its outcome is there"
    else:
        is_cancelled = outcome.state == JobState.CANCELLED
        if not is_cancelled and outcome.state != JobState.REJECTED:
            return "its outcome is there"
    return "it is cancelled" if is_cancelled and not revision.is_another else None


def _check(run: str, revisions: Iterable[Revision], kept: Mapping[str, str]) -> None:
    """Refuse other requests for keys whose rows must stay."""
    refused = [each for each in revisions if each.is_another and each.workflow_id in kept]
    if not refused:
        return
    first, *others = refused
    named = ", ".join(repr(each.key) for each in others[:_NAMED])
    more = f", ... ({len(others)} in all)" if len(others) > _NAMED else ""
    also = f"; likewise {named}{more}" if others else ""
    differ = f"{' and '.join(first.fields)} differ{'s' if len(first.fields) == 1 else ''}"
    signed = ""
    if first.fields == ["mediaUrls"]:
        signed = "; if its media are only signed anew, say so by media_key (--signed-urls)"
    raise ValueError(
        f"the key {first.key!r} belongs to another request in the run {run!r} of this queue, whose "
        f"{differ}, and cannot be replaced: {kept[first.workflow_id]}. "
        f"To buy the new one, too, give it another key{signed}{also}"
    )
