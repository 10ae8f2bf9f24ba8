"""`Cancelled`: the tasks that were cancelled, as a worker knows them from the notes."""

from __future__ import annotations

import asyncio

from seedance_async.engines.dbos.horizon import Horizon
from seedance_async.engines.dbos.rows import Rows

#: So many notes are looked through at each look, whatever times they bear: the database's clock may
#: have gone back. If there are more, all are at each tenth look.
FEW = 200


class Cancelled:
    """The workflows that are cancelled, whoever has them.

    Args:
        rows: of the queue.
        settled_after: seconds after which all workers know of what this one has just learned.
    """

    def __init__(self, rows: Rows, settled_after: float) -> None:
        self._rows, self._settled_after = rows, settled_after
        self._since: dict[str, float] = {}  # by workflow: when this worker heard of it
        self._said_by: dict[str, str] = {}  # likewise, the note
        self._read: set[str] = set()
        self._horizon, self._looks = Horizon(), 0

    def __contains__(self, workflow_id: str) -> bool:
        return workflow_id in self._since

    async def look(self) -> set[str]:
        """The workflows that were cancelled since the last look."""
        new = dict[str, str]()
        self._looks += 1
        sees_all = len(self._read) <= FEW or self._looks % 10 == 0
        notes = await self._rows.notes(None if sees_all else self._horizon.since, self._read)
        self._horizon.saw(created_at for _, created_at, _ in notes)
        for note_id, _, note in notes:
            if note_id in self._read:
                continue
            self._read.add(note_id)
            if note.cancels:
                new |= dict.fromkeys(note.ids, note_id)
            else:
                for each in note.ids:
                    new.pop(each, None)
                    self._since.pop(each, None)
        now = asyncio.get_running_loop().time()
        self._since |= dict.fromkeys(new.keys() - self._since.keys(), now)
        self._said_by |= new
        return set(new)

    async def still(self, workflow_id: str) -> bool:
        """Whether it is cancelled at this moment: a run that is forgotten takes its notes along.

        Raises:
            QueueError: the database is away.
        """
        while workflow_id in self._since:
            note_id = self._said_by[workflow_id]
            if await self._rows.has_note(note_id):
                return True
            if self._said_by[workflow_id] == note_id:
                del self._since[workflow_id]
        return False

    async def settled(self, workflow_id: str) -> None:
        """Wait until no worker submits this any more that had it when it was cancelled."""
        heard_at = self._since.get(workflow_id, 0.0)
        await asyncio.sleep(heard_at + self._settled_after - asyncio.get_running_loop().time())
