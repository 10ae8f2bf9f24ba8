"""The worker of a torture run that kills itself at a named step of a job's life.

The steps are wrapped around the journal, the transport and `os.replace` from outside: the SDK has
no hooks for this. `DIE_AT` in the environment is the name of a step and the occurrence at which to
die, as in `before the claim:2`.
"""

import contextlib
import json
import os
import signal
import sys

from benchmarks.torture.worker import Plan, main
from seedance_async.api.options import Endpoint
from seedance_async.api.transport import AiohttpTransport, MediaResponse
from seedance_async.journal import SQLiteJournal


class Death:
    def __init__(self, text):
        self._step, _, count = text.rpartition(":")
        self._left = int(count)

    def reached(self, step):
        if step == self._step:
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)

    @contextlib.contextmanager
    def around(self, step):
        self.reached(f"before {step}")
        yield
        self.reached(f"after {step}")


class DyingJournal(SQLiteJournal):
    def __init__(self, path, death):
        super().__init__(path)
        self._death = death

    async def open(self):
        with self._death.around("opening"):
            await super().open()

    async def find(self, key):
        with self._death.around("looking up"):
            return await super().find(key)

    async def claim(self, intent, **named):
        with self._death.around("the claim"):
            return await super().claim(intent, **named)

    async def record(self, attempt, **changes):
        with self._death.around("recording the id"):
            await super().record(attempt, **changes)

    async def record_file(self, key, **file):
        with self._death.around("recording the file"):
            await super().record_file(key, **file)

    def record_soon(self, attempt, **changes):
        with self._death.around("recording the end"):
            super().record_soon(attempt, **changes)

    async def aclose(self):
        with self._death.around("closing"):
            await super().aclose()


class DyingTransport(AiohttpTransport):
    def __init__(self, endpoint, death):
        super().__init__(endpoint)
        self._death = death

    async def send(self, request, *, on_sent=None):
        def sent():
            if request.charges:
                self._death.reached("headers sent")
            if on_sent is not None:
                on_sent()

        with self._death.around("the submit" if request.charges else "a poll"):
            return await super().send(request, on_sent=sent)

    @contextlib.asynccontextmanager
    async def open_media(self, url, headers):
        self._death.reached("before a download")
        async with super().open_media(url, headers) as media:
            yield MediaResponse(media.status, media.headers, self._halved(media.chunks))
        self._death.reached("after a download")

    async def _halved(self, chunks):
        async for chunk in chunks:
            middle = len(chunk) // 2
            yield chunk[:middle]
            self._death.reached("during a download")
            yield chunk[middle:]


def die_around_replace(death):
    replace = os.replace

    def dying(source, target, **options):
        with death.around("giving the file its name"):
            replace(source, target, **options)

    os.replace = dying


def run():
    plan, death = Plan(**json.loads(os.environ["TORTURE_PLAN"])), Death(os.environ["DIE_AT"])
    die_around_replace(death)
    session = plan.session(
        journal=DyingJournal(plan.journal, death),
        transport=DyingTransport(Endpoint.resolve(None, plan.url), death),
    )
    return main(plan, session)


if __name__ == "__main__":
    sys.exit(run())
