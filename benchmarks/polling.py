"""Polls per job against detection lag: the learning policy, backoff, fixed intervals, peers.

    python -m benchmarks.polling [--quick]

All time is virtual, and answers take none. A lag is the time from a job's end to the poll that
reports it. The learning policy polls 20 or 200 jobs at once, a new one for each that ends, and
learns only from its own polls; the figures cover the jobs submitted after it noticed the 50th end
(after a change: the 50th end of a job submitted since). Every rival waits for the same jobs. The
optimum is a dynamic programme that knows the distribution and makes as many polls.

Generation times, in seconds. The sources publish only typical values or ranges, so the shapes are
assumptions:

- log-normal, median 90, sigma 0.4: "10 to 90 seconds under normal load" for short clips
  (upuply.com, how-long-does-text-to-video-generation-take); 224 s for one 5 s 720p clip of Seedance
  2.5 at Replicate (atlascloud.ai, fastest-seedance-2-5-api-providers).
- queueing: 7 of 10 start at once (median 60), the others wait first (median 240).
- heavy tail: 20 to 1,800, Pareto with exponent 1.5; 55 s or 303 s for the same input at Replicate
  (antoinedumont/celeb-selfie, RETRY_OPTIMIZATION_SUMMARY.md).
- wide: log-normal, median 90, sigma 1; exponential, mean 120; uniform, 1 to 600 ("30 s to 5 min",
  anokye-labs/copilot-media-plugins, QUEUE_MANAGEMENT.md): hard to predict.
- steady: normal, 60 plus or minus 3.
- flips (adversarial): 40 jobs of about 20, then 40 of about 240, and so on.

Peers, read from their packages: fal-client 1.0.3 (at once, then every 0.1 s), replicate 1.0.7
(every 0.5 s), openai 3.54.0 videos.poll (at once, then every 1 s unless a header says otherwise),
runwayml (lib/polling.py: every 6 s, plus or minus 1.5).
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
from collections.abc import Callable

import attrs
import numpy as np

from benchmarks.report import Target, plot_path, pyplot, report
from seedance_async import LearnedPolls
from seedance_async.jobs.polling.adaptive.planner import PollPlanner

BACKOFF = LearnedPolls().backoff
LEARNT = 50
COUNTED = 250
BEFORE = 200
RAMP = 150
LONGEST = 1800.0


def log_normal(median: float, sigma: float) -> Callable[[random.Random], float]:
    return lambda rng: rng.lognormvariate(math.log(median), sigma)


def queueing(rng: random.Random) -> float:
    return rng.lognormvariate(
        *((math.log(60), 0.15) if rng.random() < 0.7 else (math.log(240), 0.25))
    )


def heavy_tail(rng: random.Random) -> float:
    while (seconds := 40 * rng.paretovariate(1.5) - 20) > LONGEST:
        pass  # one of these could decide a mean; a session gives up on such a job
    return seconds


STATIONARY: dict[str, Callable[[random.Random], float]] = {
    "log-normal 0.4": log_normal(90, 0.4),
    "queueing": queueing,
    "heavy tail": heavy_tail,
    "log-normal 1.0": log_normal(90, 1.0),
    "exponential": lambda rng: rng.expovariate(1 / 120),
    "uniform": lambda rng: rng.uniform(1, 600),
    "steady": lambda rng: max(1.0, rng.gauss(60, 3)),
}
#: The median after the change (before it, 90), and over how many jobs it changes.
DRIFTS = {
    "twice as slow": (180, 0),
    "thrice as slow": (270, 0),
    "twice as fast": (45, 0),
    "thrice as fast": (30, 0),
    "slower, ramp": (180, RAMP),
    "faster, ramp": (45, RAMP),
}
FLIPS = "flips (adversarial)"


@attrs.frozen
class Ended:
    """One job: its number, when it was submitted, its duration, and how its end was noticed."""

    number: int
    submitted: float
    seconds: float
    polls: int
    lag: float
    noticed: float


def watch(
    draw: Callable[[random.Random, int], float], jobs: int, in_flight: int, seed: int
) -> list[Ended]:
    """Poll jobs with the learning policy, `in_flight` at once, until all have ended."""
    rng, planner = random.Random(seed), PollPlanner(BACKOFF)
    heap: list[tuple[float, int, float, float, int, float]] = []
    ended: list[Ended] = []
    submitted = 0

    def submit(now: float) -> None:
        nonlocal submitted
        due = now + planner.delay("kind", 0.0, 0, rng)
        heapq.heappush(heap, (due, submitted, now, draw(rng, submitted), 0, 0.0))
        submitted += 1

    for _ in range(in_flight):
        submit(rng.random())
    while heap:
        now, number, since, seconds, polls, last = heapq.heappop(heap)
        age = now - since
        if seconds <= age:
            planner.finished("kind", last, age)
            ended.append(Ended(number, since, seconds, polls + 1, age - seconds, now))
            if submitted < jobs:
                submit(now)
        else:
            planner.running("kind", last, age)
            due = now + planner.delay("kind", age, polls + 1, rng)
            heapq.heappush(heap, (due, number, since, seconds, polls + 1, age))
    return ended


def counted(ended: list[Ended], since: int) -> list[Ended]:
    """The jobs submitted after the ends of 50 jobs, numbered from `since` on, were noticed."""
    enough = sorted(job.noticed for job in ended if job.number >= since)[LEARNT - 1]
    return [job for job in ended if job.submitted >= enough]


# --- rivals: from the seconds that each job takes to its polls and its lag


def fixed(interval: float, *, at_once: bool = False):
    def waits(seconds, rng):
        polls = np.ceil(seconds / interval)
        return polls + at_once, polls * interval - seconds

    return waits


def drawn(delay: Callable[[int, random.Random], float]):
    """A schedule with random delays, which depend on the number of polls so far."""

    def wait(seconds, rng):
        age, polls = 0.0, 0
        while age < seconds:
            age += delay(polls, rng)
            polls += 1
        return polls, age - seconds

    def waits(all_seconds, rng):
        pairs = [wait(seconds, rng) for seconds in all_seconds]
        return np.array([polls for polls, _ in pairs]), np.array([lag for _, lag in pairs])

    return waits


RIVALS = {
    "plain backoff": drawn(BACKOFF.delay),
    "every 1 s": fixed(1),
    "every 2 s": fixed(2),
    "every 5 s": fixed(5),
    "every 10 s": fixed(10),
    "fal-client": fixed(0.1, at_once=True),
    "replicate": fixed(0.5),
    "openai videos": fixed(1, at_once=True),
    "runwayml": drawn(lambda polls, rng: rng.uniform(4.5, 7.5)),
}


# --- the optimum: dynamic programming on the distribution


def best_polls(ages, ended, price):
    """The ages at which polls minimise E[lag] + price E[polls], by trying every next poll."""
    last = len(ages) - 1
    moment = np.concatenate([[0], np.cumsum(np.diff(ended) * (ages[1:] + ages[:-1]) / 2)])
    value, following = np.zeros(last + 1), np.full(last + 1, last)
    for k in range(last - 1, -1, -1):
        lag = ages[k + 1 :] * (ended[k + 1 :] - ended[k]) - (moment[k + 1 :] - moment[k])
        best = int(np.argmin(lag + value[k + 1 :]))
        value[k] = lag[best] + value[k + 1 + best] + price * (1 - ended[k])
        following[k] = k + 1 + best
    places = [0]
    while places[-1] < last:
        places.append(int(following[places[-1]]))
    return ages[places[1:]]


def optimal_schedules(draw: Callable[[random.Random], float], points: int, prices: int):
    """The optimal schedules of a distribution, from many polls per job to few."""
    rng = random.Random(1)
    sample = np.sort([draw(rng) for _ in range(40_000)])
    ranks = np.linspace(0, 0.9999, points // 2)
    longest = float(sample[-1]) * 1.05
    even = np.geomspace(max(0.2, sample[0] * 0.9), longest, points // 2)
    ages = np.unique(np.concatenate([[0.0], np.quantile(sample, ranks), even]))
    ended = np.searchsorted(sample, ages, side="right") / len(sample)
    schedules = [best_polls(ages, ended, price) for price in np.geomspace(0.03, 100, prices)]
    # Beyond the longest sample, once every ten minutes.
    return [np.concatenate([ages, longest + 600.0 * np.arange(1, 200)]) for ages in schedules]


def at_equal_polls(options, polls):
    """Mean and median lag at this many polls per job, interpolated between the options."""
    points = sorted(
        (float(p.mean()), float(lag.mean()), float(np.median(lag))) for p, lag in options
    )
    x, means, medians = (np.log(column) for column in np.array(points).T)
    at = math.log(polls)
    return math.exp(np.interp(at, x, means)), math.exp(np.interp(at, x, medians))


def by_schedule(schedule, seconds):
    places = np.searchsorted(schedule, seconds)
    return places + 1.0, np.maximum(1e-9, schedule[places] - seconds)


# --- scenarios


@attrs.define
class Result:
    """The result of one scenario: (polls, median, mean and 95th percentile of lag) by policy."""

    name: str
    rows: dict[str, tuple[float, float, float, float]] = attrs.field(factory=dict)
    curve: list[tuple[float, float]] = attrs.field(factory=list)
    ratios: list[float] = attrs.field(factory=list)  # mean lag relative to the optimum's, by run
    ratio: float = math.nan
    over_fixed: float = math.nan


def figures(polls, lags):
    return (
        float(np.mean(polls)), float(np.median(lags)),
        float(np.mean(lags)), float(np.quantile(lags, 0.95)),
    )  # fmt: skip


def scenario(name, draw, since, optimum, seeds) -> Result:
    """Run the learning policy with 20 and 200 jobs in flight, then every rival on the same jobs.

    `draw` gives the seconds of the job of a number, `since` is the job from which 50 ends are
    counted, and `optimum` has the optimal schedules for the distribution of the counted jobs.
    """
    result, jobs = Result(name), []
    for in_flight in (20, 200):
        for seed in range(seeds):
            run = counted(watch(draw, since + in_flight + COUNTED, in_flight, seed), since)
            seconds = np.array([job.seconds for job in run])
            best = at_equal_polls(
                [by_schedule(s, seconds) for s in optimum], np.mean([job.polls for job in run])
            )
            result.ratios.append(float(np.mean([job.lag for job in run])) / best[0])
            jobs += run
    seconds = np.array([job.seconds for job in jobs])
    ours = figures([job.polls for job in jobs], [job.lag for job in jobs])
    result.rows["learning"] = ours
    optimal = [by_schedule(schedule, seconds) for schedule in optimum]
    mean, median = at_equal_polls(optimal, ours[0])
    result.rows["optimum (distribution known)"] = (ours[0], median, mean, math.nan)
    intervals = [fixed(interval)(seconds, None) for interval in np.geomspace(0.5, 200, 300)]
    fixed_mean, fixed_median = at_equal_polls(intervals, ours[0])
    result.rows["fixed interval, equal polls"] = (ours[0], fixed_median, fixed_mean, math.nan)
    rng = random.Random(7)
    for rival, waits in RIVALS.items():
        result.rows[rival] = figures(*waits(seconds, rng))
    result.curve = [(float(polls.mean()), float(lag.mean())) for polls, lag in optimal]
    result.ratio, result.over_fixed = ours[2] / mean, ours[1] / fixed_median
    return result


def drift(median: float, over: int) -> Callable[[random.Random, int], float]:
    def draw(rng: random.Random, number: int) -> float:
        done = min(1.0, max(0.0, (number - BEFORE + 1) / max(1, over)))
        return rng.lognormvariate(math.log(90 * (median / 90) ** done), 0.4)

    return draw


def flips(rng: random.Random, number: int) -> float:
    return rng.lognormvariate(math.log(240 if number // 40 % 2 else 20), 0.15)


def flip(rng: random.Random) -> float:
    return flips(rng, rng.choice((0, 40)))


def measure(seeds: int, points: int, prices: int) -> list[Result]:
    results = []
    for name, draw in STATIONARY.items():
        optimum = optimal_schedules(draw, points, prices)
        results.append(scenario(name, lambda rng, _, draw=draw: draw(rng), 0, optimum, seeds))
    for name, (median, over) in DRIFTS.items():
        optimum = optimal_schedules(log_normal(median, 0.4), points, prices)
        results.append(scenario(name, drift(median, over), BEFORE + over, optimum, seeds))
    optimum = optimal_schedules(flip, points, prices)
    results.append(scenario(FLIPS, flips, 0, optimum, seeds))
    return results


def targets(results: list[Result]) -> list[Target]:
    found = []
    for result in results:
        if result.name in STATIONARY:
            name = f"{result.name}: mean lag vs optimum, after 50 jobs"
            found.append(Target(name, result.ratio, at_most=1.25))
    rows = results[0].rows
    best = rows["optimum (distribution known)"][1] / rows["fixed interval, equal polls"][1]
    name = "log-normal 0.4: median lag vs fixed interval at equal polls"
    name = f"{name} (the optimum reaches {best:.2f})"
    found.append(Target(name, results[0].over_fixed, at_most=0.5))
    for result in results:
        if result.name in DRIFTS:
            name = f"{result.name}: mean lag vs new optimum, 50 jobs after the change"
            found.append(Target(name, result.ratio, at_most=1.5))
    for result in results:
        if result.name != FLIPS:
            ours, plain = result.rows["learning"], result.rows["plain backoff"]
            name = f"{result.name}: vs plain backoff"
            found.append(Target(f"{name}, polls", ours[0] / plain[0], at_most=1.0))
            found.append(Target(f"{name}, mean lag", ours[2] / plain[2], at_most=0.999))
    return found


def draw_plot(results: list[Result]) -> None:
    plt = pyplot()
    figure, axes = plt.subplots(4, 4, figsize=(17, 15), constrained_layout=True)
    for axis in axes.flat[len(results) :]:
        axis.set_axis_off()
    for axis, result in zip(axes.flat, results, strict=False):
        axis.plot(*zip(*sorted(result.curve), strict=True), "k-", label="optimum")
        for policy, (polls, _, mean, _) in result.rows.items():
            if "equal" not in policy and "known" not in policy:
                marker = "*" if policy == "learning" else "o"
                size = 14 if policy == "learning" else 5
                axis.plot(polls, mean, marker, markersize=size, label=policy)
        axis.set(xscale="log", yscale="log", title=result.name)
        axis.set(xlabel="polls per job", ylabel="mean lag, seconds")
    axes.flat[0].legend(fontsize=7)
    figure.savefig(plot_path("polling"))


def shown(lag: float) -> float | str:
    return "" if math.isnan(lag) else lag


def spread(result: Result, policy: str) -> str:
    if policy != "learning":
        return ""
    return f"{result.ratio:.2f} ({min(result.ratios):.2f} to {max(result.ratios):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description="Polls per job against detection lag.")
    parser.add_argument("--quick", action="store_true", help="two seeds and a coarser optimum")
    quick = parser.parse_args().quick
    results = measure(*((2, 300, 16) if quick else (8, 600, 26)))
    report(
        "polling",
        header=[
            "jobs",
            "policy",
            "polls/job",
            "median lag s",
            "mean",
            "p95",
            "mean vs optimum (runs)",
        ],
        rows=[
            [result.name, policy, row[0], *map(shown, row[1:]), spread(result, policy)]
            for result in results
            for policy, row in result.rows.items()
        ],
        targets=targets(results),
        packages=("numpy",),
        details={
            result.name: {
                "mean lag over the optimum's, by run": result.ratios,
                "median lag over a fixed interval's": result.over_fixed,
                "optimum, polls and mean lag": result.curve,
            }
            for result in results
        },
    )
    draw_plot(results)


if __name__ == "__main__":
    main()
