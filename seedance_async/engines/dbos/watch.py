"""`RunWatch`: what is new in a run since the last look, without reading all of it again."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

from dbos import DBOSClient, WorkflowStatus

from seedance_async import JobState
from seedance_async.engines.contract import RunStatus
from seedance_async.engines.dbos.names import MAKE, key_in, prefix_of
from seedance_async.engines.task import Outcome

#: Seconds by which each look reaches back before the one before: what was written by then may have
#: been committed since.
_OVERLAP = 30.0

#: Outcomes that are read in one query.
_AT_ONCE = 500

_ENDED = ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]


class RunWatch:
    """One reader of a run.

    Args:
        client: of the queue.
        run: its name.

    Attributes:
        status: the run at the last look.
    """

    def __init__(self, client: DBOSClient, run: str) -> None:
        self._client, self._prefix = client, prefix_of(run)
        self._known: set[str] = set()
        self._told: set[str] = set()
        self._newest = self._latest_end = 0  # milliseconds of the database's clock
        self._ended: Counter[str] = Counter()
        self.status = RunStatus()

    async def look(self) -> list[Outcome]:
        """The outcomes that came since the last look."""
        rows = await self._rows(start_time=_back_from(self._newest))
        self._newest = max([self._newest, *(row.created_at or 0 for row in rows)])
        self._known.update(row.workflow_id for row in rows)
        pending = await self._rows(status="PENDING")
        found = await self._new_outcomes()
        running = [row for row in pending if row.workflow_id not in self._told]
        self.status = RunStatus(
            waiting=max(0, len(self._known) - len(self._told) - len(running)),
            running=len(running),
            ended=dict(self._ended),
            workers=Counter(row.executor_id or "" for row in running),
        )
        return found

    async def _new_outcomes(self) -> list[Outcome]:
        ended = await self._rows(status=_ENDED, completed_after=_back_from(self._latest_end))
        self._latest_end = max([self._latest_end, *(row.completed_at or 0 for row in ended)])
        new = [row.workflow_id for row in ended if row.workflow_id not in self._told]
        found: list[Outcome] = []
        for start in range(0, len(new), _AT_ONCE):
            found += await self._outcomes(new[start : start + _AT_ONCE])
        return found

    async def _outcomes(self, ids: list[str]) -> list[Outcome]:
        rows = await self._client.list_workflows_async(workflow_ids=ids, load_input=False)
        found = [_outcome(row) for row in rows if row.status in _ENDED]
        self._told.update(row.workflow_id for row in rows if row.status in _ENDED)
        self._ended.update(outcome.state for outcome in found)
        return found

    async def _rows(
        self,
        *,
        status: str | list[str] | None = None,
        start_time: str | None = None,
        completed_after: str | None = None,
    ) -> list[WorkflowStatus]:
        rows = await self._client.list_workflows_async(
            name=MAKE,
            workflow_id_prefix=self._prefix,
            status=status,
            start_time=start_time,
            completed_after=completed_after,
            load_input=False,
            load_output=False,
        )
        # SQLite makes no difference between upper and lower case here.
        return [row for row in rows if row.workflow_id.startswith(self._prefix)]


def _outcome(row: WorkflowStatus) -> Outcome:
    key = key_in(row.workflow_id)
    if row.status == "SUCCESS" and row.output is not None:
        return Outcome.load(row.output)
    if row.status == "CANCELLED":
        return Outcome(key, JobState.CANCELLED.value)
    reason = f"DBOS ended it with {row.status}: {row.error}"
    return Outcome(key, JobState.ABANDONED.value, error=reason)


def _back_from(milliseconds: int) -> str | None:
    if not milliseconds:
        return None
    return datetime.fromtimestamp(milliseconds / 1000 - _OVERLAP, UTC).isoformat()
