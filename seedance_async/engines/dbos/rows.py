"""The rows that DBOS keeps of runs, by its client's public interface: read, cancelled, resumed."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Collection, Container, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import attrs
from dbos import DBOSClient, EnqueueOptions, WorkflowSerializationFormat, WorkflowStatus

from seedance_async.engines.dbos.names import (
    APPLICATION,
    CANCEL,
    CANCELS,
    MAKE,
    QUEUE,
    VERSION,
    prefix_of,
    run_in,
)
from seedance_async.engines.dbos.places import reaching
from seedance_async.engines.dbos.threads import in_thread

#: Rows of one statement.
AT_ONCE = 1000

UNFINISHED = ["ENQUEUED", "PENDING", "DELAYED"]
ENDED = ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]


@attrs.frozen
class Note:
    """What somebody has said of tasks, in a row that outlives them: cancel these, or do not.

    Attributes:
        ids: of the workflows.
        cancels: whether they are cancelled, or no longer.
    """

    ids: list[str]
    cancels: bool


class Rows:
    """The rows of a queue.

    Args:
        client: of the queue.
    """

    def __init__(self, client: DBOSClient) -> None:
        self.client = client

    async def of_run(
        self,
        run: str,
        *,
        status: str | list[str] | None = None,
        since: int | None = None,
        ended_since: int | None = None,
    ) -> list[WorkflowStatus]:
        """The rows of a run, without what goes in and comes out.

        Args:
            run: its name.
            status: of DBOS.
            since: milliseconds of the database's clock; those enqueued then or later.
            ended_since: likewise those that ended.
        """
        return await self._of_prefix(
            prefix_of(run),
            name=MAKE,
            status=status,
            start_time=_time(since),
            completed_after=_time(ended_since),
        )

    async def runs(self) -> list[str]:
        """The names of all runs, the oldest first."""
        return list(dict.fromkeys(run_in(row.workflow_id) for row in await self._all(name=MAKE)))

    async def any_unfinished(self) -> bool:
        """Whether a workflow of any run has no outcome."""
        return bool(await self._all(name=MAKE, status=UNFINISHED, limit=1))

    async def inputs(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """What went into the workflows with these ids, as far as there are any."""
        rows = await self._all(workflow_ids=list(ids), load_input=True)
        return [input_of(row) for row in rows]

    async def with_inputs(self, ids: Collection[str]) -> AsyncGenerator[list[WorkflowStatus]]:
        """The rows with these ids, some at a time, with what went in."""
        for some in in_pieces(list(ids)):
            yield await self._all(workflow_ids=some, load_input=True)

    async def with_outputs(self, ids: Collection[str]) -> AsyncGenerator[list[WorkflowStatus]]:
        """The rows with these ids, some at a time, with what came out."""
        for some in in_pieces(list(ids)):
            yield await self._all(workflow_ids=some, load_output=True)

    async def running(self, executor_id: str | None = None) -> list[WorkflowStatus]:
        """What workers have, or had when they died; or what one of them has."""
        return await self._all(name=MAKE, status="PENDING", executor_id=executor_id)

    async def hand_out_again(self, ids: Collection[str]) -> None:
        """Put workflows into the queue again that have no outcome; harmless for one that runs."""
        for some in in_pieces(list(ids)):
            with reaching():
                await in_thread(partial(self.client.resume_workflows, some, queue_name=QUEUE))

    async def cancel_unseen(self, ids: Sequence[str]) -> list[str]:
        """Cancel workflows that no worker has had; those that one has taken meanwhile."""
        taken = []
        for some in in_pieces(ids):
            with reaching():
                await in_thread(partial(self.client.cancel_workflows, some))
            rows = await self._all(workflow_ids=some)
            taken += [row.workflow_id for row in rows if row.executor_id is not None]
        return taken

    async def rewind(self, workflow_id: str) -> None:
        """Put a workflow that has an outcome into the queue again."""
        with reaching():
            await in_thread(
                partial(
                    self.client.rewind_workflow,
                    workflow_id,
                    application_version=VERSION,
                    queue_name=QUEUE,
                )
            )

    async def delete(self, ids: Sequence[str]) -> None:
        """Remove rows, and all that DBOS keeps beside them."""
        for some in in_pieces(ids):
            with reaching():
                await in_thread(partial(self.client.delete_workflows, some))

    # --- notes ------------------------------------------------------------------------------

    async def note(self, run: str, ids: Sequence[str], *, cancels: bool) -> None:
        """Tell all workers, those that start later too, that tasks are cancelled, or no longer."""
        for some in in_pieces(ids):
            options = EnqueueOptions(
                workflow_name=CANCEL,
                queue_name=CANCELS,
                workflow_id=f"{CANCEL}/{prefix_of(run)}{secrets.token_hex(8)}",
                app_version=VERSION,
                application_name=APPLICATION,
                serialization_type=WorkflowSerializationFormat.PORTABLE,
            )
            with reaching():
                told = attrs.asdict(Note(some, cancels))
                await in_thread(partial(self.client.enqueue, options, told))

    async def notes(self, since: int | None, known: Container[str]) -> list[tuple[str, int, Note]]:
        """The id of each note since then, its time, and what it says; in their order.

        Args:
            since: milliseconds of the database's clock; None for all notes.
            known: the ids of those that are left out.
        """
        rows = await self._all(  # by the index of what is in a queue
            queue_name=CANCELS, status="ENQUEUED", start_time=_time(since)
        )
        new, said = [row.workflow_id for row in rows if row.workflow_id not in known], {}
        for some in in_pieces(new):
            told = await self._all(workflow_ids=some, load_input=True)
            said.update({row.workflow_id: _note_in(row) for row in told})
        return [
            (row.workflow_id, row.created_at or 0, said[row.workflow_id])
            for row in rows
            if row.workflow_id in said
        ]

    async def has_note(self, note_id: str) -> bool:
        """Whether a note is still there."""
        return bool(await self._all(workflow_ids=[note_id]))

    async def delete_notes(self, run: str) -> None:
        """Remove the notes about a run."""
        rows = await self._of_prefix(f"{CANCEL}/{prefix_of(run)}", name=CANCEL)
        await self.delete([row.workflow_id for row in rows])

    async def register(self, **limits: Any) -> None:
        """Write down the queue of tasks with its limits, for all workers."""
        with reaching():
            await in_thread(
                partial(self.client.register_queue, QUEUE, application_name=APPLICATION, **limits)
            )

    async def close(self) -> None:
        """Close the connections."""
        await in_thread(self.client.destroy)

    async def _all(self, **filters: Any) -> list[WorkflowStatus]:
        """All rows of some kind; without what goes in and comes out, unless that is asked for."""
        asked: dict[str, Any] = {"load_input": False, "load_output": False, **filters}
        with reaching():
            return await in_thread(partial(self.client.list_workflows, **asked))

    async def _of_prefix(self, prefix: str, **filters: Any) -> list[WorkflowStatus]:
        """As `_all`; SQLite alone makes no difference between upper and lower case of a prefix."""
        rows = await self._all(workflow_id_prefix=prefix, **filters)
        return [row for row in rows if row.workflow_id.startswith(prefix)]


def was_taken(row: WorkflowStatus) -> bool:
    """Whether a cancelled workflow was with a worker before: that one says what became of it."""
    return row.status == "CANCELLED" and row.executor_id is not None


def in_pieces(items: Sequence[str]) -> Iterator[list[str]]:
    """The items, as many at a time as one statement takes."""
    for start in range(0, len(items), AT_ONCE):
        yield list(items[start : start + AT_ONCE])


def _note_in(row: WorkflowStatus) -> Note:
    return Note(**input_of(row))


def input_of(row: WorkflowStatus) -> dict[str, Any]:
    """What went into a workflow, of a row that was read with it."""
    given: Any = row.input
    first: dict[str, Any] = given["args"][0]
    return first


def _time(milliseconds: int | None) -> str | None:
    if milliseconds is None:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat()
