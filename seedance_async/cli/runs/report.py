"""The report of a run: its summary for people, and its exit code. It saves nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from seedance_async import JobState, SourceJobError
from seedance_async._utils.plural import counted
from seedance_async.cli.console import Screen
from seedance_async.cli.exit_codes import ExitCode, InterruptedRunError, code_of, worst
from seedance_async.cli.inputs import Place
from seedance_async.cli.live.clock import clock
from seedance_async.cli.runs.next_steps import NextSteps
from seedance_async.cli.runs.outcome import NOT_SUBMITTED, Outcome
from seedance_async.cli.runs.reasons import reason_of, remedy_for
from seedance_async.cli.text import shorten

#: How many outcomes, or reasons, of one kind are listed; the rest are in the results.
_LISTED = 10

#: Ranges of lines that are named for one reason.
_PIECES = 10

#: States of jobs that are paid for and have no video.
_ENDED = (JobState.FAILED, JobState.CANCELLED)

#: A job that goes on at the server although nobody waits for it: the user has left.
_STILL_RUNNING = "still running"


class Report:
    """The outcomes of a run, collected as they happen.

    Args:
        next_steps: the run's.
        source: the name of the input whose lines the outcomes are; None where there is none.
    """

    def __init__(self, next_steps: NextSteps, *, source: str | None = None) -> None:
        self._next_steps, self._source = next_steps, source
        self.outcomes: list[Outcome] = []
        self.charged_earlier = 0
        self._codes: set[ExitCode] = set()

    def add(self, outcome: Outcome) -> None:
        """Add one outcome."""
        self.outcomes.append(outcome)

    def also(self, code: ExitCode) -> None:
        """Take in something that is no outcome, such as a results file that broke."""
        self._codes.add(code)

    @property
    def has_lines(self) -> bool:
        """Whether the outcomes are those of an input's lines."""
        return self._source is not None

    @property
    def was_interrupted(self) -> bool:
        """Whether the user ended the run early."""
        return ExitCode.INTERRUPTED in self._codes

    def code(self) -> ExitCode:
        """The exit code of all outcomes together, and of what else happened."""
        return worst({*(code_of(outcome.error) for outcome in self.outcomes), *self._codes})

    def show(self, screen: Screen, seconds: float) -> None:
        """Show what went wrong and what to do about it, and then how it went in all."""
        self.show_details(screen)
        self.show_headline(screen, seconds)

    def show_details(self, screen: Screen) -> None:
        """Show what went wrong, and what to do about it; the gravest last."""
        failed = self._in(JobState.FAILED)
        self._show_reasons(screen, failed, f"failed{self._for_credits(failed)}")
        self._show_reasons(screen, self._in(JobState.CANCELLED), "cancelled")
        refused = self._in(JobState.REJECTED, NOT_SUBMITTED)
        self._show_reasons(screen, refused, f"{_states(refused)}, nothing charged")
        self._show_left_running(screen)
        self._show_given_up(screen)
        self._show_unsaved(screen)
        self._show_uncertain(screen)

    def show_headline(self, screen: Screen, seconds: float) -> None:
        """Show the cost and the counts."""
        screen.say(self._credits())
        code = self.code()
        style = "bold green" if code is ExitCode.SUCCESS else "bold"
        screen.say(self._counts(seconds), style=style)

    def _counts(self, seconds: float) -> str:
        counts = Counter(_state(outcome) for outcome in self.outcomes)
        order = [*map(str, JobState), _STILL_RUNNING, NOT_SUBMITTED]
        parts = [f"{counts[s]:,} {s.replace('_', ' ')}" for s in order if counts[s]]
        saved = sum(outcome.is_saved for outcome in self.outcomes)
        parts.append(f"{counted(saved, 'video')} saved")
        took = f"{seconds:.1f} s" if seconds < 60 else clock(seconds)
        return f"{self._counted(self.outcomes)} in {took}: {', '.join(parts)}"

    def _credits(self) -> str:
        charged = sum(outcome.credits_charged or 0 for outcome in self.outcomes)
        text = f"{counted(charged, 'credit')} charged, as reported by the server"
        if self.charged_earlier:
            text += f" ({self.charged_earlier:,} of them in earlier runs)"
        uncertain = len(self._in(JobState.UNCERTAIN))
        if uncertain:
            text += f"; {counted(uncertain, 'uncertain submit')} may have been charged as well"
        return text

    def _for_credits(self, outcomes: Sequence[Outcome]) -> str:
        charged = sum(outcome.credits_charged or 0 for outcome in outcomes)
        return f", {counted(charged, 'credit')} charged" if charged else ""

    def _show_reasons(self, screen: Screen, found: list[Outcome], words: str) -> None:
        """Outcomes that ended badly: each reason once, with what to do about it."""
        if not found:
            return
        screen.say(f"{self._counted(found)} {words}:", style="red")
        by_reason = dict[tuple[str, str | None], list[Outcome]]()
        for outcome in found:
            by_reason.setdefault((reason_of(outcome), remedy_for(outcome)), []).append(outcome)
        for (reason, remedy), outcomes in list(by_reason.items())[:_LISTED]:
            screen.say(f"  {self._named(outcomes)}{reason and ': '}{reason}")
            again = self._repeat(outcomes)
            if remedy or again:
                screen.say(f"    What to do: {remedy or again}", whole=remedy is None)
        if len(by_reason) > _LISTED:
            screen.say(f"  … and {len(by_reason) - _LISTED:,} more reasons")

    def _repeat(self, outcomes: Sequence[Outcome]) -> str | None:
        """How to buy outcomes once more: they are paid for, or what they are made from is."""
        if isinstance(outcomes[0].error, SourceJobError):
            return self._see_to_source(outcomes[0].error.key)
        if outcomes[0].state not in _ENDED or self._source is None:
            return None
        return self._next_steps.repeat(ranges(each.line for each in outcomes if each.line))

    def _see_to_source(self, key: str) -> str | None:
        """What to do about the line whose video others are made from; None if it is not here."""
        source = next((each for each in self.outcomes if each.key == key), None)
        if source is None or source.line is None:
            return None
        if remedy := remedy_for(source):
            return f"see to line {source.line} first: {remedy}"
        if source.state in _ENDED:
            return self._next_steps.repeat_source(source.line)
        return f"see to line {source.line} first, and run again"

    def _show_uncertain(self, screen: Screen) -> None:
        uncertain = self._in(JobState.UNCERTAIN)
        if not uncertain:
            return
        is_one = len(uncertain) == 1
        screen.say(
            f"{counted(len(uncertain), 'submit')} uncertain: perhaps accepted and charged. "
            f"{'It was' if is_one else 'They were'} not sent again.",
            style="yellow",
        )
        self._list(screen, uncertain)
        settle = self._next_steps.settle(uncertain[0].key if is_one else None)
        screen.say(f"    What to do: {settle}", whole=True)

    def _show_unsaved(self, screen: Screen) -> None:
        unsaved = [outcome for outcome in self.outcomes if outcome.is_unsaved]
        if unsaved:
            screen.say(f"{counted(len(unsaved), 'video')} made, but not saved:", style="yellow")
            self._list(screen, unsaved)
            again = self._next_steps.download(_ids(unsaved))
            screen.say(f"    To download again: {again}", whole=True)

    def _show_left_running(self, screen: Screen) -> None:
        left = [outcome for outcome in self.outcomes if _state(outcome) == _STILL_RUNNING]
        if left:
            words = "goes on" if len(left) == 1 else "go on"
            heading = f"{counted(len(left), 'job')} {words} at the server, and can be resumed:"
            screen.say(heading, style="yellow")
            self._list(screen, left, with_reasons=False)
            self._say_resume(screen, left)

    def _show_given_up(self, screen: Screen) -> None:
        left = [each for each in self.outcomes if _state(each) == JobState.ABANDONED]
        if left:
            it = "it" if len(left) == 1 else "they"
            screen.say(
                f"{counted(len(left), 'job')} abandoned: no longer waited for, but {it} may still "
                "succeed at the server:",
                style="yellow",
            )
            self._list(screen, left)
            self._say_resume(screen, left)

    def _say_resume(self, screen: Screen, left: Sequence[Outcome]) -> None:
        resume = self._next_steps.download(_ids(left), wait=True)
        screen.say(f"    To resume: {resume}", whole=True)

    def _in(self, *states: str) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.state in states]

    def _counted(self, outcomes: Sequence[Outcome]) -> str:
        if self._source is None:
            return counted(len(outcomes), "job")
        places = [(outcome.line or 0, outcome.take) for outcome in outcomes]
        return f"{counted_lines(places)} of {self._source}"

    def _named(self, outcomes: Sequence[Outcome]) -> str:
        """Outcomes with one reason: a single one with its prompt, several by their lines."""
        if len(outcomes) == 1:
            return self._described(outcomes[0])
        if self._source is None:
            return counted(len(outcomes), "job")
        found = ranges(each.line for each in outcomes if each.line is not None)
        more = f" … and {len(found) - _PIECES:,} more" if len(found) > _PIECES else ""
        return f"lines {', '.join(found[:_PIECES])}{more}"

    def _described(self, outcome: Outcome) -> str:
        noun = "job" if self._source is None else "line"
        is_uncertain = outcome.state == JobState.UNCERTAIN
        words = [
            f"{noun} {outcome.line}" if outcome.line is not None else None,
            f"take {outcome.take}" if outcome.take > 1 else None,
            outcome.request_id or (outcome.key if is_uncertain else None),
            f"“{shorten(outcome.prompt or '', 40)}”",
        ]
        return " ".join(word for word in words if word)

    def _list(
        self, screen: Screen, outcomes: Sequence[Outcome], *, with_reasons: bool = True
    ) -> None:
        for outcome in outcomes[:_LISTED]:
            reason = f": {reason_of(outcome)}" if with_reasons else ""
            screen.say(f"  {self._described(outcome)}{reason}")
        if len(outcomes) > _LISTED:
            screen.say(f"  … and {len(outcomes) - _LISTED:,} more")


def counted_lines(places: Iterable[Place]) -> str:
    """Lines in words; and their takes, if there are more of these."""
    found = set(places)
    lines = {number for number, _ in found}
    takes = f"{counted(len(found), 'take')} of " if len(found) > len(lines) else ""
    return f"{takes}{counted(len(lines), 'line')}"


def ranges(numbers: Iterable[int]) -> list[str]:
    """Numbers as `1-3`, `7`, `9-12`."""
    pieces = list[tuple[int, int]]()
    for number in sorted(set(numbers)):
        if pieces and number == pieces[-1][1] + 1:
            pieces[-1] = pieces[-1][0], number
        else:
            pieces.append((number, number))
    return [str(first) if first == last else f"{first}-{last}" for first, last in pieces]


def _state(outcome: Outcome) -> str:
    """The state in the summary's words: a job that Ctrl-C has left is not given up."""
    left = outcome.state == JobState.ABANDONED and isinstance(outcome.error, InterruptedRunError)
    return _STILL_RUNNING if left else outcome.state


def _states(outcomes: Sequence[Outcome]) -> str:
    """`rejected`, `not submitted`, or both."""
    words = dict.fromkeys(outcome.state.replace("_", " ") for outcome in outcomes)
    return " or ".join(sorted(words, reverse=True))


def _ids(outcomes: Sequence[Outcome]) -> list[str]:
    return [outcome.request_id for outcome in outcomes if outcome.request_id]
