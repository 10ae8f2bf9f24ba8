"""The live view: a row for each running job, then a bar with the figures, at any width.

It draws what it is given and knows no session. Figures are never cut: at a narrow terminal they
take more lines. The last columns stay free, so that a `^C` which the terminal echoes starts no line
of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import attrs
from rich.text import Text

from seedance_async import JobState, SessionStats
from seedance_async._utils.plural import counted
from seedance_async.cli.console import printable
from seedance_async.cli.live.clock import clock, pace
from seedance_async.cli.live.jobs import RunningJob, RunningJobs, Step

#: Colours and not "dim", which terminals show in very different ways, if at all.
_FAINT, _EMPTY = "grey62", "grey37"
_STYLES = {
    JobState.PROCESSING: "cyan",
    JobState.SUCCEEDED: "green",
    JobState.FAILED: "red",
    JobState.UNCERTAIN: "bold yellow",
    JobState.REJECTED: "red",
    JobState.CANCELLED: "yellow",
    JobState.ABANDONED: "yellow",
}
_STEP_STYLES = {
    Step.SENDING: "yellow",
    Step.QUEUED: _FAINT,
    Step.PROCESSING: "cyan",
    Step.SAVING: "green",
}

#: Columns that stay free for `^C^C`.
_FREE = 4

#: Widths from which a row has a bar, and the details of its request.
_MEDIUM, _WIDE = 64, 100

#: Characters of a prompt that are looked at for its row.
_LONGEST = 500

#: Lines of a terminal that are left to the messages above the view.
_MESSAGES = 7


@attrs.frozen
class Moment:
    """The figures of a run at one moment; the pace is that of this run alone.

    Attributes:
        stats: the session's.
        total: lines in all.
        saved: videos saved.
        seconds: since the run began.
        ended_before: lines that had ended in an earlier run.
        last_ends_in: seconds until the last running job probably ends; None if that is unknown.
        is_stopping: whether nothing more is submitted, since the user has interrupted the run.
    """

    stats: SessionStats
    total: int
    saved: int
    seconds: float
    ended_before: int = 0
    last_ends_in: float | None = None
    is_stopping: bool = False

    @property
    def done(self) -> int:
        """How many jobs are final, whatever their state."""
        return sum(count for state, count in self.stats.counts.items() if state.is_final)

    def figures(self) -> list[str]:
        """What must be seen at any width: progress, time, what is left, pace, cost."""
        many = self.total > 1
        return [
            *([f"{self.done:,}/{self.total:,}"] if many else []),
            f"{clock(self.seconds)} elapsed",
            *([f"ETA {clock(self.eta)}"] if self.eta is not None else []),
            *([self._pace()] if many else []),
            counted(self.stats.credits_charged, "credit"),
        ]

    def states(self) -> list[tuple[str, str]]:
        """How many jobs are in each state, and how many videos are saved, with styles."""
        counts = self.stats.counts.items()
        found = [(f"{n:,} {state}", _STYLES.get(state, "")) for state, n in counts if n]
        return [*found, (f"{self.saved:,} saved", "")]

    def troubles(self) -> list[str]:
        """What holds the run up."""
        waits = self.stats.waiting.items()
        told = ["interrupted: only running jobs are waited for"] if self.is_stopping else []
        told += [f"waiting for the {awaited} {clock(seconds)}" for awaited, seconds in waits]
        if 1 <= self.stats.submit_hold < math.inf:  # it is shut for good once a run ends early
            told.append(f"submits held back for {clock(self.stats.submit_hold)}")
        return told

    @property
    def eta(self) -> float | None:
        """Seconds until all lines are done; None while nothing is known, and at the end."""
        running = sum(n for state, n in self.stats.counts.items() if not state.is_final)
        left = running if self.is_stopping else self.total - self.done
        if not left or not running:
            return None
        sent = running - self.stats.counts.get(JobState.PENDING, 0)
        if left <= sent and self.last_ends_in is not None:
            return self.last_ends_in
        rate = self.stats.finish_rate or self._rate
        return left / rate if rate else None

    @property
    def _rate(self) -> float:
        ended = self.done - self.ended_before
        return ended / self.seconds if ended > 0 and self.seconds > 0 else 0.0

    def _pace(self) -> str:
        return pace(self._rate) if self._rate else "no pace yet"


@attrs.frozen
class View:
    """The whole view.

    Attributes:
        moment: the figures.
        jobs: the jobs in progress.
        now: the event loop's clock.
    """

    moment: Moment
    jobs: RunningJobs
    now: float

    def lines(self, columns: int, height: int) -> list[Text]:
        """The lines for a terminal of this size."""
        width = max(20, columns - _FREE)
        summary = list(self._summary(width))
        most = max(1, height - len(summary) - _MESSAGES)
        if len(self.jobs) > most:
            most -= 1
        shown = self.jobs.shown(most)
        rows = list(self._rows(shown, width))
        more = len(self.jobs) - len(shown)
        if more:
            rows.append(Text(f"… and {more:,} more", style=_FAINT))
        return [*([Text()] if rows else []), *rows, *summary]

    # --- the bar and the figures ------------------------------------------------------------

    def _summary(self, width: int) -> Iterator[Text]:
        troubles = [Text(each, style="yellow") for each in self.moment.troubles()]
        if self.moment.total == 1:
            yield from flowed(map(Text, self.moment.figures()), width)
            yield from flowed(troubles, width)
            return
        first, *figures = self.moment.figures()
        parts = [Text(first, style="bold"), *map(Text, figures)]
        bar = width - sum(len(part) + 3 for part in parts) + 2
        if bar >= 8:
            yield self._bar(min(bar, 30)).append(" ").append_text(_joined(parts))
        else:
            yield self._bar(width - len(parts[0]) - 1).append(" ").append_text(parts[0])
            yield from flowed(parts[1:], width)
        states = [Text(text, style=style) for text, style in self.moment.states()]
        yield from flowed(states, width)
        yield from flowed(troubles, width)

    def _bar(self, width: int) -> Text:
        return _bar(self.moment.done / max(1, self.moment.total), max(4, width), "green")

    # --- the rows ---------------------------------------------------------------------------

    def _rows(self, jobs: Sequence[RunningJob], width: int) -> Iterator[Text]:
        expected = [self.jobs.expected(job, self.now) for job in jobs]
        labels, ages = [_label(job) for job in jobs], [self._age(job) for job in jobs]
        ends = [f" of ~{clock(each)}" if each else "" for each in expected]
        label, age, end = (max(map(len, each), default=0) for each in (labels, ages, ends))
        for job, name, since, of, takes in zip(jobs, labels, ages, ends, expected, strict=True):
            style = _STEP_STYLES[job.step]
            right = self._right(job, takes, width).append(f" {since:>{age}}{of:<{end}}")
            row = Text(no_wrap=True, overflow="crop").append("● ", style=style)
            row.append(f"{name:>{label}} " if label else "", style="bold")
            prompt = Text(_prompt(job))
            room = max(1, width - row.cell_len - right.cell_len)
            prompt.truncate(room, overflow="ellipsis", pad=True)
            yield row.append_text(prompt).append_text(right)

    def _right(self, job: RunningJob, expected: float | None, width: int) -> Text:
        """What stands between a row's prompt and its times."""
        text = Text()
        if width >= _WIDE:
            text.append(f" {_details(job):<16} {job.request_id or '':<20}", style=_FAINT)
        if width >= _MEDIUM:
            text.append(f" {job.step:<10} ", style=_STEP_STYLES[job.step])
            text.append_text(self._job_bar(job, expected, 16 if width >= _WIDE else 10))
        return text

    def _job_bar(self, job: RunningJob, expected: float | None, width: int) -> Text:
        if not expected:
            return Text(" " * width)
        share = (self.now - job.since) / expected
        return _bar(share, width, "yellow" if share >= 1 else "cyan")

    def _age(self, job: RunningJob) -> str:
        return (">" if job.is_older else "") + clock(self.now - job.since)


def _joined(parts: Iterable[Text]) -> Text:
    between = Text.assemble((" · ", _FAINT))  # with a style of its own, all would be in that
    return between.join(list(parts))


def flowed(parts: Iterable[Text], width: int) -> Iterator[Text]:
    """The parts, as many in a line as fit."""
    line = list[Text]()
    for part in parts:
        if line and sum(len(each) + 3 for each in line) + len(part) > width:
            yield _joined(line)
            line = []
        line.append(part)
    if line:
        yield _joined(line)


def _bar(share: float, width: int, style: str) -> Text:
    filled = max(0, min(width, int(width * share)))
    return Text().append("━" * filled, style=style).append("━" * (width - filled), style=_EMPTY)


def _label(job: RunningJob) -> str:
    if job.line is None:
        return ""
    take = f".{job.line.take}" if job.line.take > 1 else ""
    return f"{job.line.number}{take}"


def _prompt(job: RunningJob) -> str:
    """A request's prompt in one line; the id of a job without one."""
    if job.request is None:
        return job.request_id or ""
    return printable(" ".join(job.request.prompt[:_LONGEST].split()))


def _details(job: RunningJob) -> str:
    """What was asked for, as far as the request says."""
    if job.request is None:
        return ""
    asked = job.request
    seconds = None if asked.duration is None else f"{asked.duration} s"
    parts = (asked.resolution, asked.aspect_ratio, seconds)
    return " ".join(str(each) for each in parts if each)[:16]
