"""`Work`: makes one task after the other of its key, in the session of its process.

The one thing that an engine calls. It may be called twice for one key, here and on other machines:
the journal lets one submit through, and all get the same outcome.
"""

from __future__ import annotations

from pathlib import Path

from seedance_async import Backoff, SeedanceSession
from seedance_async.engines.making import Making, Means
from seedance_async.engines.results import Results
from seedance_async.engines.submits import Submits
from seedance_async.engines.task import Outcome, Task

#: Between two tries of what fails for every task: a refused key, no credits, no journal.
PATIENCE = Backoff(initial=1.0, multiplier=2.0, maximum=60.0)


class Work:
    """Makes tasks in one session. Belongs to the session's event loop.

    Args:
        session: open, with a journal, which the other workers share.
        results: where videos go: a folder, a URL of a bucket, a `Results`; None to download none.
        submits: lets them through; by default, eight are on their way at once.
    """

    def __init__(
        self,
        session: SeedanceSession,
        results: Results | Path | str | None = None,
        *,
        submits: Submits | None = None,
    ) -> None:
        self._submits = submits or Submits(at_once=8, patience=PATIENCE, max_uncertain=10)
        self._means = Means(session, Results.at(results), self._submits)
        self._makings: dict[str, Making] = {}

    def __repr__(self) -> str:
        return f"<Work on {len(self._makings)} tasks in {self._means.session!r}>"

    async def make(self, task: Task, who: str = "") -> Outcome:
        """Make a task, once: submit it if nobody has, wait for its end, download its video.

        What was done before, by any process that shares the journal, is not done again. Failures
        that concern every task, such as a refused key, are told once and waited for. If this is
        cancelled, nothing is lost: the next call for the key goes on.

        Args:
            task: what is made.
            who: stands for the run that it is made for, if several may have the key.
        """
        making = self._making(task)
        if making.is_cancelled and not making.waits(who):  # for others
            making = self._new_making(task)
        return await making.outcome(who)

    async def cancel(self, task: Task, who: str = "") -> Outcome:
        """Make sure that a task which is not sent never is, and cancel it at the server otherwise.

        A `make` of the key in progress, for the same run, ends with the same outcome. One for
        another run goes on, unless the job is at the server already.
        """
        making = self._making(task)
        making.cancel(who)
        return await making.outcome(who)

    @property
    def held_by(self) -> str | None:
        """Why nothing can be submitted at this moment: the key is refused, say; else None."""
        return self._submits.held_by

    def _making(self, task: Task) -> Making:
        making = self._makings.get(task.key)
        return self._new_making(task) if making is None or making.is_left else making

    def _new_making(self, task: Task) -> Making:
        after = self._makings.get(task.key)
        making = self._makings[task.key] = Making(self._means, task, after, self._made)
        return making

    def _made(self, making: Making) -> None:
        if self._makings.get(making.task.key) is making:
            del self._makings[making.task.key]
