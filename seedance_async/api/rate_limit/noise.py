"""Refusals by chance: how many there are, and how they are told from those of a limit."""

from __future__ import annotations

import math

import attrs

from seedance_async.api.rate_limit.usual import Usual

#: That many refusals in a row are not chance if their probability is less than this.
IMPROBABLE = 1e-6

#: The same for those who go first after a hold.
UNLIKELY = 0.05

#: No larger share is taken for chance: nobody could tell it from an outage.
MOST_NOISE = 0.8

#: The share is judged from that many calls at least, and forgotten after so many more.
FEWEST_CALLS, REMEMBERED_CALLS = 8, 100

#: Less pressure is judged once there were so many refusals, and would have been as many again if it
#: made no difference.
EXPECTED = 4.0

#: What a refusal that no limit explains says for chance, and an acceptance against it; chance is
#: tried once it is more than ENOUGH, which doubles with each trial that fails.
GAIN, LOSS, ENOUGH = 2.3, 0.1, 4.0

#: Between two refusals of calls that the limits allow there must be so many acceptances: refusals
#: that come close together mean a limit that has moved.
APART = 2

#: A trial takes so many calls. It fails if the share of refusals is so much larger than it was, or
#: than LOWEST where it was smaller; and at once if CLEAR refusals are beyond that.
TRIAL_CALLS, MUCH_MORE, LOWEST, HIGHEST, CLEAR = 30, 0.25, 0.4, 0.85, 2


class Noise:
    """Refusals that have nothing to do with how much we ask for.

    At a limit, nearly all calls are refused that were in flight with the first one refused. If most
    of them are accepted, that was chance, unless a low pressure, as after a hold, brings less than
    half as many refusals. Where too few are in flight, chance shows later: calls are refused again
    and again that the limits found by then allow, or though they have become far fewer than usual.
    Then it is tried whether there is any limit: for some calls nothing holds, and if far more of
    them are refused than before, the limits were right.
    """

    def __init__(self) -> None:
        self._found = False
        self._refused = self._calls = 0.0  # at full pressure
        self._eased_refused = self._eased = 0.0  # at low pressure
        self._in_a_row = self._accepted_in_a_row = 0
        self._usual = Usual()
        self._mean, self._answers = 0.0, 0  # of all calls
        self._doubt, self._enough = 0.0, ENOUGH
        self._trial: _Trial | None = None

    @property
    def share(self) -> float:
        """The share of calls that is refused whatever we do."""
        return min(MOST_NOISE, self._refused / self._calls) if self._found else 0.0

    @property
    def longest_run(self) -> int:
        """How many refusals in a row it explains."""
        share = self.share
        return int(math.log(IMPROBABLE) / math.log(share)) if share else 0

    @property
    def explains_run(self) -> bool:
        """Whether the last refusals in a row may be chance."""
        return self.is_tried or self._in_a_row <= self.longest_run

    @property
    def is_tried(self) -> bool:
        """Whether calls are sent to see if there is any limit."""
        return self._trial is not None

    def count(self, *, refused: bool, eased: bool) -> None:
        """A call was answered; `eased`: at low pressure."""
        kept = 1 - 1 / REMEMBERED_CALLS
        if eased:
            self._eased_refused = kept * self._eased_refused + refused
            self._eased = kept * self._eased + 1
            self._found = self._found and not self._less_pressure_helps()
        else:
            self._refused = kept * self._refused + refused
            self._calls = kept * self._calls + 1

    def judge(self, refused: int, calls: int, *, last: int, first: int) -> bool:
        """Whether refusals began by chance.

        Args:
            refused: how many of the calls in flight with the first.
            calls: how many these were.
            last: the last of them that were refused, in a row.
            first: refusals of those who went first after a hold.
        """
        mixed = calls >= FEWEST_CALLS and refused <= MOST_NOISE * calls and 2 * last <= refused + 1
        likely = ((refused + 1) / (calls + 1)) ** first > UNLIKELY
        self._found = mixed and likely and not self._less_pressure_helps()
        return self._found

    def doubts_limits(self, now: float, running: int, *, refused: bool, allowed: bool) -> bool:
        """A call was answered: whether it is time to try if there is any limit.

        Args:
            now: the time.
            running: jobs that ran.
            refused: whether it was refused.
            allowed: whether there are limits, and they allow it.
        """
        if refused and self._accepted_in_a_row < APART:
            allowed = False  # perhaps the limit has just moved
        self._in_a_row = self._in_a_row + 1 if refused else 0
        self._accepted_in_a_row = 0 if refused else self._accepted_in_a_row + 1
        self._answers += 1
        self._mean += (refused - self._mean) / min(self._answers, REMEMBERED_CALLS)
        unexplained = False
        if refused or self._doubt:  # else it says nothing
            unexplained = allowed or self._usual.is_far_away(now, running)
        if not refused:
            self._usual.accepted(now, running)
        if self._trial is not None:
            self._trial.count(refused=refused)
            return False
        if unexplained and self._in_a_row <= 1 and not self._found:
            self._doubt = max(0.0, self._doubt + (GAIN if refused else -LOSS))
        return self._doubt > self._enough

    def begin_trial(self) -> None:
        """The next calls show whether there is any limit."""
        self._trial = _Trial(min(HIGHEST, max(LOWEST, self._mean) + MUCH_MORE))

    def end_trial(self) -> bool | None:
        """Whether the trial has shown that there is no limit; None while it shows nothing."""
        trial = self._trial
        if trial is None or trial.is_chance is None:
            return None
        self._trial, self._doubt, self._enough = None, 0.0, 2 * self._enough
        if trial.is_chance:
            self._refused, self._calls = max(1.0, trial.refused), float(trial.calls)
            self._eased_refused = self._eased = 0.0
            self._found, self._enough = True, ENOUGH
        return trial.is_chance

    def _less_pressure_helps(self) -> bool:
        expected = self._eased * self._refused / max(1.0, self._calls)
        enough = min(expected, self._refused) >= EXPECTED
        return enough and self._eased_refused < expected / 4


@attrs.define
class _Trial:
    """Some calls that no limit holds; `most`: the share of refusals that chance explains."""

    most: float
    calls: int = 0
    refused: int = 0

    def count(self, *, refused: bool) -> None:
        self.calls += 1
        self.refused += refused

    @property
    def is_chance(self) -> bool | None:
        """None until enough calls were answered."""
        if self.refused > min(TRIAL_CALLS * self.most, self.calls * self.most + CLEAR):
            return False
        return True if self.calls >= TRIAL_CALLS else None
