"""The report of a run: its summary for people, and its exit code. It saves nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from seedance_async import JobState, SubmitUncertainError
from seedance_async._utils.plural import counted
from seedance_async.cli.console import Screen
from seedance_async.cli.exit_codes import ExitCode, InterruptedRunError, code_of, worst
from seedance_async.cli.inputs import Place
from seedance_async.cli.runs.next_steps import NextSteps
from seedance_async.cli.runs.outcome import NOT_SUBMITTED, Outcome
from seedance_async.cli.text import shorten

#: How many outcomes of one kind are listed; the rest are in the results.
_LISTED = 10

#: Lines that were never sent mostly share one reason.
_LISTED_UNSENT = 3


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
    def was_interrupted(self) -> bool:
        """Whether the user ended the run early."""
        return ExitCode.INTERRUPTED in self._codes

    def code(self) -> ExitCode:
        """The exit code of all outcomes together, and of what else happened."""
        return worst({*(code_of(outcome.error) for outcome in self.outcomes), *self._codes})

    def show(self, screen: Screen, seconds: float) -> None:
        """Show the summary."""
        screen.say(self._counts(seconds), style="bold")
        screen.say(self._credits())
        self._show_uncertain(screen)
        self._show_unsaved(screen)
        self._show_abandoned(screen)
        self._show_others(screen)

    def _counts(self, seconds: float) -> str:
        counts = Counter(outcome.state for outcome in self.outcomes)
        order = [*map(str, JobState), NOT_SUBMITTED]
        parts = [f"{counts[s]:,} {s.replace('_', ' ')}" for s in order if counts[s]]
        saved = sum(outcome.is_saved for outcome in self.outcomes)
        parts.append(f"{counted(saved, 'video')} saved")
        return f"{self._counted(self.outcomes)} in {seconds:.1f} s: {', '.join(parts)}"

    def _credits(self) -> str:
        charged = sum(outcome.credits_charged or 0 for outcome in self.outcomes)
        text = f"{counted(charged, 'credit')} charged, as reported by the server"
        if self.charged_earlier:
            text += f" ({self.charged_earlier:,} of them in earlier runs)"
        uncertain = len(self._in(JobState.UNCERTAIN))
        if uncertain:
            text += f"; {counted(uncertain, 'uncertain submit')} may have been charged as well"
        return text

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
        screen.say(f"  What to do: {settle}", whole=True)

    def _show_unsaved(self, screen: Screen) -> None:
        unsaved = [outcome for outcome in self.outcomes if outcome.is_unsaved]
        if unsaved:
            screen.say(f"{counted(len(unsaved), 'video')} made, but not saved:", style="yellow")
            self._list(screen, unsaved)
            again = self._next_steps.download(_ids(unsaved))
            screen.say(f"  To download again: {again}", whole=True)

    def _show_abandoned(self, screen: Screen) -> None:
        left = self._in(JobState.ABANDONED)
        if not left:
            return
        interrupted = all(isinstance(outcome.error, InterruptedRunError) for outcome in left)
        it = "it" if len(left) == 1 else "they"
        if interrupted:
            at_server = "it goes on at the server" if it == "it" else "they go on at the server"
        else:
            at_server = f"{it} may still succeed at the server"
        heading = f"{counted(len(left), 'job')} abandoned: no longer waited for, but {at_server}:"
        screen.say(heading, style="yellow")
        self._list(screen, left)
        resume = self._next_steps.download(_ids(left), wait=True)
        screen.say(f"  To resume: {resume}", whole=True)

    def _show_others(self, screen: Screen) -> None:
        kinds = {
            JobState.FAILED: "failed",
            JobState.CANCELLED: "cancelled",
            JobState.REJECTED: "rejected, nothing charged",
            NOT_SUBMITTED: "not submitted, nothing charged",
        }
        for state, words in kinds.items():
            found = self._in(state)
            if found:
                screen.say(f"{self._counted(found)} {words}:", style="red")
                self._list(screen, found, _LISTED_UNSENT if state == NOT_SUBMITTED else _LISTED)

    def _in(self, state: str) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.state == state]

    def _counted(self, outcomes: Sequence[Outcome]) -> str:
        if self._source is None:
            return counted(len(outcomes), "job")
        places = [(outcome.line or 0, outcome.take) for outcome in outcomes]
        return f"{counted_lines(places)} of {self._source}"

    def _list(self, screen: Screen, outcomes: Sequence[Outcome], most: int = _LISTED) -> None:
        noun = "job" if self._source is None else "line"
        for outcome in outcomes[:most]:
            is_uncertain = outcome.state == JobState.UNCERTAIN
            words = [
                f"{noun} {outcome.line}" if outcome.line is not None else None,
                f"take {outcome.take}" if outcome.take > 1 else None,
                outcome.request_id or (outcome.key if is_uncertain else None),
                f"“{shorten(outcome.prompt or '', 40)}”: {_reason(outcome)}",
            ]
            screen.say("  " + " ".join(word for word in words if word))
        if len(outcomes) > most:
            screen.say(f"  … and {len(outcomes) - most:,} more")


def counted_lines(places: Iterable[Place]) -> str:
    """Lines in words; and their takes, if there are more of these."""
    found = set(places)
    lines = {number for number, _ in found}
    takes = f"{counted(len(found), 'take')} of " if len(found) > len(lines) else ""
    return f"{takes}{counted(len(lines), 'line')}"


def _reason(outcome: Outcome) -> str:
    """What went wrong; the heading of uncertain submits has said the rest."""
    error = outcome.error
    return error.reason if isinstance(error, SubmitUncertainError) else str(error)


def _ids(outcomes: Sequence[Outcome]) -> list[str]:
    return [outcome.request_id for outcome in outcomes if outcome.request_id]
