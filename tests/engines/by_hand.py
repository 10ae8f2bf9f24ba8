"""An engine of a few lines, in memory: that the contract can be kept without DBOS.

It forgets all when its process ends, so it is for these tests alone.
"""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager

import attrs

from seedance_async import GenerationRequest, SeedanceSession
from seedance_async.engines import Outcome, RunStatus, Task, Work
from seedance_async.journal import SQLiteJournal, read_entries
from seedance_async.journal.keys import Occurrences, fingerprint


@attrs.define(eq=False)
class Row:
    task: Task
    run: str
    outcome: Outcome | None = None
    worker: str | None = None
    cancelled: bool = False


class HandQueue:
    """A `Queue` over a dict that its workers share."""

    def __init__(self, runs, journal):
        self._runs, self._journal = runs, journal

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.aclose()

    async def enqueue(self, requests, *, run):
        rows, occurrences = self._runs.setdefault(run, {}), Occurrences()
        tasks = [_task(item, occurrences) for item in requests]
        if len({t.key for t in tasks}) < len({(t.key, fingerprint(t.request)) for t in tasks}):
            raise ValueError("two different requests have one key")
        others = [t.key for t in tasks if t.key in rows and rows[t.key].task.request != t.request]
        kept = self._sent() | {key for key in others if not _is_replaceable(rows[key])}
        if not kept.isdisjoint(others):
            raise ValueError(f"{kept.intersection(others)} belong to another request")
        for key in others:
            rows.pop(key, None)
        for task in tasks:
            rows.setdefault(task.key, Row(Task.load(task.dump()), run))
        return [task.key for task in tasks]

    async def follow(self, *, run):
        told = set()
        while True:
            new = [row for row in self._rows(run) if row.outcome and row not in told]
            told.update(new)
            status = await self.status(run=run)
            yield [row.outcome for row in new], status
            if status.is_complete:
                return
            await asyncio.sleep(0.01)

    async def results(self, *, run):
        async for outcomes, _ in self.follow(run=run):
            for outcome in outcomes:
                yield outcome

    async def tasks(self, *, run):
        return {row.task.key: row.outcome for row in self._rows(run)}

    async def runs(self):
        return list(self._runs)

    async def status(self, *, run):
        rows = self._rows(run)
        left = [row for row in rows if row.outcome is None]
        running = [row for row in left if row.worker]
        return RunStatus(
            waiting=len(left) - len(running),
            running=len(running),
            ended=dict(Counter(row.outcome.state for row in rows if row.outcome)),
            workers=Counter(row.worker for row in running),
            making={row.task.key for row in running},
        )

    async def cancel(self, *, run, keys=None):
        rows = [r for r in self._rows(run) if r.outcome is None and _wanted(r, keys)]
        for row in rows:
            row.cancelled = True
            if row.worker is None:
                row.outcome = Outcome(row.task.key, "cancelled")
        return len(rows)

    async def again(self, *, run, keys):
        rows = [row for row in self._rows(run) if row.outcome and _wanted(row, keys)]
        for row in rows:
            row.outcome, row.cancelled = None, False
        return len(rows)

    async def forget(self, *, run):
        if any(row.outcome is None for row in self._rows(run)):
            raise ValueError("tasks have no outcome yet")
        return len(self._runs.pop(run, {}))

    async def aclose(self):
        pass

    def _sent(self):
        entries = read_entries(self._journal) if self._journal.exists() else []
        return {entry.key for entry in entries if entry.state != "rejected"}

    def _rows(self, run):
        return list(self._runs.get(run, {}).values())


@asynccontextmanager
async def hand_worker(runs, journal, videos, **options):
    """Makes what is in the queue: each key by `Work.make`, and nothing else."""
    async with AsyncExitStack() as stack:
        session = SeedanceSession(journal=SQLiteJournal(journal, shared=True), **options)
        await session.open()
        stack.push_async_callback(session.aclose, leave=True, within=5.0)
        working = asyncio.create_task(_work_off(runs, Work(session, videos)))
        try:
            yield
        finally:
            working.cancel()
            await asyncio.wait({working})


async def _work_off(runs, work):
    cancelling = set()
    async with asyncio.TaskGroup() as tasks:
        while True:
            for row in [row for rows in runs.values() for row in rows.values()]:
                if row.outcome is None and row.worker is None:
                    row.worker = "by hand"
                    tasks.create_task(_make(row, work))
                elif row.cancelled and row.outcome is None and row not in cancelling:
                    cancelling.add(row)
                    tasks.create_task(work.cancel(row.task, row.run))
            await asyncio.sleep(0.01)


async def _make(row, work):
    try:
        row.outcome = await (work.cancel if row.cancelled else work.make)(row.task, row.run)
    finally:
        row.worker = None


def _task(item, occurrences):
    if isinstance(item, GenerationRequest):
        return Task(occurrences.key(fingerprint(item)), item)
    return item if isinstance(item, Task) else Task(*item)


def _is_replaceable(row):
    return row.worker is None and (row.outcome is None or not row.outcome.sent)


def _wanted(row, keys):
    return keys is None or row.task.key in keys
