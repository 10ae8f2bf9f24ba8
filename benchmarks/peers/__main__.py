"""Jobs per CPU-second: this SDK, the clients of other video APIs, and a loop by hand.

    python -m benchmarks.peers [--quick] [--levels 10 100] [--clients seedance openai] …

The same jobs, one submit and `--polls` queries each, go through every client against a stub server
on loopback. Each run has a client process and a server of its own; the clients take turns, and the
median of the rounds counts. The server's count, not the clients', tells how many requests a job
took and how many jobs were running at most. fal's result is a query of its own and counts as one;
fal and openai ask at once after the submit and so wait one interval less than the others.

The interval of the polls is the same for all: 0.2 seconds, at 1,000 jobs 1 second, at 2,000 jobs 2
seconds. With a shorter one the first jobs would have ended before the last is submitted, and there
would never be as many in flight as the table says.

CPU seconds are those of the client's process from the first job to the last, without imports,
set-up and five jobs to warm up. A client that has taken longer than a minute at a level is not
run there again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from urllib.request import urlopen

import attrs

from benchmarks.peers.clients import CLIENTS, Role
from benchmarks.peers.environment import interpreter
from benchmarks.peers.worker import WARM_UP
from benchmarks.report import Target, plot_path, pyplot, report

_ROOT = Path(__file__).parent.parent.parent
_FEWEST_JOBS = 100
_LONG = 60.0
_HEADER = (
    "jobs in flight, client", "runs", "jobs/s", "CPU ms/job", "CPU ms/request", "jobs/CPU-s",
    "of ours", "peak MiB", "growth MiB", "submits/job", "queries/job", "running",
)  # fmt: skip


@attrs.frozen
class Run:
    """What one run took, and what the server counted for each job."""

    label: str
    seconds: float
    cpu: float
    peak: float
    growth: float
    submits: float
    queries: float
    running: int


#: The runs of each level of concurrency and client.
Runs = dict[tuple[int, str], list[Run]]


def main() -> None:
    options = _options()
    runs = _all_runs(options)
    notes = {
        "options": vars(options),
        "runs": [[*key, *map(attrs.asdict, runs[key])] for key in runs],
    }
    report(
        "peers",
        header=_HEADER,
        rows=[_row(level, client, runs) for level, client in runs],
        targets=list(_targets(runs)),
        packages=(),
        details=notes,
    )
    _plot(runs)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="one round, at most 1,000 jobs")
    parser.add_argument("--levels", type=int, nargs="+", default=[10, 100, 1000, 2000])
    parser.add_argument("--clients", nargs="+", choices=CLIENTS, default=list(CLIENTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--polls", type=int, default=4, help="queries a job")
    parser.add_argument("--interval", type=float, help="seconds between two polls of a job")
    parser.add_argument("--connections", type=int, default=100, help="at the most, for each client")
    parser.add_argument("--patience", type=float, default=600.0, help="seconds that a run may take")
    options = parser.parse_args()
    if options.quick:
        options.rounds = 1
        options.levels = [level for level in options.levels if level <= 1000]
    return options


def _all_runs(options: argparse.Namespace) -> Runs:
    python = interpreter()
    runs: Runs = defaultdict(list)
    for level, turn in itertools.product(options.levels, range(options.rounds)):
        for client in _rotated(options.clients, turn):
            done = runs[level, client]
            if any(run.seconds > _LONG for run in done) or len(done) < turn:
                continue
            run = _run(python, client, level, options)
            if run is not None:
                done.append(run)
    return dict(sorted(runs.items(), key=lambda item: _place(options, *item[0])))


def _place(options: argparse.Namespace, level: int, client: str) -> tuple[int, int]:
    return options.levels.index(level), options.clients.index(client)


def _rotated(clients: Sequence[str], turn: int) -> list[str]:
    return [*clients[turn % len(clients) :], *clients[: turn % len(clients)]]


def _run(python: Path, client: str, level: int, options: argparse.Namespace) -> Run | None:
    """One run in a process of its own; None if it took too long or broke."""
    jobs = _jobs(level)
    with _stub(options.polls) as origin:
        told = {
            "client": client,
            "origin": origin,
            "concurrency": level,
            "connections": options.connections,
            "interval": options.interval or max(0.2, level / 1000),
            "jobs": jobs,
        }
        command = [str(python), "-W", "ignore", "-m", "benchmarks.peers.worker", json.dumps(told)]
        try:
            done = subprocess.run(
                command, cwd=_ROOT, timeout=options.patience, check=True, capture_output=True
            )
        except subprocess.TimeoutExpired:
            _say(f"{level} jobs, {client}: not done within {options.patience:g} s")
            return None
        except subprocess.CalledProcessError as error:
            _say(f"{level} jobs, {client}: {error.stderr.decode()[-2000:]}")
            return None
        with urlopen(f"{origin}/stats") as answer:
            stats = json.load(answer)
    run = _measured(client, json.loads(done.stdout), stats, jobs)
    _say(f"{level} jobs, {run.label}: {run.seconds:.1f} s, {run.cpu:.2f} CPU-s")
    return run


def _measured(client: str, told: dict[str, Any], stats: dict[str, Any], jobs: int) -> Run:
    served = jobs + WARM_UP
    return Run(
        label=CLIENTS[client].label.format(told["version"]),
        seconds=told["seconds"],
        cpu=told["cpu"],
        peak=told["peak"],
        growth=told["growth"],
        submits=sum(stats["submits"].values()) / served,
        queries=sum(stats["queries"].values()) / served,
        running=stats["running_most"],
    )


@contextmanager
def _stub(polls: int) -> Iterator[str]:
    """A stub server of its own; its origin."""
    command = [sys.executable, "-m", "benchmarks.stub", "--polls", str(polls)]
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


# --- what it comes to ---------------------------------------------------------------------------


def _jobs(level: int) -> int:
    return max(level, _FEWEST_JOBS)


def _per_cpu_second(level: int, runs: Sequence[Run]) -> float:
    return _jobs(level) / median(run.cpu for run in runs) if runs else 0.0


def _row(level: int, client: str, all_runs: Runs) -> list[Any]:
    runs = all_runs[level, client]
    if not runs:
        return [f"{level:,}  {client}: not done in time", 0, *["-"] * (len(_HEADER) - 2)]
    jobs, cpu = _jobs(level), median(run.cpu for run in runs)
    ours = _per_cpu_second(level, all_runs.get((level, "seedance"), []))
    speed = _per_cpu_second(level, runs)
    return [
        f"{level:,}  {runs[0].label}",
        len(runs),
        jobs / median(run.seconds for run in runs),
        cpu / jobs * 1000,
        cpu / jobs * 1000 / (runs[0].submits + runs[0].queries),
        speed,
        speed / ours if ours else "-",
        median(run.peak for run in runs),
        median(run.growth for run in runs),
        median(run.submits for run in runs),
        median(run.queries for run in runs),
        min(run.running for run in runs),
    ]


def _targets(runs: Runs) -> Iterator[Target]:
    """How far ahead of the best of the peers we are, as they document themselves and tuned."""
    for level in dict.fromkeys(level for level, _ in runs):
        for client, prefix, times in (("seedance", "", 4), ("seedance direct", "direct, ", 5)):
            ours = _per_cpu_second(level, runs.get((level, client), []))
            for roles, which in (
                ({Role.PEER}, "the best peer"),
                ({Role.PEER, Role.TUNED_PEER}, "the best peer, other transports included"),
            ):
                best = max(_speeds(level, roles, runs), default=0.0)
                if ours and best:
                    name = f"{level:,} jobs in flight: {prefix}jobs per CPU-second, times {which}"
                    yield Target(name, ours / best, at_least=times if level >= 1000 else 1)


def _speeds(level: int, roles: set[Role], runs: Runs) -> Iterator[float]:
    for (at, client), done in runs.items():
        if at == level and CLIENTS[client].role in roles:
            yield _per_cpu_second(level, done)


def _plot(runs: Runs) -> None:
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(8, 5))
    for client in dict.fromkeys(client for _, client in runs):
        done = {level: found for (level, of), found in runs.items() if of == client and found}
        if done:
            speeds = [_per_cpu_second(level, found) for level, found in done.items()]
            style = {"marker": "o", "linewidth": 3 if client.startswith("seedance") else 1.2}
            label = next(iter(done.values()))[0].label
            line = "--" if CLIENTS[client].role is Role.BY_HAND else "-"
            axes.loglog(list(done), speeds, line, label=label, **style)
    axes.set_xlabel("jobs in flight")
    axes.set_ylabel("jobs per CPU-second")
    axes.set_title("The same jobs through each client")
    if axes.lines:
        axes.legend()
    figure.tight_layout()
    figure.savefig(plot_path("peers"))


if __name__ == "__main__":
    main()
