"""The report of a run: what it tells at its end, and with which exit code. It saves nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from seedance_async import JobState, SubmitUncertainError
from seedance_async.cli.console import Screen, short
from seedance_async.cli.exit_codes import ExitCode, code_of, worst
from seedance_async.cli.runs.advice import Advice
from seedance_async.cli.runs.outcomes import NOT_SUBMITTED, Outcome

#: How many outcomes of one kind are listed; the rest is in the results.
_LISTED = 10

#: Those never sent mostly have one reason in common.
_LISTED_UNSENT = 3


class Report:
    """The outcomes of a run, gathered as they happen.

    Args:
        advice: the run's, for what is left to do.
        noun: what an outcome is called.
    """

    def __init__(self, advice: Advice, noun: str = "line") -> None:
        self._advice, self._noun = advice, noun
        self.outcomes: list[Outcome] = []
        self.charged_earlier = 0
        self._codes: set[ExitCode] = set()

    def add(self, outcome: Outcome) -> None:
        """Take one outcome in."""
        self.outcomes.append(outcome)

    def also(self, code: ExitCode) -> None:
        """Count something that is no outcome, such as a results file that broke."""
        self._codes.add(code)

    @property
    def was_interrupted(self) -> bool:
        """Whether the user ended the run before its end."""
        return ExitCode.INTERRUPTED in self._codes

    def code(self) -> ExitCode:
        """The exit code of all outcomes together, and of what else happened."""
        return worst({*(code_of(outcome.error) for outcome in self.outcomes), *self._codes})

    def tell(self, screen: Screen, seconds: float) -> None:
        """The summary, in words."""
        screen.say(self._counts(seconds), style="bold")
        screen.say(self._credits())
        self._tell_uncertain(screen)
        self._tell_to_fetch(screen)
        self._tell_the_others(screen)

    def _counts(self, seconds: float) -> str:
        counts = Counter(outcome.state for outcome in self.outcomes)
        order = [*JobState, NOT_SUBMITTED]
        told = [f"{counts[s]} {s.replace('_', ' ')}" for s in map(str, order) if counts[s]]
        saved = sum(outcome.file is not None for outcome in self.outcomes)
        told.append(f"{_of(saved, 'video')} saved")
        return f"{_of(len(self.outcomes), self._noun)} in {seconds:.1f} s: {', '.join(told)}"

    def _credits(self) -> str:
        charged = sum(outcome.credits_charged or 0 for outcome in self.outcomes)
        told = f"{_of(charged, 'credit')} charged, as the server told"
        if self.charged_earlier:
            told += f" ({self.charged_earlier:,} of them in earlier runs)"
        uncertain = len(self._in(JobState.UNCERTAIN))
        if uncertain:
            told += f"; {_of(uncertain, 'uncertain submit')} may have been charged as well"
        return told

    def _tell_uncertain(self, screen: Screen) -> None:
        uncertain = self._in(JobState.UNCERTAIN)
        if not uncertain:
            return
        screen.say(
            f"{_of(len(uncertain), 'submit')} uncertain: accepted and charged, or not. "
            "It was not sent again.",
            style="yellow",
        )
        _list(screen, uncertain)
        settle = self._advice.settle(uncertain[0].key if len(uncertain) == 1 else None)
        screen.say(f"  What to do: {settle}", whole=True)

    def _tell_to_fetch(self, screen: Screen) -> None:
        unsaved = [outcome for outcome in self.outcomes if outcome.is_unsaved]
        if unsaved:
            screen.say(f"{_of(len(unsaved), 'video')} made, but not saved:", style="yellow")
            _list(screen, unsaved)
            again = self._advice.fetch(_ids(unsaved))
            screen.say(f"  To fetch again: {again}", whole=True)
        left = self._in(JobState.ABANDONED)
        if left:
            told = "no longer waited for, though the video may still come"
            screen.say(f"{_of(len(left), 'job')} {told}:", style="yellow")
            _list(screen, left)
            again = self._advice.fetch(_ids(left), wait=True)
            screen.say(f"  To go on: {again}", whole=True)

    def _tell_the_others(self, screen: Screen) -> None:
        kinds = {
            JobState.FAILED: "failed",
            JobState.CANCELLED: "cancelled",
            JobState.REJECTED: "refused, nothing charged",
            NOT_SUBMITTED: "not submitted, nothing charged",
        }
        for state, words in kinds.items():
            found = self._in(state)
            if found:
                screen.say(f"{_of(len(found), self._noun)} {words}:", style="red")
                _list(screen, found, _LISTED_UNSENT if state == NOT_SUBMITTED else _LISTED)

    def _in(self, state: str) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.state == state]


def _list(screen: Screen, outcomes: Sequence[Outcome], most: int = _LISTED) -> None:
    for outcome in outcomes[:most]:
        place = f"line {outcome.line} " if outcome.line is not None else ""
        name = outcome.request_id or (outcome.key if outcome.state == JobState.UNCERTAIN else None)
        name = f"{name} " if name else ""
        screen.say(f"  {place}{name}“{short(outcome.prompt or '', 40)}”: {_why(outcome)}")
    if len(outcomes) > most:
        screen.say(f"  … and {len(outcomes) - most} more")


def _why(outcome: Outcome) -> str:
    """What went wrong; the heading of an uncertain submit has told the half of it."""
    error = outcome.error
    return error.reason if isinstance(error, SubmitUncertainError) else str(error)


def _ids(outcomes: Sequence[Outcome]) -> list[str]:
    return [outcome.request_id for outcome in outcomes if outcome.request_id]


def _of(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
