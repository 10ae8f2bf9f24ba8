"""`RunWatch`: what is new in a run since the last look, without reading all of it again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable

from dbos import WorkflowStatus

from seedance_async import JobState
from seedance_async.engines.contract import RunStatus
from seedance_async.engines.dbos.horizon import Horizon
from seedance_async.engines.dbos.names import key_in
from seedance_async.engines.dbos.rows import ENDED, Rows, was_taken
from seedance_async.engines.task import Outcome

#: Seconds after which all rows are looked at again: one that came very late is found then.
ALL_AGAIN = 60.0


class RunWatch:
    """One reader of a run.

    Args:
        rows: of the queue.
        run: its name.

    Attributes:
        status: the run at the last look.
    """

    def __init__(self, rows: Rows, run: str) -> None:
        self._rows, self._run = rows, run
        self._known: set[str] = set()
        self._told: dict[str, str] = {}  # the states, by workflow
        self._added, self._ends = Horizon(), Horizon()
        self._all_at = 0.0
        self.status = RunStatus()

    @property
    def keys(self) -> list[str]:
        """The keys of the run at the last look."""
        return [key_in(workflow_id) for workflow_id in self._known]

    async def look(self) -> list[Outcome]:
        """The outcomes that came since the last look. If this fails, the next one tells them."""
        if time.monotonic() >= self._all_at:
            self._added, self._ends = Horizon(), Horizon()
            self._all_at = time.monotonic() + ALL_AGAIN
        sees_all = self._added.since is None
        added = await self._rows.of_run(self._run, since=self._added.since)
        running = await self._rows.of_run(self._run, status="PENDING")
        ended = await self._rows.of_run(self._run, status=ENDED, ended_since=self._ends.since)
        found = await self._outcomes(row for row in ended if row.workflow_id not in self._told)
        self._added.saw(row.created_at for row in added)
        self._ends.saw(row.completed_at for row in ended)
        if sees_all:  # somebody may have forgotten the run
            self._known.clear()
            there = {row.workflow_id for row in added}
            self._told = {each: state for each, state in self._told.items() if each in there}
        self._known.update(row.workflow_id for row in added)
        self._told |= {each: outcome.state for each, outcome in found.items()}
        with_workers = [row for row in running if row.workflow_id not in self._told]
        self.status = RunStatus(
            waiting=max(0, len(self._known) - len(self._told) - len(with_workers)),
            running=len(with_workers),
            ended=dict(Counter(self._told.values())),
            workers=Counter(row.executor_id or "" for row in with_workers),
            making=frozenset(key_in(row.workflow_id) for row in with_workers),
        )
        return list(found.values())

    async def _outcomes(self, ended: Iterable[WorkflowStatus]) -> dict[str, Outcome]:
        """What came of workflows, by their ids, as far as that is told."""
        found, taken = dict[str, Outcome](), list[str]()
        async for rows in self._rows.with_outputs([row.workflow_id for row in ended]):
            taken += [row.workflow_id for row in rows if was_taken(row)]
            told = [row for row in rows if row.status in ENDED and not was_taken(row)]
            found |= {row.workflow_id: _outcome(row) for row in told}
        if taken:
            await self._ask_what_became_of(taken)
        return found

    async def _ask_what_became_of(self, taken: list[str]) -> None:
        """A worker had them when they were cancelled: it, or another one, tells their outcome."""
        await self._rows.note(self._run, taken, cancels=True)
        await self._rows.hand_out_again(taken)


def _outcome(row: WorkflowStatus) -> Outcome:
    key = key_in(row.workflow_id)
    if row.status == "SUCCESS" and row.output is not None:
        return Outcome.load(row.output)
    if row.status == "CANCELLED":
        return Outcome(key, JobState.CANCELLED.value)
    reason = f"the queue ended it with {row.status}: {row.error}"
    return Outcome(key, JobState.ABANDONED.value, error=reason)
