"""`Queue`: what every engine does for those who give it work."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from typing import Protocol, TypeAlias

import attrs

from seedance_async import GenerationRequest, SeedanceError
from seedance_async.engines.task import Outcome, Task

#: What can be given to a queue: a request, a pair of a key and a request, or a whole task.
Requests: TypeAlias = Iterable[GenerationRequest | tuple[str, GenerationRequest] | Task]


class QueueError(SeedanceError):
    """The queue cannot be reached, read or written."""


@attrs.frozen
class RunStatus:
    """A run at one moment.

    Attributes:
        waiting: tasks that no worker has.
        running: tasks that a worker has.
        ended: outcomes, by state.
        workers: tasks by the worker that has them.
        making: the keys of the running tasks.
    """

    waiting: int = 0
    running: int = 0
    ended: Mapping[str, int] = attrs.field(factory=dict)
    workers: Mapping[str, int] = attrs.field(factory=dict)
    making: Collection[str] = attrs.field(default=(), repr=False)

    @property
    def total(self) -> int:
        """All tasks of the run."""
        return self.waiting + self.running + sum(self.ended.values())

    @property
    def is_complete(self) -> bool:
        """Whether every task has its outcome."""
        return not self.waiting and not self.running


class Queue(Protocol):
    """Hands out the tasks of runs, each to one worker after the other until it has an outcome.

    A run is a name: tasks that are enqueued under it belong together. A key may be in several runs,
    and is one job nevertheless, which is paid once; each run is told its outcome.

    Raised by every method:
        QueueError: the queue cannot be reached, read or written. What was asked for may be done in
            part, and can be asked for again. Whoever follows a run waits for the queue instead.
    """

    async def enqueue(self, requests: Requests, *, run: str) -> list[str]:
        """Add tasks to a run; those that it has are left as they are.

        A task of the run that has another request under its key is replaced, while nothing is sent
        for that key and no worker has had the task, or it was rejected or cancelled, unsent: it
        waits for a worker as if it were new. So is one that waits, or was rejected, where only the
        signatures of its media, its metadata or its webhook are new; otherwise these are left, too.

        A request without a key of its own gets that of its content, and of how often it has
        occurred in this call, as in a session. So a call that was broken off can be repeated.

        Returns:
            The keys, in the order of the requests.

        Raises:
            ValueError: a request that cannot be made on another machine, a key that is no name, one
                that two different requests of this call have, one that belongs to another request
                in the run, which cannot be replaced any more, or a `Task.file` that two of its
                tasks have. Nothing is enqueued.
        """

    def results(self, *, run: str) -> AsyncGenerator[Outcome]:
        """Each outcome of the run once, from its first on, however late this begins.

        Ends once every task of the run has its outcome. A run that has no tasks ends at once.
        """

    def follow(self, *, run: str) -> AsyncGenerator[tuple[Sequence[Outcome], RunStatus]]:
        """As `results`, look by look: the outcomes since the last one, and how far the run is."""

    async def tasks(self, *, run: str) -> dict[str, Outcome | None]:
        """The keys of the run, each with its outcome, if it has one."""

    async def task(self, key: str) -> Task | None:
        """The task with this key, of any run that has it; None if none has."""

    async def runs(self) -> list[str]:
        """The names of all runs that have tasks, the oldest first."""

    async def is_empty(self) -> bool:
        """Whether every task of every run has its outcome."""

    async def cancel(self, *, run: str, keys: Iterable[str] | None = None) -> int:
        """Cancel tasks of a run; all that have no outcome, if no keys are given.

        What is not sent is never sent; what runs is cancelled at the server, which may have made it
        nevertheless. Each is told by `results`, with what became of it.

        Returns:
            How many had no outcome yet.
        """

    async def status(self, *, run: str) -> RunStatus:
        """How far the run is."""

    async def again(self, *, run: str, keys: Iterable[str]) -> int:
        """Hand tasks out again that have an outcome: that were rejected or cancelled, say.

        What was accepted is not submitted again, whatever its outcome, and neither is what is
        uncertain: the journal knows. A reader who was told the earlier outcome may be told the
        later one, too; `status` counts what there is now.

        Returns:
            How many had an outcome.
        """

    async def forget(self, *, run: str) -> int:
        """Remove a run whose tasks all have their outcomes, and return how many there were.

        The journal keeps what was paid: a key that is enqueued again is not bought again.

        Raises:
            ValueError: a task has no outcome yet.
        """

    async def aclose(self) -> None:
        """Release what the queue holds. Runs go on."""
