"""`python -m benchmarks.torture.fleet`: many workers on one run, tortured, and what became of it.

Workers are killed, and stopped for longer than their lease and woken; PostgreSQL is restarted, in
order and as after a crash, in turns; the emulator makes faults. Then its ledger is compared with
the outcomes and the videos.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import platform
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from benchmarks.report import RESULTS
from benchmarks.torture.fleet_chaos import FleetTorture
from benchmarks.torture.fleet_judge import ZEROS
from benchmarks.torture.fleet_run import FleetResult, run
from benchmarks.torture.killing import TortureError

_MOST_DETAILS = 50
_NAME = "torture/fleet"


def main() -> int:
    """The exit code: 0 if all promises hold, 1 if one does not, 2 if the run itself failed."""
    options = _options()
    logging.getLogger("seedance_async").setLevel(logging.ERROR)
    folder = Path(tempfile.mkdtemp(prefix="seedance-fleet-"))
    torture = _torture(options)
    try:
        result = asyncio.run(_run(torture, folder))
    except TortureError as error:
        say(f"the run failed: {error}")
        options.keep = True
        return 2
    except (KeyboardInterrupt, asyncio.CancelledError):
        say("the run was interrupted")
        return 2
    finally:
        if options.keep:
            say(f"all files are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    lines = [f"{name:<56}{value:>40}" for name, value in table(torture, result)]
    printed = "\n".join(lines)
    print(printed)
    for detail in (*result.verdict.details, *result.tally.crashes, *result.reader.broken)[
        :_MOST_DETAILS
    ]:
        say(detail)
    if options.record:
        record(printed)
    return 0 if result.verdict.holds else 1


async def _run(torture: FleetTorture, folder: Path) -> FleetResult:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await run(torture, folder, say)


def say(text: str) -> None:
    """Print a message that is not part of the result."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def record(printed: str) -> None:
    """Keep the table for the document; `python -m benchmarks.document` puts it there."""
    path = RESULTS / f"{_NAME}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    arguments = [argument for argument in sys.argv[1:] if argument != "--record"]
    command = " ".join(["python", "-m", "benchmarks.torture.fleet", *arguments])
    kept = {"command": command, "printed": printed}
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="torture.fleet", description=__doc__)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--stops", type=int, default=10, help="each longer than the lease")
    parser.add_argument("--restarts", type=int, help="of PostgreSQL  [5; 0 with SQLite]")
    parser.add_argument(
        "--cuts", type=int, help="of a worker from PostgreSQL, for 1.5 to 2.5 leases"
    )
    parser.add_argument("--hangs", type=int, default=0, help="connections of a worker hang")
    parser.add_argument("--queue", choices=("sqlite", "postgres"), default="postgres")
    parser.add_argument("--lease", type=float, default=6.0, help="seconds")
    parser.add_argument(
        "--apart", action="store_true", help="no worker sees the processes of the others (root)"
    )
    parser.add_argument("--no-limit", action="store_true", help="without limits on credits")
    parser.add_argument("--no-faults", action="store_true", help="the emulator makes no faults")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=20.0, help="the time limit")
    parser.add_argument("--keep", action="store_true", help="keep the logs and the videos")
    parser.add_argument("--record", action="store_true", help="keep the table for the document")
    options = parser.parse_args()
    for name in ("restarts", "cuts"):
        if getattr(options, name) is None:
            setattr(options, name, 5 if options.queue == "postgres" else 0)
    return options


def _torture(options: argparse.Namespace) -> FleetTorture:
    given = {
        name: getattr(options, name)
        for name in (
            *("workers", "jobs", "kills", "stops", "restarts", "cuts", "hangs", "queue"),
            *("lease", "apart", "seed", "minutes"),
        )
    }
    if options.no_limit:
        given["limit"] = None
    if options.no_faults:
        given["faults"] = {}
    return FleetTorture(**given)


def table(torture: FleetTorture, result: FleetResult) -> Iterator[tuple[str, object]]:
    """The lines of the table."""
    verdict, tally = result.verdict, result.tally
    figures = verdict.figures
    yield "tasks, workers", f"{torture.jobs}, {torture.workers}"
    yield "queue and journal", torture.queue
    yield "kills (SIGKILL)", tally.kills
    yield "stops (SIGSTOP) for 1.5 to 2.5 leases, then SIGCONT", tally.stops
    if torture.queue == "postgres":
        ways = (f"{count} {way}" for way, count in result.restarts.items())
        yield "restarts of PostgreSQL", ", ".join(ways)
        yield "workers cut off from PostgreSQL for as long", tally.cuts
    if torture.hangs:
        yield "workers whose connections hang", tally.hangs
    yield "starts of a worker", tally.starts
    yield "  which failed, the database being away", tally.failed_starts
    yield "workers that ended by themselves (must be 0)", len(tally.crashes)
    yield "faults, and different ones among them", f"{result.faults.total()}, {len(result.faults)}"
    yield "POSTs received with a body", figures["posts"]
    yield "charged", figures["charged"]
    for name, text in ZEROS.items():
        yield f"{text} (0)", figures[name]
    for name, limit in zip(("of all", "of every fifth"), verdict.limits, strict=False):
        yield f"credits spent {name}, limit", limit
    yield "videos, identical to those served", figures["videos"]
    for state in ("succeeded", "failed", "cancelled", "rejected", "abandoned", "uncertain"):
        yield f"told as {state}", figures[f"told as {state}"]
    yield "  uncertain, and charged", figures["uncertain and charged"]
    yield "  uncertain, and not charged", figures["uncertain, not charged"]
    yield "no POST received (over a limit, or dropped unread)", figures["never sent"]
    yield "still running on the server (stuck)", figures["stuck"]
    yield "wrong ids that the server sent (undetectable)", figures["lies believed"]
    yield "calls of `results` that a restart broke", len(result.reader.broken)
    yield "parts of videos left by kills", figures["leftovers"]
    yield f"takeover from the dead, lease {torture.lease:g} s", _times(result.takeovers.seconds)
    yield "takeover from the stopped and the cut off", _times(result.takeovers.of_stopped)
    yield "seed", torture.seed
    yield "machine", _machine()
    yield "date", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    yield "duration", f"{result.seconds:.0f} s"


def _times(seconds: Sequence[float]) -> str:
    if not seconds:
        return "none"
    return f"{median(seconds):.1f} s, at most {max(seconds):.1f} s ({len(seconds)})"


def _machine() -> str:
    python = f"Python {platform.python_version()}"
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {python}"


if __name__ == "__main__":
    sys.exit(main())
