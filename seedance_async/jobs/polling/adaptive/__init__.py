"""When to ask after a job: poll times that are learnt from when jobs of its kind have ended.

Pure arithmetic: no clock, no waiting, no I/O; randomness is passed in. A kind is whatever the
caller takes for alike (model, duration, resolution, mode). The planner proposes delays; deadlines,
the rate budget and a server's own hint are the poller's.

**What is known of an end** is an interval: not ended at the last poll that showed the job running,
ended at the next. Ages are put into bins that grow geometrically, and each bin has its hazard: ends
in it, divided by the jobs at risk in it. Jobs still running count as at risk, so the first ends of
a burst are not taken for all of it. An end is shared among the bins of its interval mostly by the
density known so far, one round of expectation and maximisation for each plan, and the density is
smoothed by a box as wide as holds a seventh of the jobs (EMS; Silverman and others, 1990). A prior
worth a tenth of a job says "as long again as it has run", and keeps every hazard above zero.

**Where the polls go.** With survival S, a price p in seconds for a poll, and polls at t1 < t2 < …,
the cost of a job is E[lag] + p E[polls], and from age t the best next poll is

    V(t) = p S(t) + min over u > t of  ∫ from t to u of (u - x) dF(x)  +  V(u)

For each u that is a line in F(t), of slope -u, so one pass from the right over a stack of lines
(the lower envelope) finds all of them: exact, and linear in the bins. The price is set so that
E[polls] is what plain backoff would spend on the same S: a job costs about as many polls, and
each poll is put where it tells most; but it has a least, so that where all jobs take as long no
polls are made that tell next to nothing. Where S is wrong more polls may be made; an account of
them makes the next plans spend less.

**When the service changes,** nothing special happens. Slower: jobs that outlast the old end are at
risk without ending, so the hazard there falls with every poll. Faster: a job that ends before its
first, late poll is seen at that poll; a part of its end goes to all the time before, and polls move
there, so no polls are spent on exploring. Old jobs fade with each new end.

**Bounds,** whatever the times are, an adversary's included: a delay, and so a lag, is never above
`stretch` times the backoff's maximum; none is below the backoff's floor and a quarter of its first
delay; and a job that has been polled twice as often as plain backoff would have (and four times
more) gets plain backoff. So does a kind of which fewer than `ENOUGH` jobs count, and a job that has
outlived all plans.
"""

from seedance_async.jobs.polling.adaptive.policy import (
    LearnedPolls,
    PlainPolls,
    PollTimes,
    poll_times,
)

__all__ = ["LearnedPolls", "PlainPolls", "PollTimes", "poll_times"]
