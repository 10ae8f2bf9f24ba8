"""`RunWatch`: what is new in a run since the last look, without reading all of it again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable

import attrs
from dbos import WorkflowStatus

from seedance_async import JobState
from seedance_async.engines.contract import RunStatus
from seedance_async.engines.dbos.horizon import Horizon
from seedance_async.engines.dbos.names import key_in
from seedance_async.engines.dbos.rows import ENDED, UNFINISHED, Rows, was_taken
from seedance_async.engines.task import Outcome

#: Seconds after which all rows are looked at again: one that came very late is found then.
ALL_AGAIN = 60.0


@attrs.frozen
class _Told:
    """An outcome that was told: its state, and when it came, which tells it from a later one."""

    state: str
    ended_at: int | None


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
        self._told: dict[str, _Told] = {}  # by workflow
        self._added, self._ends = Horizon(), Horizon()
        self._all_at = 0.0
        self.status = RunStatus()

    @property
    def keys(self) -> list[str]:
        """The keys of the run at the last look."""
        return [key_in(workflow_id) for workflow_id in self._known]

    async def look(self) -> list[Outcome]:
        """The outcomes that came since the last look. If this fails, the next one tells them.

        What is handed out again has none any more, and is told once more when it has.
        """
        if time.monotonic() >= self._all_at:
            self._added, self._ends = Horizon(), Horizon()
            self._all_at = time.monotonic() + ALL_AGAIN
        sees_all = self._added.since is None
        added = await self._rows.of_run(self._run, since=self._added.since)
        running = await self._rows.of_run(self._run, status="PENDING")
        ended = await self._rows.of_run(self._run, status=ENDED, ended_since=self._ends.since)
        told = self._still_told([*added, *running, *ended])
        outcomes, new = await self._outcomes(row for row in ended if row.workflow_id not in told)
        told |= new
        known = {row.workflow_id for row in added}
        if sees_all:  # somebody may have forgotten the run
            told = {each: state for each, state in told.items() if each in known}
        else:
            known |= self._known
            if len(known) <= len(told):  # others may have handed some of it out again
                for row in await self._rows.of_run(self._run, status=UNFINISHED):
                    known.add(row.workflow_id)
                    told.pop(row.workflow_id, None)
        self._added.saw(row.created_at for row in added)
        self._ends.saw(row.completed_at for row in ended)
        self._known, self._told = known, told
        with_workers = [row for row in running if row.workflow_id not in told]
        self.status = RunStatus(
            waiting=max(0, len(known) - len(told) - len(with_workers)),
            running=len(with_workers),
            ended=dict(Counter(each.state for each in told.values())),
            workers=Counter(row.executor_id or "" for row in with_workers),
            making=frozenset(key_in(row.workflow_id) for row in with_workers),
        )
        return outcomes

    def _still_told(self, rows: Iterable[WorkflowStatus]) -> dict[str, _Told]:
        """What was told, without what the rows say has no outcome any more, or another one."""
        told = self._told.copy()
        for row in rows:
            before = told.get(row.workflow_id)
            if before and (row.status not in ENDED or row.completed_at != before.ended_at):
                del told[row.workflow_id]
        return told

    async def _outcomes(
        self, ended: Iterable[WorkflowStatus]
    ) -> tuple[list[Outcome], dict[str, _Told]]:
        """What came of workflows, as far as that is told."""
        found, told, taken = list[Outcome](), dict[str, _Told](), list[str]()
        async for rows in self._rows.with_outputs([row.workflow_id for row in ended]):
            taken += [row.workflow_id for row in rows if was_taken(row)]
            for row in rows:
                if row.status in ENDED and not was_taken(row):
                    found.append(_outcome(row))
                    told[row.workflow_id] = _Told(found[-1].state, row.completed_at)
        if taken:
            await self._ask_what_became_of(taken)
        return found, told

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
