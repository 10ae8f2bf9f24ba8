"""The process of a film that is killed: `seedance batch`, which kills itself at steps of its work.

`python -m benchmarks.torture.film_life` imports the command line once and then forks: each line of
JSON that it reads is one command, run in a process of its own; it answers with how that ended. The
steps are wrapped around the journal, the transport, the uploads and `os.replace` from outside. A
process dies when it comes to the first step, of a shot, at which none has died before.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import seedance_async.media.frames  # noqa: F401 - before the processes are forked
from seedance_async.api.transport import AiohttpTransport, MediaResponse
from seedance_async.cli.app import run
from seedance_async.journal import SQLiteJournal
from seedance_async.media import EmulatorUploader
from seedance_async.session import chaining

_SHOT = re.compile(r"shot[- ]([0-9]+)")
_REQUEST_ID = re.compile(r"req_[0-9a-f]+")

#: The shot that a task submits.
_submitting: ContextVar[str] = ContextVar("submitting", default="")


class Death:
    """Kills the process at each step of each shot once, over all processes of a film.

    Args:
        path: the file of the places where one has died.
        steps: the only steps at which to die; all if it is empty.
    """

    def __init__(self, path: Path, steps: list[str]) -> None:
        self._path, self._steps = path, steps
        lines = path.read_text().splitlines() if path.exists() else []
        self._seen = {tuple(json.loads(line)) for line in lines}
        self.shots: dict[object, str] = {}  # by request id and by the number of the attempt

    def reached(self, step: str, shot: str) -> None:
        """Die here, unless a process has died here before or nobody knows what shot it is."""
        is_one = not self._steps or step in self._steps
        if shot and is_one and (step, shot) not in self._seen:
            with self._path.open("a") as file:
                file.write(json.dumps([step, shot]) + "\n")
            os.kill(os.getpid(), signal.SIGKILL)

    @contextlib.contextmanager
    def around(self, step: str, shot: str) -> Iterator[None]:
        """Reach it before and after a block."""
        self.reached(f"before {step}", shot)
        yield
        self.reached(f"after {step}", shot)

    def shot_in(self, text: str) -> str:
        """The shot that a key, a prompt, a URL or a path is about."""
        if named := _SHOT.search(text):
            return named[1]
        found = _REQUEST_ID.search(text)
        return self.shots.get(found[0], "") if found else ""

    def wrap(self) -> None:
        """Put the steps around what the command line uses."""
        self._wrap_journal()
        self._wrap_transport()
        self._wrap(EmulatorUploader, "__call__", "the upload", lambda *_: _submitting.get())
        replace, taken = os.replace, chaining._last_frame

        def replacing(source: Any, target: Any, **options: Any) -> None:
            name = str(target)
            with self.around("giving the file its name", self.shot_in(name)):
                replace(source, target, **options)

        def taking(video: Path) -> Any:
            with self.around("taking the frame", _submitting.get()):
                return taken(video)

        os.replace = replacing
        chaining._last_frame = taking

    def _wrap(self, kind: type, name: str, step: str, shot_of: Callable[..., str]) -> None:
        method = getattr(kind, name)

        @functools.wraps(method)
        async def stepping(*args: Any, **named: Any) -> Any:
            with self.around(step, shot_of(*args[1:])):
                return await method(*args, **named)

        setattr(kind, name, stepping)

    def _wrap_journal(self) -> None:
        find, claim, soon = SQLiteJournal.find, SQLiteJournal.claim, SQLiteJournal.record_soon

        async def finding(journal: SQLiteJournal, key: str) -> Any:
            shot = self.shot_in(key)
            _submitting.set(shot)
            with self.around("looking up", shot):
                entry = await find(journal, key)
                if entry is not None:
                    self.shots |= {entry.attempt: shot, entry.request_id: shot}
                return entry

        async def claiming(journal: SQLiteJournal, intent: Any, **named: Any) -> Any:
            shot = self.shot_in(intent.key)
            with self.around("the claim", shot):
                attempt = await claim(journal, intent, **named)
                self.shots[attempt] = shot
                return attempt

        def recording(journal: SQLiteJournal, attempt: int, **changes: Any) -> None:
            with self.around("recording the end", self.shots.get(attempt, "")):
                soon(journal, attempt, **changes)

        SQLiteJournal.find = finding  # type: ignore[method-assign]
        SQLiteJournal.claim = claiming  # type: ignore[method-assign]
        SQLiteJournal.record_soon = recording  # type: ignore[method-assign]
        self._wrap(SQLiteJournal, "record", "recording the id", lambda a: self.shots.get(a, ""))
        self._wrap(SQLiteJournal, "record_file", "recording the file", self.shot_in)

    def _wrap_transport(self) -> None:
        send, open_media = AiohttpTransport.send, AiohttpTransport.open_media

        async def sending(transport: Any, request: Any, *, on_sent: Any = None) -> Any:
            charges = request.charges
            shot = _submitting.get() if charges else self.shot_in(request.path)

            def sent() -> None:
                if charges:
                    self.reached("headers sent", shot)
                if on_sent is not None:
                    on_sent()

            with self.around("the submit" if charges else "a poll", shot):
                answer = await send(transport, request, on_sent=sent)
                found = _REQUEST_ID.search(answer.body.decode()) if charges else None
                if found:
                    self.shots[found[0]] = shot
                return answer

        @contextlib.asynccontextmanager
        async def opening(transport: Any, url: str, headers: Any) -> AsyncIterator[MediaResponse]:
            shot = self.shot_in(url)
            self.reached("before a download", shot)
            async with open_media(transport, url, headers) as media:
                chunks = self._halved(media.chunks, shot)
                yield MediaResponse(media.status, media.headers, chunks)
            self.reached("after a download", shot)

        AiohttpTransport.send = sending  # type: ignore[method-assign]
        AiohttpTransport.open_media = opening  # type: ignore[method-assign]

    async def _halved(self, chunks: AsyncIterator[bytes], shot: str) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            middle = len(chunk) // 2
            yield chunk[:middle]
            self.reached("during a download", shot)
            yield chunk[middle:]


def _live(words: list[str], deaths: str | None, steps: list[str], log: str) -> int:
    """One command, in this process; its exit code."""
    with Path(log).open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if deaths is not None:
        Death(Path(deaths), steps).wrap()
    return run(words)


def main() -> None:
    """Fork for each command, and tell its exit code, or the negative number of a signal."""
    for line in sys.stdin:
        child = os.fork()
        if not child:
            code = 1
            try:
                code = _live(**json.loads(line))
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
