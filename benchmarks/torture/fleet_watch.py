"""What those who wait for a fleet see of it: the outcomes, and who has tasks that died."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

import attrs
from dbos import DBOSClient

from seedance_async.engines import Outcome
from seedance_async.engines.dbos import SeedanceQueue
from seedance_async.engines.dbos.names import APPLICATION, MAKE

RUN = "torture"

#: Seconds between two looks at who has the tasks.
_LOOK_EVERY = 0.2


@attrs.define
class Reader:
    """Reads the outcomes of the run to its end, again from the first one if a call breaks.

    Attributes:
        told: the outcome of each key.
        twice: keys that one call of `results` told twice.
        changed: keys whose outcome a later call told otherwise.
        broken: what ended calls before their time.
    """

    url: str
    look_every: float = 0.3
    told: dict[str, Outcome] = attrs.field(factory=dict)
    twice: list[str] = attrs.field(factory=list)
    changed: list[str] = attrs.field(factory=list)
    broken: list[str] = attrs.field(factory=list)
    _news: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)

    async def read(self) -> None:
        """Read until every task has its outcome."""
        while True:
            try:
                async with SeedanceQueue(self.url, look_every=self.look_every) as queue:
                    await self._read_once(queue)
            except Exception as error:  # what a reader may meet is what this finds out
                self.broken.append(f"results: {type(error).__name__}: {error}")
                await asyncio.sleep(self.look_every)
            else:
                return

    async def until(self, count: float) -> None:
        """Wait until so many tasks have their outcome."""
        while len(self.told) < count:
            self._news.clear()
            await self._news.wait()

    async def _read_once(self, queue: SeedanceQueue) -> None:
        seen: Counter[str] = Counter()
        async for outcome in queue.results(run=RUN):
            seen[outcome.key] += 1
            if self.told.setdefault(outcome.key, outcome) != outcome:
                self.changed.append(outcome.key)
            self._news.set()
        self.twice += [key for key, times in seen.items() if times > 1]


class Takeovers:
    """How long tasks stay with a worker that is dead, or stopped.

    Args:
        url: of the queue.
        note: called with a line for each takeover.

    Attributes:
        seconds: of each dead worker that had tasks, from its death until the last of them was back
            in the queue.
        of_stopped: the same of stopped ones, which look dead.
    """

    def __init__(self, url: str, note: Callable[[str], None] = lambda text: None) -> None:
        self._url, self._note = url, note
        self._gone: dict[str, tuple[float, list[float]]] = {}
        self._had: frozenset[str] = frozenset()
        self.seconds: list[float] = []
        self.of_stopped: list[float] = []
        self._news = asyncio.Event()

    def died(self, name: str | None, *, stopped: bool = False) -> None:
        """Take note that a worker is gone from now on."""
        if name is not None and name in self._had:
            found = self.of_stopped if stopped else self.seconds
            self._gone[name] = (time.monotonic(), found)

    def woke(self, name: str | None) -> None:
        """Take note that a stopped worker goes on."""
        self._gone.pop(name or "", None)

    async def next(self) -> None:
        """Wait until tasks were taken over."""
        self._news.clear()
        await self._news.wait()

    async def watch(self) -> None:
        """Look until this is cancelled; while the database is away there is nothing to see."""
        client: DBOSClient | None = None
        try:
            while True:
                began = time.monotonic()
                try:
                    client = client or await asyncio.to_thread(self._client)
                    rows = await client.list_workflows_async(
                        name=MAKE, status="PENDING", load_input=False, load_output=False
                    )
                except Exception:
                    await asyncio.sleep(_LOOK_EVERY)
                    continue
                self._look(began, frozenset(row.executor_id or "" for row in rows))
                await asyncio.sleep(_LOOK_EVERY)
        finally:
            if client is not None:
                client.destroy()

    def _client(self) -> DBOSClient:
        return DBOSClient(system_database_url=self._url, application_name=APPLICATION)

    def _look(self, began: float, have: frozenset[str]) -> None:
        self._had = have
        for name, (since, found) in list(self._gone.items()):
            if since < began and name not in have:
                found.append(time.monotonic() - since)
                self._note(f"taken over from {name} after {found[-1]:.1f} s")
                del self._gone[name]
                self._news.set()
