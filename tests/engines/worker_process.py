"""A worker in a process of its own, which dies, or stops, at a chosen step of a job's life.

The processes are forked from one that has imported everything: that takes longer than a test.
"""

import asyncio
import multiprocessing
import os
import signal
import warnings
from functools import wraps

from seedance_async.api.options import Endpoint
from seedance_async.engines.dbos import SeedanceWorker
from seedance_async.engines.dbos.places import journal_at
from tests.conftest import QUICK_POLL, QUICK_RETRY
from tests.kill.dying import Death, DyingTransport

#: The steps of a journal by the names of its methods.
STEPS = {
    "claim": "the claim",
    "record": "recording the id",
    "record_soon": "recording the end",
    "record_file": "recording the file",
}


class Stop(Death):
    """The process is stopped there, and goes on once it is told to."""

    def reached(self, step):
        if step == self._step:
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGSTOP)


def dying_journal(url, death):
    """The journal at a URL, whatever its kind, with steps at which the process dies."""
    journal = journal_at(url)
    for name, step in STEPS.items():
        setattr(journal, name, _around(getattr(journal, name), step, death))
    return journal


def _around(method, step, death):
    if not asyncio.iscoroutinefunction(method):

        @wraps(method)
        def around(*args, **named):
            with death.around(step):
                return method(*args, **named)

        return around

    @wraps(method)
    async def awaited_around(*args, **named):
        with death.around(step):
            return await method(*args, **named)

    return awaited_around


async def main(plan):
    death = (Stop if plan["stops"] else Death)(plan["step"])
    worker = SeedanceWorker(
        plan["url"], plan["videos"], journal=dying_journal(plan["url"], death),
        transport=DyingTransport(Endpoint.resolve(plan["api_key"], plan["base_url"]), death),
        base_url=plan["base_url"], api_key=plan["api_key"], poll=QUICK_POLL, retry=QUICK_RETRY,
        **plan["options"],
    )  # fmt: skip
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.leave)
    async with worker:
        await worker.serve()


def run(plan):
    warnings.simplefilter("error")
    asyncio.run(main(plan))


class WorkerProcess:
    """One such process, started."""

    def __init__(self, plan):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["pytest", __name__])
        self._process = context.Process(target=run, args=(plan,))
        self._process.start()

    @property
    def pid(self):
        return self._process.pid

    def send_signal(self, number):
        os.kill(self.pid, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self._process.kill()

    async def wait(self):
        """Its exit code, once it has ended; minus the signal that killed it."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._process.sentinel, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._process.sentinel)
        self._process.join()
        return self._process.exitcode
