"""Shows a run while it goes on: the live view on a terminal, elsewhere a heartbeat; the news."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from rich.console import Group
from rich.live import Live

from seedance_async import GenerationRequest
from seedance_async.cli.console import Screen
from seedance_async.cli.inputs import Line
from seedance_async.cli.live.earlier import earlier_times
from seedance_async.cli.live.jobs import RunningJobs
from seedance_async.cli.live.news import News
from seedance_async.cli.live.view import Moment, View
from seedance_async.cli.runs.outcome import Outcome
from seedance_async.cli.runs.run import Run

_log = logging.getLogger(__name__)

#: Seconds between two pictures of the live view.
TICK = 0.2

#: The share of the time that may go into drawing, however many jobs there are.
SHARE = 0.05

#: Seconds between two lines where there is no terminal.
HEARTBEAT = 30.0


class _Display:
    """One run, and what is known of its jobs.

    Args:
        run: the run.
        screen: where it is shown.
        names_lines: whether lines have numbers that the user knows.
        tells: whether outcomes are told as they happen.
    """

    def __init__(self, run: Run, screen: Screen, *, names_lines: bool, tells: bool) -> None:
        self._run, self._screen, self._tells = run, screen, tells
        self._names_lines = names_lines
        self._began = _now()
        self._jobs = RunningJobs(self._line_of, saves=run.saves)
        self._news = News(screen.tell, self._line_of)

    def drawn(self) -> Group:
        """What is shown on a terminal; nothing if it cannot be drawn, which must end no run."""
        console = self._screen.console
        try:
            view = View(self.moment(), self._jobs, _now())
            return Group(*view.lines(console.width, console.height))
        except Exception:
            _log.exception("the live view cannot be drawn")
            return Group()

    def moment(self) -> Moment:
        """The figures."""
        run, now = self._run, _now()
        seconds, stats, last = now - self._began, run.session.stats(), self._jobs.remaining(now)
        stopping = run.interrupts.stopping
        return Moment(stats, run.total, run.saved, seconds, run.ended_before, last, stopping)

    async def learn(self) -> None:
        """Learn from the user's earlier runs what is to be expected."""
        origin = self._run.session.client.base_url
        self._jobs.learn(await asyncio.to_thread(earlier_times, origin))

    async def beat(self) -> None:
        """Say the figures, again and again."""
        while True:
            await asyncio.sleep(HEARTBEAT)
            moment = self.moment()
            states = [text for text, _ in moment.states()]
            parts = [*moment.figures(), *states, *moment.troubles()]
            self._screen.tell(" · ".join(parts))

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Hear what happens while the block runs."""
        listeners = [self._jobs.hear, self._news.hear] if self._tells else [self._jobs.hear]
        self._screen.listeners += listeners
        self._run.on_outcome = self._settled
        try:
            yield
        finally:
            for listener in listeners:
                self._screen.listeners.remove(listener)

    def _settled(self, outcome: Outcome) -> None:
        self._jobs.settled(outcome.request_id)
        is_news = not (self._run.interrupts.leaving or self._run.had_ended(outcome))
        if self._tells and is_news:
            self._news.settled(outcome)

    def _line_of(self, request: GenerationRequest | None) -> Line | None:
        return self._run.line_of(request) if self._names_lines else None


@asynccontextmanager
async def shown(
    run: Run, screen: Screen, *, names_lines: bool = True, tells: bool = True
) -> AsyncIterator[None]:
    """Show a run while the block runs; nothing of the live view is left after it.

    Args:
        run: the run.
        screen: where to show it.
        names_lines: whether its lines have numbers that the user knows.
        tells: whether the outcome of each job is told as it happens.
    """
    display = _Display(run, screen, names_lines=names_lines, tells=tells)
    async with display.listening():
        if not screen.is_live:
            async with _beside(display.beat()):
                yield
            return
        with Live(
            get_renderable=display.drawn,
            console=screen.console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),  # else results would go to the terminal
        ) as live:
            async with _beside(display.learn()), _beside(_tick(live.refresh)):
                yield


@asynccontextmanager
async def _beside(work: Awaitable[None]) -> AsyncIterator[None]:
    """Run something beside the block."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _tick(refresh: Callable[[], None]) -> None:
    while True:
        began = time.perf_counter()
        refresh()
        took = time.perf_counter() - began
        await asyncio.sleep(max(TICK, took / SHARE))


def _now() -> float:
    return asyncio.get_running_loop().time()
