"""Live progress: one line on stderr during a run, and nothing where stderr is no terminal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import attrs
from rich.live import Live
from rich.text import Text

from seedance_async import JobState, SessionStats
from seedance_async._utils.plural import counted
from seedance_async.cli.console import Screen
from seedance_async.cli.runs.run import Run

TICK = 0.125
_BAR = 20
_STYLES = {
    JobState.SUCCEEDED: "green",
    JobState.FAILED: "red",
    JobState.UNCERTAIN: "bold yellow",
    JobState.REJECTED: "red",
    JobState.CANCELLED: "yellow",
    JobState.ABANDONED: "yellow",
}


@attrs.frozen
class Moment:
    """What the progress line shows at one moment; the pace is that of this run alone."""

    stats: SessionStats
    total: int
    saved: int
    seconds: float
    ended_before: int = 0

    @property
    def done(self) -> int:
        """How many jobs are final, whatever their state."""
        return sum(count for state, count in self.stats.counts.items() if state.is_final)

    def line(self) -> Text:
        """The line: progress, states, cost, pace, time left."""
        filled = _BAR * self.done // max(1, self.total)
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append("━" * filled, style="green").append("━" * (_BAR - filled), style="dim")
        text.append(f" {self.done}/{self.total}", style="bold")
        for state, count in self.stats.counts.items():
            if count:
                text.append(" · ", style="dim")
                text.append(f"{count} {state}", style=_STYLES.get(state, ""))
        credits = counted(self.stats.credits_charged, "credit")
        for part in (f"{self.saved} saved", credits, self._pace()):
            text.append(" · ", style="dim").append(part)
        for awaited, seconds in self.stats.waiting.items():
            text.append(f" · waiting for the {awaited} {clock(seconds)}", style="yellow")
        return text

    def _pace(self) -> str:
        ended = self.done - self.ended_before
        if ended <= 0 or self.seconds <= 0:
            return "no pace yet"
        rate = ended / self.seconds
        pace = f"{rate:.1f}/s" if rate >= 1 else f"{60 * rate:.1f}/min"
        if not self.stats.in_flight:  # the end, though perhaps not of all lines
            return f"{pace} · {clock(self.seconds)}"
        return f"{pace} · ETA {clock((self.total - self.done) / rate)}"


def clock(seconds: float) -> str:
    """A duration as `1:05` or `2:03:04`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@asynccontextmanager
async def shown(run: Run, screen: Screen) -> AsyncIterator[None]:
    """Show the run's progress while the block runs."""
    if not screen.console.is_terminal:
        yield
        return
    started = time.monotonic()

    def line() -> Text:
        seconds = time.monotonic() - started
        moment = Moment(run.session.stats(), run.total, run.saved, seconds, run.ended_before)
        return moment.line()

    with Live(get_renderable=line, console=screen.console, auto_refresh=False) as live:
        ticking = asyncio.create_task(_tick(live.refresh), name="seedance-progress")
        try:
            yield
        finally:
            ticking.cancel()
            with suppress(asyncio.CancelledError):
                await ticking
            live.refresh()


async def _tick(refresh: Callable[[], None]) -> None:
    while True:
        refresh()
        await asyncio.sleep(TICK)
