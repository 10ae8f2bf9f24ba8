"""`python -m benchmarks.torture`: the torture run and its table."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import platform
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.torture.faults import BUCKET, MODERATE
from benchmarks.torture.killing import TortureError
from benchmarks.torture.run import Outcome, Torture, run

if TYPE_CHECKING:
    from benchmarks.torture.bucket import Bucket

_MOST_DETAILS = 50


def main() -> int:
    """The exit code: 0 if all promises hold, 1 if one does not, 2 if the run itself failed."""
    options = _options()
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)  # clients disconnect on purpose
    folder = Path(tempfile.mkdtemp(prefix="seedance-torture-"))
    torture = _torture(options)
    try:
        with _bucket() if options.bucket else nullcontext() as bucket:
            outcome = asyncio.run(_run(torture, folder, bucket))
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
            shutil.rmtree(folder)
    for name, value in _table(torture, outcome):
        sys.stdout.write(f"{name:<50}{value:>44}\n")
    for detail in outcome.verdict.details[:_MOST_DETAILS]:
        say(detail)
    return 0 if outcome.verdict.holds else 1


def _bucket() -> AbstractContextManager[Bucket]:
    from benchmarks.torture.bucket import bucket

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)  # it logs every request
    return bucket()


async def _run(torture: Torture, folder: Path, bucket: Bucket | None) -> Outcome:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await run(torture, folder, say, bucket)


def say(text: str) -> None:
    """Print a message that is not part of the result."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="torture", description=__doc__)
    parser.add_argument("--submissions", type=int, help="[10,000; into a bucket 2,000]")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument(
        "--batches", type=int, help="the first one has a budget  [10; into a bucket 4, without]"
    )
    parser.add_argument(
        "--bucket", action="store_true", help="kill `seedance batch -o s3://…`, judge the bucket"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=20.0, help="the time limit")
    parser.add_argument("--keep", action="store_true", help="keep the journals and the videos")
    parser.add_argument(
        "--once", action="store_true", help="one batch, killed once, without faults"
    )
    options = parser.parse_args()
    options.submissions = options.submissions or (2_000 if options.bucket else 10_000)
    options.batches = options.batches or (4 if options.bucket else 10)
    return options


def _torture(options: argparse.Namespace) -> Torture:
    if options.once:
        return Torture(
            submissions=min(options.submissions, 500), kills=1, seed=options.seed, faults={}
        )
    return Torture(
        submissions=options.submissions,
        kills=options.kills,
        seed=options.seed,
        batches=options.batches,
        minutes=options.minutes,
        budget=0.6 if options.batches > 1 and not options.bucket else None,
        faults=BUCKET if options.bucket else MODERATE,
    )


def _table(torture: Torture, outcome: Outcome) -> Iterator[tuple[str, object]]:
    verdict = outcome.verdict
    yield "submissions", verdict.submissions
    yield "batches, each with a journal", torture.batches
    yield "kills (SIGKILL)", outcome.kills
    yield "starts of the worker", outcome.lives
    yield (
        "faults, and different ones among them",
        f"{outcome.faults.total()}, {len(outcome.faults)}",
    )
    yield "POSTs received with a body", verdict.posts
    yield "charged", verdict.charged
    yield "charged twice (must be 0)", verdict.charged_twice
    yield "sent again, possibly after a charge (0)", verdict.sent_again
    yield "accepted, but in neither journal nor report (0)", verdict.unknown
    yield "wrong ids in a journal (0)", verdict.foreign_ids
    yield "wrong ids that the server sent (undetectable)", verdict.lies_believed
    yield "lost files (0)", verdict.lost_files
    yield "incomplete videos under their name (0)", verdict.half_files
    yield "stray files (0)", verdict.stray_files
    yield "budget overruns (0)", verdict.budget_overruns
    yield "budget: credits spent, limit", f"{verdict.budget_spent}, {verdict.budget}"
    yield "budget: refusals after the last start", outcome.budget_refusals
    yield "never sent (over budget, or killed before)", verdict.never_sent
    yield "videos, identical to those served", verdict.videos
    yield "failed or cancelled by the server", verdict.failed
    yield "still running on the server (stuck)", verdict.running
    yield "reported as uncertain", verdict.uncertain_reported
    yield "  of these charged", verdict.uncertain_charged
    yield "  of these not charged", verdict.uncertain_not_charged
    yield "temporary files, or parts, left by kills", verdict.leftovers
    yield "seed", torture.seed
    yield "machine", _machine()
    yield "date", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    yield "duration", f"{outcome.seconds:.0f} s"


def _machine() -> str:
    python = f"Python {platform.python_version()}"
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {python}"


if __name__ == "__main__":
    sys.exit(main())
