"""Adaptive polling: learn when jobs of a kind end, and poll when an end is likely.

Plain backoff polls all jobs alike. This polls a job by when similar jobs ended: rarely until the
first of them can be expected to end, and densely where most of them do. It makes fewer polls than
plain backoff, and notices ends sooner where they can be foreseen.

`end_times` estimates when jobs end, `plans` places the polls, `planner` does both for each kind of
job, `policy` is what a session is given. All of it is arithmetic: no clock, no waiting, no I/O, and
randomness is passed in. A kind is what the caller considers similar (model, duration, resolution,
mode). The planner proposes delays only; the poller adds deadlines, the poll rate and the server's
own Retry-After.

**1. When jobs end.** Polls do not show when a job ended, only an interval: it was running at one
poll and had ended at the next. Ages are divided into bins that grow geometrically. The hazard of a
bin is the number of ends in it divided by the number of jobs at risk in it. Jobs still running are
at risk too, so the first jobs of a burst to end do not stand for all of it. Each end is distributed
over the bins of its interval mostly by the current density, with one round of expectation
maximisation for each plan; then the density is smoothed by a box wide enough to hold about a
seventh of the jobs (EMS; Silverman and others, 1990). A prior worth a tenth of a job says that a
job runs twice as long as it has run so far, and keeps every hazard above zero.

**2. Where to poll.** Let S be the survival, the share of jobs that outlast an age; F = 1 - S; p the
price of a poll in seconds; and t1 < t2 < … the polls. The cost of a job is E[lag] + p E[polls], and
from age t the best next poll is the one that attains

    V(t) = p S(t) + min over u > t of  ∫ from t to u of (u - x) dF(x)  +  V(u)

For each u this is a line in F(t) with slope -u, so one pass from right to left over a stack of
lines (their lower envelope) finds every best poll, exactly and in time linear in the bins. What is
counted is the path of such a plan within the bounds of section 6. Two constraints choose the price:
E[polls] is a little less than plain backoff would make on the same S, and E[lag] is less than its.
Where both hold at the least price, that is taken: polls that gain next to nothing are left out.
Where they conflict, as for an end that cannot be foreseen, E[polls] may be about what plain backoff
would make. Where S is wrong a job may take more polls; they are counted, and the next plans spend
fewer.

**3. When the service changes,** no special case is needed. If it becomes slower, jobs that outlast
the old end are at risk without ending, so the hazard there falls with every poll. If it becomes
faster, a job that ends before its first, late poll is noticed at that poll; part of its end is
attributed to the whole time before, and polls move there, so none are spent on exploration; such an
end leads to a new plan at once. Each new end makes the old ones weigh less.

**4. What has been spent.** When very many jobs begin at once, most of them were polled by plain
backoff when the first dozen end and there is a plan. It is made for a job from its beginning on,
so each poll that a job has had above that takes the place of one (`Plan.excess`). These jobs soon
are older than any was seen to be, and there a plan is a guess: beyond the highest age seen, none is
polled more often than by plain backoff.

**5. Queued jobs** have to be processed before they end, so they are polled more rarely: the delays
of plain backoff are `QUEUED` times as long, and planned ones as long, within the bounds below.

**6. Bounds** that hold for any sequence of ends, even an adversary's: no delay, and so no lag, is
above `stretch` times the backoff's maximum; past the age by which the share `EARLY` of the jobs has
ended, none is above that maximum itself while a plan is used; no planned delay is below the
backoff's floor or a quarter of its first delay; and a job with `TOO_MANY` polls more than plain
backoff would have made by its age gets plain backoff. So does a kind with a total weight below
`ENOUGH` jobs, and a job that outlasts its plan.
"""

from seedance_async.jobs.polling.adaptive.policy import (
    LearnedPolls,
    PlainPolls,
    PollTimes,
    poll_times,
)

__all__ = ["LearnedPolls", "PlainPolls", "PollTimes", "poll_times"]
