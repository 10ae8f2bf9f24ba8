"""`SeedanceQueue`: runs are given to DBOS, and their outcomes are read from it."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from functools import partial
from threading import Event
from types import TracebackType
from typing import Any

from dbos import DBOSClient, EnqueueOptions, WorkflowSerializationFormat
from sqlalchemy import Connection

from seedance_async import GenerationRequest, WebhookReceiver
from seedance_async.engines.callbacks import Callbacks
from seedance_async.engines.contract import QueueError, Requests, RunStatus
from seedance_async.engines.dbos.names import APPLICATION, MAKE, QUEUE, VERSION, workflow_id
from seedance_async.engines.dbos.outages import outlasting
from seedance_async.engines.dbos.places import (
    checked_url,
    client_at,
    engine_at,
    journal_place,
    reaching,
)
from seedance_async.engines.dbos.revisions import Revisions
from seedance_async.engines.dbos.rows import ENDED, UNFINISHED, Rows
from seedance_async.engines.dbos.threads import to_its_end
from seedance_async.engines.dbos.watch import RunWatch
from seedance_async.engines.task import ID, Outcome, Task
from seedance_async.journal.keys import Occurrences, fingerprint

#: Tasks that are enqueued in one transaction, at most. SQLite has one writer at a time.
_AT_ONCE = 2000

#: Transactions at once in PostgreSQL, which may be far away: each task is two round trips. A
#: further connection has to have so many tasks.
_CONNECTIONS, _FOR_ANOTHER = 8, 100

#: Seconds for which a transaction that is cancelled is waited for, if its commit is on its way.
_TO_STOP = 30.0


#: How a task is enqueued, and the task.
_Row = tuple[EnqueueOptions, dict[str, Any]]


class SeedanceQueue:
    """A `Queue` on DBOS, at `postgresql://…` or `sqlite:///path/run.db`.

    ```python
    async with SeedanceQueue("sqlite:///run.db") as queue:
        await queue.enqueue(requests, run="autumn")
        async for outcome in queue.results(run="autumn"):
            print(outcome.key, outcome.state, outcome.file)
    ```

    Args:
        url: where the queue is; its tables are made if they are missing.
        media_key: see `SessionOptions`.
        look_every: seconds between two looks for outcomes.
        patience: seconds for which the database may be away while outcomes are waited for.
        webhooks: where this process receives callbacks for the workers, once the queue is open.

    Raises:
        ConfigurationError: no queue can be there.
    """

    def __init__(
        self,
        url: str,
        *,
        media_key: Callable[[str], str] | None = None,
        look_every: float = 0.5,
        patience: float = 300.0,
        webhooks: WebhookReceiver | None = None,
    ) -> None:
        self._url, self._media_key = checked_url(url), media_key
        self._look_every, self._patience = look_every, patience
        self._callbacks: Callbacks | None = None
        if webhooks is not None:
            self._callbacks = Callbacks(webhooks, journal_place(self._url))
        self._opening = asyncio.Lock()
        self._rows: Rows | None = None
        self._watches: dict[str, RunWatch] = {}

    def __repr__(self) -> str:
        return f"<SeedanceQueue of {', '.join(self._watches) or 'no run yet'}>"

    async def __aenter__(self) -> SeedanceQueue:
        await self._opened()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _opened(self) -> Rows:
        async with self._opening:
            if self._rows is None:
                if self._callbacks is not None:
                    await self._callbacks.start()
                self._rows = Rows(await client_at(self._url))
            return self._rows

    async def enqueue(self, requests: Requests, *, run: str) -> list[str]:
        """See `Queue`. Up to 2,000 are enqueued in one transaction.

        Tasks are handed out in the order of their call; those of several calls take turns. If this
        fails or is cancelled, nothing more is enqueued once it has ended; a task that is to be
        replaced may be cancelled, or gone, until the call is repeated.
        """
        opened, tasks = await self._opened(), self._tasks(requests)
        client, revisions = opened.client, self._revisions(opened)
        rows = [(_options(run, task.key, place), task.dump()) for place, task in enumerate(tasks)]
        self._check_keys(tasks)
        await revisions.make_way(run, await revisions.of(_by_id(rows)))
        await self._insert_all(client, rows)
        return [task.key for task in tasks]

    async def _insert_all(self, client: DBOSClient, rows: Sequence[_Row]) -> None:
        """Insert rows on several connections, in transactions of a bounded size."""
        most = 1 if self._url.startswith("sqlite") else _CONNECTIONS
        connections = max(1, min(most, len(rows) // _FOR_ANOTHER))
        size = min(_AT_ONCE, math.ceil(len(rows) / connections) or 1)
        # In one order, whoever calls: two that add the same tasks wait, but not for each other.
        pieces = deque(
            sorted(rows[start : start + size], key=_id_in) for start in range(0, len(rows), size)
        )

        async def enqueue_some() -> None:
            try:
                while pieces:
                    call = partial(self._enqueue, client, pieces.popleft())
                    await to_its_end(call, patience=_TO_STOP)
            except QueueError:
                pieces.clear()
                raise

        ended = await asyncio.gather(
            *(enqueue_some() for _ in range(connections)), return_exceptions=True
        )
        for failure in filter(None, ended):
            raise failure

    async def changed(self, requests: Requests, *, run: str) -> list[str]:
        """The keys that the run has for another request; no matter of media that are signed anew.

        `enqueue` replaces these tasks, or refuses to.
        """
        revisions = self._revisions(await self._opened())
        tasks = {workflow_id(run, task.key): task.dump() for task in self._tasks(requests)}
        return [each.key for each in await revisions.of(tasks) if each.is_another]

    def _revisions(self, rows: Rows) -> Revisions:
        return Revisions(rows, journal_place(self._url), self._media_key)

    def _tasks(self, requests: Requests) -> list[Task]:
        tasks, occurrences = list[Task](), Occurrences()
        for item in requests:
            if isinstance(item, Task):
                tasks.append(item)
            elif isinstance(item, GenerationRequest):
                key = occurrences.key(fingerprint(item, media_key=self._media_key))
                tasks.append(Task(key, item))
            else:
                key, request = item
                tasks.append(Task(key, request))
        return tasks

    def _check_keys(self, tasks: Iterable[Task]) -> None:
        """Refuse a key that stands for two jobs, and two keys whose videos have one name.

        One of the jobs would never be made; one of the videos would take the place of the other.
        """
        known, of_file = dict[str, Task](), dict[str, str]()
        for task in tasks:
            first = known.setdefault(task.key, task)
            if not self._is_same(first.request, task.request):
                raise ValueError(f"two different requests of one call have the key {task.key!r}")
            if ID in task.file_name:
                continue
            other = of_file.setdefault(task.file_name.casefold(), task.key)
            if other != task.key:
                raise ValueError(
                    f"the videos of {other!r} and {task.key!r} have one name: {task.file_name!r}"
                )

    def _is_same(self, one: GenerationRequest, other: GenerationRequest) -> bool:
        """Whether requests are equal, perhaps with media URLs that are signed anew."""
        if one == other:
            return True
        mark = partial(fingerprint, media_key=self._media_key)
        return mark(one) == mark(other)

    def _enqueue(
        self,
        client: DBOSClient,
        rows: Sequence[_Row],
        stop: Event,
    ) -> None:
        engine = engine_at(self._url)
        try:
            with reaching(), engine.connect() as connection:
                _insert(client, connection, rows, stop)
        finally:
            engine.dispose()

    async def results(self, *, run: str) -> AsyncGenerator[Outcome]:
        """See `Queue`."""
        async for outcomes, _ in self.follow(run=run):
            for outcome in outcomes:
                yield outcome

    async def follow(self, *, run: str) -> AsyncGenerator[tuple[Sequence[Outcome], RunStatus]]:
        """See `Queue`."""
        watch = RunWatch(await self._opened(), run)
        while True:
            outcomes = await outlasting(watch.look, self._patience)
            yield outcomes, watch.status
            if watch.status.is_complete:
                return
            await asyncio.sleep(self._look_every)

    async def tasks(self, *, run: str) -> dict[str, Outcome | None]:
        """See `Queue`."""
        watch = RunWatch(await self._opened(), run)
        outcomes = {outcome.key: outcome for outcome in await watch.look()}
        return {key: outcomes.get(key) for key in watch.keys}

    async def task(self, key: str) -> Task | None:
        """See `Queue`."""
        rows = await self._opened()
        ids = [workflow_id(run, key) for run in await rows.runs()]
        found = await rows.inputs(ids) if ids else []
        return Task.load(found[0]) if found else None

    async def runs(self) -> list[str]:
        """See `Queue`."""
        return await (await self._opened()).runs()

    async def is_empty(self) -> bool:
        """See `Queue`."""
        return not await (await self._opened()).any_unfinished()

    async def status(self, *, run: str) -> RunStatus:
        """See `Queue`. A second call looks only for what is new."""
        rows = await self._opened()
        watch = self._watches.setdefault(run, RunWatch(rows, run))
        await watch.look()
        return watch.status

    async def cancel(self, *, run: str, keys: Iterable[str] | None = None) -> int:
        """See `Queue`.

        What no worker has is cancelled at once; a worker hears of it within seconds, and cancels
        what it has at the server. What it sends in these seconds is cancelled there, too.
        """
        rows, wanted = await self._opened(), _ids(run, keys)
        found = await rows.of_run(run, status=UNFINISHED)
        left = [row for row in found if wanted is None or row.workflow_id in wanted]
        unseen = [row.workflow_id for row in left if row.executor_id is None]
        taken = await rows.cancel_unseen(unseen)
        seen = [row.workflow_id for row in left if row.executor_id is not None]
        await rows.note(run, [*seen, *taken], cancels=True)
        await rows.hand_out_again(taken)
        return len(left)

    async def again(self, *, run: str, keys: Iterable[str]) -> int:
        """See `Queue`."""
        rows, wanted = await self._opened(), _ids(run, keys)
        found = await rows.of_run(run, status=ENDED)
        ids = [row.workflow_id for row in found if wanted is None or row.workflow_id in wanted]
        await rows.note(run, ids, cancels=False)
        for each in ids:
            await rows.rewind(each)
        self._watches.pop(run, None)
        return len(ids)

    async def forget(self, *, run: str) -> int:
        """See `Queue`."""
        rows = await self._opened()
        found = await rows.of_run(run)
        if any(row.status not in ENDED for row in found):
            raise ValueError(f"tasks of the run {run!r} have no outcome yet: cancel them first")
        ids = [row.workflow_id for row in found]
        await rows.delete(ids)
        await rows.delete_notes(run)
        self._watches.pop(run, None)
        return len(ids)

    async def aclose(self) -> None:
        """See `Queue`."""
        rows, self._rows = self._rows, None
        if self._callbacks is not None:
            await self._callbacks.aclose()
        if rows is not None:
            await rows.close()


def _ids(run: str, keys: Iterable[str] | None) -> set[str] | None:
    return None if keys is None else {workflow_id(run, key) for key in keys}


def _options(run: str, key: str, place: int) -> EnqueueOptions:
    if not key.strip() or "\0" in key or not key.isprintable():
        raise ValueError(f"a key must be printable text, and not blank: {key!r:.80}")
    return EnqueueOptions(
        workflow_name=MAKE,
        queue_name=QUEUE,
        workflow_id=workflow_id(run, key),
        app_version=VERSION,
        application_name=APPLICATION,
        priority=place + 1,
        serialization_type=WorkflowSerializationFormat.PORTABLE,
    )


def _by_id(rows: Iterable[_Row]) -> dict[str, dict[str, Any]]:
    """What goes into each workflow: of tasks with one key, the first."""
    found = dict[str, dict[str, Any]]()
    for options, task in rows:
        found.setdefault(options["workflow_id"], task)
    return found


def _id_in(row: _Row) -> str:
    return row[0]["workflow_id"]


def _insert(
    client: DBOSClient,
    connection: Connection,
    rows: Sequence[_Row],
    stop: Event,
) -> None:
    insert = partial(client.enqueue_in_transaction, connection)
    for options, task in rows:
        insert(options, task)
        if stop.is_set():
            return  # and nothing is committed
    connection.commit()
